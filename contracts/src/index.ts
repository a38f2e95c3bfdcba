/**
 * What crosses a boundary, as schemas and types. No I/O.
 */

export * from './base-manifest.ts';
export * from './bearer.ts';
export * from './catalogue.ts';
export * from './decision/facts.ts';
export * from './decision/feedback.ts';
export * from './decision/record.ts';
export * from './delta.ts';
export * from './digest.ts';
export { FNV_OFFSET, fnv1a } from './fnv.ts';
export * from './generation/chat.ts';
export * from './generation/completions.ts';
export type { GenerationFields } from './generation/fields.ts';
export * from './generation/tokenize.ts';
export * from './heartbeat.ts';
export * from './lambda.ts';
export * from './model-name.ts';
export * from './openai.ts';
export * from './problem.ts';
export * from './request-token.ts';
export * from './residency.ts';
export { valueAt } from './routing/body-value.ts';
export * from './routing/evaluate.ts';
export { type LooksAt, looksAt } from './routing/looks-at.ts';
export { compilePattern, type Pattern, patternSchema } from './routing/pattern.ts';
export * from './routing/rules.ts';
export { keyOf, pointOf } from './routing/share.ts';
export { type SoftMixture, softMixture } from './routing/soft-mixture.ts';
export * from './safetensors.ts';
export * from './signed-catalogue.ts';
export * from './tokenizer-changes.ts';
