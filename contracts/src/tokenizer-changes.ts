/**
 * How an expert's tokenizer differs from its base's: tokens of its own, and how it is spoken to.
 *
 * Everything else of a tokenizer is the base's: one that means something else by an id of the base's is refused when it is packed.
 */
import { z } from 'zod';
import { Problem } from './problem.ts';

/** Rows that an expert may add to the embedding. Fine-tunes add a handful; whoever adds more has made another vocabulary. */
export const MAX_ADDED_ROWS = 4_096;
/** Of the JSON text; chat templates have a few KiB, a token about a hundred bytes. */
export const MAX_TOKENIZER_CHANGES = 2 ** 20;
const MAX_END_TOKENS = 64;

const tokenId = z.number().int().nonnegative();

/** As `added_tokens` of a `tokenizer.json` has it. */
export const addedTokenSchema = z.strictObject({
  id: tokenId,
  content: z.string().min(1),
  single_word: z.boolean(),
  lstrip: z.boolean(),
  rstrip: z.boolean(),
  normalized: z.boolean(),
  special: z.boolean(),
});
export type AddedToken = z.output<typeof addedTokenSchema>;

/** Named as in Hugging Face's files. What is left out is as the base has it. */
export const tokenizerChangesSchema = z.strictObject({
  /** Tokens that the base doesn't have, by rising id. */
  added_tokens: z
    .array(addedTokenSchema)
    .min(1)
    .max(MAX_ADDED_ROWS)
    .refine((tokens) => tokens.every(({ id }, i) => i === 0 || id > (tokens[i - 1]?.id ?? 0)), 'ids must rise')
    .optional(),
  chat_template: z.string().min(1).optional(),
  bos_token: z.string().optional(),
  eos_token: z.string().optional(),
  /** Tokens that end an answer, besides `eos_token`. */
  eos_token_id: z.array(tokenId).max(MAX_END_TOKENS).optional(),
});
export type TokenizerChanges = z.output<typeof tokenizerChangesSchema>;

/** One of the experts that together answer, or are merged. */
export interface ExpertVocabulary {
  /** What messages call it. */
  readonly name: string;
  readonly changes: TokenizerChanges | undefined;
  /** Rows that it adds to the embedding. */
  readonly addedRows: number;
}

/**
 * Whose tokenizer several experts of one model share: of the one that adds tokens, else of the first. Undefined for no experts.
 *
 * @throws Problem when two add tokens: an id would mean something else to each, and a row can't be part one's and part the other's.
 */
export function leadingVocabulary<T extends ExpertVocabulary>(experts: readonly T[]): T | undefined {
  const [adding, other] = experts.filter(
    ({ changes, addedRows }) => addedRows > 0 || changes?.added_tokens !== undefined,
  );
  if (adding !== undefined && other !== undefined)
    throw new Problem(
      `${adding.name} and ${other.name} both add tokens to the base's vocabulary; of experts that are used together at most one may: add the tokens to the base (resize_token_embeddings) and fine-tune from that`,
    );
  return adding ?? experts[0];
}
