/**
 * What an error in one matrix costs by itself: KL of the fine-tune's answers to those of the fine-tune with that error in its weights.
 *
 * The output errors of two matrices can't be compared: some are read by a softmax, some by a gate, some by the head at once. In nats they can, and nearly add
 * up: KL is quadratic where it is small, and errors of signs in different matrices have little to do with each other.
 */
import { type Checkpoint, LayerWalk, type ParamDelta } from '@signpost/engine';
import { brainsOfFloats } from '../source/floats.ts';
import { choosesAnswer, divergence } from './next-token.ts';
import type { CalibrationSequence } from './prompts.ts';

/** All errors together are probed on so many tokens as if the fine-tune went through all of calibration's this many times. */
const WALKS = 4;
const LEAST_TOKENS = 1024;

export class ErrorProbe {
  readonly #tuned: Checkpoint;
  readonly #sequences: readonly CalibrationSequence[];
  /** The fine-tune's, where it chooses an answer's token: (vocab) each. */
  readonly #logits: readonly Float32Array[];

  private constructor(tuned: Checkpoint, sequences: readonly CalibrationSequence[], logits: readonly Float32Array[]) {
    this.#tuned = tuned;
    this.#sequences = sequences;
    this.#logits = logits;
  }

  /** @param errors how many will be probed. */
  static async of(tuned: Checkpoint, all: readonly CalibrationSequence[], errors: number): Promise<ErrorProbe> {
    const tokens = all.reduce((sum, sequence) => sum + sequence.tokens.length, 0);
    const wanted = Math.min(tokens, Math.max(LEAST_TOKENS, (WALKS * tokens) / errors));
    const every = Math.max(1, Math.floor(tokens / wanted));
    const sequences = all.filter((_, index) => index % every === 0);
    const logits: Float32Array[] = [];
    for await (const row of answers(tuned, sequences)) logits.push(row.slice());
    return new ErrorProbe(tuned, sequences, logits);
  }

  /** Mean KL over the answers' tokens, in nats, with `error` taken off the fine-tune's weights; 0 where nothing is answered. */
  async cost(stem: string, error: Float32Array): Promise<number> {
    const exact = brainsOfFloats(error.map((value) => -value));
    let [sum, token] = [0, 0];
    for await (const row of answers(this.#tuned, this.#sequences, { stem, delta: { planes: [], exact } }))
      sum += divergence(this.#logits[token++] ?? row, row);
    return sum / Math.max(1, token);
  }
}

/** Logits at the tokens that choose an answer's, each until the next is taken. */
async function* answers(
  tuned: Checkpoint,
  sequences: readonly CalibrationSequence[],
  change?: { readonly stem: string; readonly delta: ParamDelta },
): AsyncGenerator<Float32Array, void, void> {
  const chooses = choosesAnswer(sequences);
  const { vocabSize } = tuned.config;
  const walk = new LayerWalk(
    tuned,
    sequences.map(({ tokens }) => tokens),
  );
  if (change !== undefined) walk.load(change.stem, change.delta);
  let token = 0;
  try {
    for await (const { logits } of walk.ends())
      for (let at = 0; at < logits.length; at += vocabSize)
        if (chooses[token++] === true) yield logits.subarray(at, at + vocabSize);
  } finally {
    walk.close();
  }
}
