/**
 * Whether two checkpoints are the same model with other weights.
 */
import { Problem } from '@signpost/contracts';
import { type Checkpoint, modelParams } from '@signpost/engine';

/** @throws Problem naming the first field of the config that differs, or the first tensor that is missing, of another shape, or unknown. */
export function checkSameModel(base: Checkpoint, tuned: Checkpoint): void {
  const differing = (Object.keys(base.config) as (keyof Checkpoint['config'])[]).find(
    // An expert may end its turns with another token; that is the tokenizer's matter, not the weights'.
    (key) => key !== 'eosIds' && JSON.stringify(base.config[key]) !== JSON.stringify(tuned.config[key]),
  );
  if (differing !== undefined) {
    throw new Problem(
      `${tuned.dir} is no fine-tune of ${base.dir}: config ${differing} is ${JSON.stringify(tuned.config[differing])}, the base's is ${JSON.stringify(base.config[differing])}`,
    );
  }
  const { specs } = modelParams(base.config);
  for (const spec of specs) tuned.param(spec);
  const known = new Set(specs.map(({ name }) => name));
  for (const name of tuned.tensors.keys()) {
    // Some trainers write the tied head, or rotary buffers, which hold nothing of their own.
    const derived = name.endsWith('rotary_emb.inv_freq') || (name === 'lm_head.weight' && base.config.tiedHead);
    if (!known.has(name) && !derived)
      throw new Problem(`${tuned.dir}: tensor ${name} has no counterpart in ${base.dir}`);
  }
}
