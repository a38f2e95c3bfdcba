/**
 * Whether two checkpoints are the same model with other weights, and perhaps some tokens more.
 */
import { MAX_ADDED_ROWS, Problem } from '@signpost/contracts';
import { type Checkpoint, modelParams, readTokenizerFiles } from '@signpost/engine';
import { tokensById } from './tokenizer.ts';

/** An expert may have tokens of its own, and end its turns with another token. */
const MAY_DIFFER: ReadonlySet<keyof Checkpoint['config']> = new Set(['vocabSize', 'eosIds']);

/**
 * @throws Problem naming the first field of the config that differs, a vocabulary that is smaller or much larger, or the first tensor that is missing, of
 * another shape, or unknown.
 */
export async function checkSameModel(base: Checkpoint, tuned: Checkpoint): Promise<void> {
  const differing = (Object.keys(base.config) as (keyof Checkpoint['config'])[]).find(
    (key) => !MAY_DIFFER.has(key) && JSON.stringify(base.config[key]) !== JSON.stringify(tuned.config[key]),
  );
  if (differing !== undefined) {
    throw new Problem(
      `${tuned.dir} is no fine-tune of ${base.dir}: config ${differing} is ${JSON.stringify(tuned.config[differing])}, the base's is ${JSON.stringify(base.config[differing])}`,
    );
  }
  await checkVocabulary(base, tuned);
  const { specs } = modelParams(tuned.config);
  for (const spec of specs) tuned.param(spec);
  const known = new Set(specs.map(({ name }) => name));
  for (const name of tuned.tensors.keys()) {
    // Some trainers write the tied head, or rotary buffers, which hold nothing of their own.
    const derived = name.endsWith('rotary_emb.inv_freq') || (name === 'lm_head.weight' && base.config.tiedHead);
    if (!known.has(name) && !derived)
      throw new Problem(`${tuned.dir}: tensor ${name} has no counterpart in ${base.dir}`);
  }
}

async function checkVocabulary(base: Checkpoint, tuned: Checkpoint): Promise<void> {
  const [before, after] = [base.config.vocabSize, tuned.config.vocabSize];
  if (after > before + MAX_ADDED_ROWS)
    throw new Problem(
      `${tuned.dir} has ${after} token rows, ${base.dir} has ${before}; an expert may add up to ${MAX_ADDED_ROWS}`,
    );
  if (after >= before) return;
  const { tokenizer } = await readTokenizerFiles(base.dir);
  const last = tokenizer === undefined ? before - 1 : Math.max(...tokensById(tokenizer).keys());
  const why =
    last < after
      ? `the rows that are missing stand for no token; pad it to ${before} (resize_token_embeddings)`
      : `the base's tokens ${after} to ${last} have no row in it`;
  throw new Problem(`${tuned.dir} has ${after} token rows, ${base.dir} has ${before}: ${why}`);
}
