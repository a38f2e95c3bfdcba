/**
 * `router.json`: what the edge must know to run a router model.
 */
import { z } from 'zod';
import { digestSchema } from '../digest.ts';
import { parseWith } from '../problem.ts';
import { FEATURES_VERSION } from './features.ts';

const fileSchema = z.strictObject({ digest: digestSchema, bytes: z.number().int().positive() });
const share = z.number().min(0).max(1);

/** As many as most encoders have positions for. */
export const MAX_SEQUENCE_TOKENS = 512;

const common = {
  format: z.literal(1),
  /** In the order of the output. */
  labels: z
    .array(z.string().min(1))
    .min(2)
    .refine((labels) => new Set(labels).size === labels.length, 'two of them are the same'),
  /** Below this highest probability the classifier abstains. */
  threshold: share,
  model: fileSchema,
  tokenizer: fileSchema,
  /** Accuracy by data set, as measured when it was trained. */
  metrics: z.record(z.string(), z.strictObject({ rows: z.number().int().positive(), accuracy: share })),
};

/** A graph over the features that `routerFeatures` makes: what `packer router train` writes. */
const featuresSchema = z.strictObject({
  ...common,
  kind: z.literal('features').optional(),
  /** What the model's inputs are made of. */
  features: z.literal(FEATURES_VERSION, {
    error: `made for other features; this version computes number ${FEATURES_VERSION}`,
  }),
});

/** A sequence classifier as Hugging Face's tools export it (see `sequence-classifier.ts`). */
const transformerSchema = z.strictObject({
  ...common,
  kind: z.literal('transformer'),
  /** Tokens looked at, special ones with them. */
  maxTokens: z.number().int().min(4).max(MAX_SEQUENCE_TOKENS),
  /** What logits are divided by. */
  temperature: z.number().positive().max(1_000),
});

const routerManifestSchema = z.discriminatedUnion('kind', [featuresSchema, transformerSchema]);
export type RouterManifest = z.output<typeof routerManifestSchema>;
export type TransformerManifest = z.output<typeof transformerSchema>;
export type RouterKind = NonNullable<RouterManifest['kind']>;

/** @throws Problem naming the field. */
export function parseRouterManifest(value: unknown, where = 'router.json'): RouterManifest {
  return parseWith(routerManifestSchema as z.ZodType<RouterManifest>, value, where);
}
