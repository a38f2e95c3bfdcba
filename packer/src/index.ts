/**
 * From fine-tunes to published 1-bit experts.
 */

export { type Published, type PublishOptions, publish } from './catalogue/publish.ts';
export { type PublishBaseOptions, type PublishedBase, publishBase } from './catalogue/publish-base.ts';
export { BatchRunner } from './eval/runner.ts';
export { lastWord, scoreTask } from './eval/score.ts';
export { type AnswerRow, readTasks, type Task } from './eval/tasks.ts';
export { PACKER_VERSION, type PackOptions, type PackReport, pack } from './pack/pack.ts';
export type { ScaleKind } from './pack/plan.ts';
export { createProgress, formatBytes, type Progress } from './progress.ts';
export { seriesChart } from './report/chart.ts';
export { type Column, formatTable, percent } from './report/table.ts';
export { loadRouter } from './router/evaluate.ts';
