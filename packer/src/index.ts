/**
 * From fine-tunes to published 1-bit experts.
 */
export { type PackOptions, type PackReport, pack } from './pack/pack.ts';
export type { ScaleKind } from './pack/plan.ts';
export { createProgress, formatBytes, type Progress } from './progress.ts';
export { type Published, type PublishOptions, publish } from './publish.ts';
