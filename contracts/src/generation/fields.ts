/**
 * Fields that chat and completion requests share.
 *
 * Fields that would change the answer and aren't implemented are refused by name, so that no app believes in a setting that is
 * ignored; fields that only describe the caller (`user`, `metadata`, `store`) pass.
 */
import { z } from 'zod';

/** Refuses a field by its name, but for `null` and values that change nothing. */
const refused = (...harmless: readonly unknown[]) =>
  z
    .unknown()
    .refine((value) => value == null || harmless.some((same) => JSON.stringify(same) === JSON.stringify(value)), {
      error: 'is not supported',
    })
    .optional()
    .meta({ description: 'not supported: refused, but for null and what changes nothing' });

/** OpenAI's, vLLM's and the Hub's fields that would change the answer. */
const refusedFields = {
  best_of: refused(1),
  use_beam_search: refused(false),
  length_penalty: refused(1),
  bad_words: refused([]),
  allowed_token_ids: refused(),
  prompt_logprobs: refused(),
  truncate_prompt_tokens: refused(),
  logits_processors: refused([]),
  guided_grammar: refused(),
  structured_outputs: refused(),
};

const tokenId = z.number().int().nonnegative();
const MAX_BIASES = 4_096;
const MAX_CHOICES = 16;

const biasSchema = z
  .record(z.string().regex(/^\d{1,9}$/, 'must be token ids'), z.number().min(-100).max(100))
  .refine((bias) => Object.keys(bias).length <= MAX_BIASES, `has more than ${MAX_BIASES} entries`);

/** OpenAI's `response_format`. */
const responseFormatSchema = z.discriminatedUnion(
  'type',
  [
    z.object({ type: z.literal('text') }),
    z.object({ type: z.literal('json_object') }),
    z.object({
      type: z.literal('json_schema'),
      json_schema: z.object({
        name: z.string().min(1).max(64),
        description: z.string().nullish(),
        /** Left out, the schema is any object. */
        schema: z.record(z.string(), z.unknown()).nullish(),
        strict: z.boolean().nullish(),
      }),
    }),
  ],
  { error: 'must have the type "text", "json_object" or "json_schema"' },
);

const commonShape = {
  model: z.string().min(1).max(512),
  stream: z.boolean().nullish(),
  stream_options: z.object({ include_usage: z.boolean().optional() }).nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  /** −1 and 0 are all tokens. */
  top_k: z.number().int().min(-1).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  repetition_penalty: z.number().gt(0).max(10).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  logit_bias: biasSchema.nullish(),
  seed: z.number().int().nullish(),
  n: z.number().int().min(1).max(MAX_CHOICES).nullish(),
  stop: z.union([z.string().min(1), z.array(z.string().min(1)).max(4)]).nullish(),
  stop_token_ids: z.array(tokenId).max(64).nullish(),
  include_stop_str_in_output: z.boolean().nullish(),
  ignore_eos: z.boolean().nullish(),
  min_tokens: z.number().int().nonnegative().nullish(),
  response_format: responseFormatSchema.nullish(),
  guided_json: z.union([z.record(z.string(), z.unknown()), z.string()]).nullish(),
  guided_regex: z.string().min(1).nullish(),
  guided_choice: z.array(z.string().min(1)).min(1).nullish(),
  /** With token ids beside the text: what an answer that breaks off can be resumed from. */
  return_token_ids: z.boolean().nullish(),
  /** The answer's tokens so far: it goes on from there, and only what follows is sent. */
  resume_token_ids: z.array(tokenId).nullish(),
  ...refusedFields,
};

type Common = z.output<z.ZodObject<typeof commonShape>>;

/** Settings that make no sense together, by the field to blame. */
function contradictions(request: Common): [field: string, why: string][] {
  const found: [string, string][] = [];
  const formats = [
    request.response_format == null || request.response_format.type === 'text' ? undefined : 'response_format',
    request.guided_json == null ? undefined : 'guided_json',
    request.guided_regex == null ? undefined : 'guided_regex',
    request.guided_choice == null ? undefined : 'guided_choice',
  ].filter((name) => name !== undefined);
  const [format, other] = formats;
  if (other !== undefined) found.push([other, `can't be combined with ${format}`]);
  if (format !== undefined && request.ignore_eos === true)
    found.push(['ignore_eos', `can't be combined with ${format}: the format says where the answer ends`]);
  if (format !== undefined && (request.min_tokens ?? 0) > 0)
    found.push(['min_tokens', `can't be combined with ${format}: the format says where the answer ends`]);
  if (request.resume_token_ids != null) {
    if ((request.n ?? 1) > 1) found.push(['resume_token_ids', 'can only resume a single choice (n = 1)']);
    if (request.temperature !== 0 && request.seed == null)
      found.push(['resume_token_ids', 'needs the seed that the answer was begun with (or temperature 0)']);
  }
  return found;
}

/** An object schema with the shared fields and `own`, and its contradictions, the shared and `ownContradictions`; `sparse` for quick checking. */
export function generationSchema<T extends z.core.$ZodLooseShape>(
  own: T,
  ownContradictions: (request: z.output<z.ZodObject<typeof commonShape & T>>) => [field: string, why: string][],
) {
  const shape = { ...commonShape, ...own } as typeof commonShape & T;
  const schemaOf = (fields: typeof shape) =>
    z.object(fields).superRefine((request, context) => {
      for (const [field, message] of [...contradictions(request as Common), ...ownContradictions(request)])
        context.addIssue({ code: 'custom', path: [field], message });
    });
  const whole = schemaOf(shape);
  return Object.assign(whole, { sparse: sparsely(shape, schemaOf, whole) });
}

/** What apps send has few shapes; who sends many gets the whole schema. */
const MAX_SHAPES = 64;

/**
 * The schema for a body with the fields that this one has, which comes to the same: of what isn't there and needn't be there is nothing to check, and there are sixty
 * such fields.
 */
function sparsely<Shape extends z.core.$ZodLooseShape, Schema>(
  shape: Shape,
  schemaOf: (fields: Shape) => Schema,
  whole: Schema,
): (raw: unknown) => Schema {
  const names = Object.keys(shape);
  const required = new Set(names.filter((name) => !z.safeParse(shape[name] ?? z.never(), undefined).success));
  const known = new Map<string, Schema>();
  return (raw) => {
    if (typeof raw !== 'object' || raw === null) return whole;
    const present = names.filter((name) => Object.hasOwn(raw, name) || required.has(name));
    const key = present.join();
    const seen = known.get(key);
    if (seen !== undefined || known.size >= MAX_SHAPES) return seen ?? whole;
    const made = schemaOf(Object.fromEntries(present.map((name) => [name, shape[name]])) as Shape);
    known.set(key, made);
    return made;
  };
}

export { refused, tokenId };
export type GenerationFields = Common;
