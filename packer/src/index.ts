/**
 * From fine-tunes to published 1-bit experts.
 */

export { type Published, type PublishOptions, publish } from './catalogue/publish.ts';
export { type PackOptions, type PackReport, pack } from './pack/pack.ts';
export type { PackParameters, ScaleKind } from './pack/plan.ts';
export { createProgress, formatBytes, type Progress } from './progress.ts';
