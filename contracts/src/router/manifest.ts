/**
 * `router.json`: what a router model is, beside its ONNX file and tokenizer.
 *
 * The graph takes `token_ids` and `hash_ids` (int32, (n) and (m)) and gives `probabilities` (float32, (labels)).
 */
import { z } from 'zod';
import { digestSchema } from '../digest.ts';
import { parseWith } from '../problem.ts';
import { FEATURES_VERSION } from './features.ts';

const fileSchema = z.strictObject({ digest: digestSchema, bytes: z.number().int().positive() });
const share = z.number().min(0).max(1);

const routerManifestSchema = z.strictObject({
  format: z.literal(1),
  /** What the model's inputs are made of. */
  features: z.literal(FEATURES_VERSION, {
    error: `made for other features; this version computes number ${FEATURES_VERSION}`,
  }),
  /** In the order of the output. */
  labels: z.array(z.string().min(1)).min(2),
  /** Below this highest probability the classifier abstains. */
  threshold: share,
  model: fileSchema,
  tokenizer: fileSchema,
  /** Accuracy by data set, as measured when it was trained. */
  metrics: z.record(z.string(), z.strictObject({ rows: z.number().int().positive(), accuracy: share })),
});
export type RouterManifest = z.output<typeof routerManifestSchema>;

/** @throws Problem naming the field. */
export function parseRouterManifest(value: unknown, where = 'router.json'): RouterManifest {
  return parseWith(routerManifestSchema as z.ZodType<RouterManifest>, value, where);
}
