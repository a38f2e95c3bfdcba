/**
 * From logits to the next token.
 *
 * In vLLM's order (vllm/v1/sample/sampler.py): logit bias and minimum length, repetition penalty, frequency and presence penalty, grammar mask;
 * then, unless greedy, temperature, min_p, top_k, top_p (of what top_k left, renormalised), and a draw. What is drawn is the token whose logit, over the
 * temperature, is largest with its Gumbel noise, which only the seed, the choice, the token's place in the answer and the token itself decide: a sequence
 * draws the same whatever shares its batch, and goes on the same after it was preempted or resumed elsewhere, on another device, too, but for draws
 * that its rounding decides.
 */
import { gumbelArgmax, softmaxEdge, softmaxWeights } from '@signpost/kernels';
import type { LogitEdit, TokenChoice } from '../device/choice.ts';
import { argmax } from './logprobs.ts';
import type { SamplingParams } from './params.ts';
import { drawKey } from './philox.ts';
import { selectLikeliest } from './select.ts';

/** Which tokens may come next; follows the answer. */
export interface TokenConstraint {
  /** Bit `id % 32` of word `id / 32`. At least one is set; overwritten by the next call. */
  allowed(): Uint32Array; // (ceil(vocab / 32))
  /** Moves on by a token that was allowed. */
  accept(token: number): void;
}

/** What a sampler is told about its sequence beside the parameters. */
export interface SamplerContext {
  readonly prompt: readonly number[];
  /** The answer's tokens so far, where it is resumed. */
  readonly generated: readonly number[];
  /** Tokens that end the answer. */
  readonly stopIds: readonly number[];
  readonly constraint?: TokenConstraint | undefined;
}

/** Buffers of one vocabulary's size, shared by all samplers of a thread. */
export class SamplingScratch {
  #logits = new Float32Array(0);
  #weights = new Float64Array(0);
  #ids = new Int32Array(0);

  constructor(vocabSize: number) {
    this.fit(vocabSize);
  }

  get logits(): Float32Array /* (vocab) */ {
    return this.#logits;
  }
  get weights(): Float64Array /* (vocab) */ {
    return this.#weights;
  }
  get ids(): Int32Array /* (vocab) */ {
    return this.#ids;
  }

  /** For logits of this size from now on: experts that add tokens make them wider. */
  fit(vocabSize: number): void {
    if (this.#logits.length === vocabSize) return;
    this.#logits = new Float32Array(vocabSize);
    this.#weights = new Float64Array(vocabSize);
    this.#ids = new Int32Array(vocabSize);
  }
}

export class Sampler {
  readonly #params: SamplingParams;
  readonly #scratch: SamplingScratch;
  readonly #stopIds: readonly number[];
  readonly #constraint: TokenConstraint | undefined;
  /** Tokens of prompt and answer; only kept for the penalty that needs it. */
  readonly #seen: Set<number> | undefined;
  /** How often a token stands in the answer; only kept for the penalties that need it. */
  readonly #counts: Map<number, number> | undefined;
  readonly #key = new Uint32Array(4);
  #generated = 0;

  constructor(params: SamplingParams, scratch: SamplingScratch, context: SamplerContext) {
    this.#params = params;
    this.#scratch = scratch;
    this.#stopIds = context.stopIds;
    this.#constraint = context.constraint;
    this.#seen = params.repetitionPenalty === 1 ? undefined : new Set(context.prompt);
    this.#counts = params.presencePenalty === 0 && params.frequencyPenalty === 0 ? undefined : new Map();
    for (const token of context.generated) this.#record(token);
  }

  /** Chooses the next token and remembers it. The logits are left as they are. */
  next(logits: Float32Array /* (vocab) */): number {
    const adjusted = this.#adjust(logits);
    const token = this.#params.temperature === 0 ? argmax(adjusted) : this.#draw(adjusted);
    this.#record(token);
    return token;
  }

  /** How a device chooses the next tokens as `next` would; undefined where a constraint has to follow each of them. */
  choice(alternatives: number | undefined): TokenChoice | undefined {
    if (this.#constraint !== undefined) return undefined;
    return { params: this.#params, place: this.#generated, edits: this.#edits(), alternatives };
  }

  /** Remembers a token that was chosen elsewhere. */
  accept(token: number): void {
    this.#record(token);
  }

  #edits(): LogitEdit[] {
    const { logitBias, minTokens } = this.#params;
    const edits = new Map<number, LogitEdit>();
    const edit = (id: number, change: Partial<LogitEdit>) => {
      const before = edits.get(id) ?? { id, bias: 0, count: 0, isSeen: false, isStop: false };
      edits.set(id, { ...before, ...change });
    };
    for (const [id, bias] of logitBias) edit(id, { bias: (edits.get(id)?.bias ?? 0) + bias });
    for (const id of this.#seen ?? []) edit(id, { isSeen: true });
    for (const [id, count] of this.#counts ?? []) edit(id, { count });
    if (this.#generated < minTokens) for (const id of this.#stopIds) edit(id, { isStop: true });
    return [...edits.values()];
  }

  #record(token: number): void {
    this.#generated++;
    this.#seen?.add(token);
    this.#counts?.set(token, (this.#counts.get(token) ?? 0) + 1);
    if (!this.#stopIds.includes(token)) this.#constraint?.accept(token);
  }

  /** The logits after bias, penalties and masks: a copy, where there are any. */
  #adjust(raw: Float32Array): Float32Array {
    const { logitBias, minTokens, repetitionPenalty, frequencyPenalty, presencePenalty } = this.#params;
    const isShort = this.#generated < minTokens;
    const isPlain =
      logitBias.length === 0 &&
      !isShort &&
      this.#seen === undefined &&
      this.#counts === undefined &&
      this.#constraint === undefined;
    if (isPlain) return raw;
    const logits = this.#scratch.logits.subarray(0, raw.length);
    logits.set(raw);
    for (const [id, bias] of logitBias) logits[id] = (logits[id] ?? 0) + bias;
    for (const id of this.#seen ?? []) {
      const logit = logits[id] ?? 0;
      logits[id] = logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
    }
    for (const [id, count] of this.#counts ?? [])
      logits[id] = (logits[id] ?? 0) - frequencyPenalty * count - presencePenalty;
    if (isShort) for (const id of this.#stopIds) logits[id] = Number.NEGATIVE_INFINITY;
    if (this.#constraint !== undefined) applyMask(logits, this.#constraint.allowed());
    return logits;
  }

  #draw(logits: Float32Array): number {
    const { temperature, topP, topK, minP, seed, choice } = this.#params;
    const { weights, ids } = this.#scratch;
    const best = argmax(logits);
    const top = logits[best] ?? 0;
    // What is at least as likely as this token, or of equals comes first, is in; never a masked one.
    let cutLogit = minP > 0 ? top + temperature * Math.log(minP) : -Number.MAX_VALUE;
    let cutId = logits.length;
    if (topK > 0 && topK < logits.length) {
      const count = gatherLikely(ids, logits, cutLogit, cutId, top, temperature, topK);
      if (count > topK) {
        cutId = ids[selectLikeliest(ids, count, logits, topK) - 1] ?? best;
        cutLogit = logits[cutId] ?? 0;
      }
    }
    if (topP < 1) {
      const total = softmaxWeights(logits, top, temperature, cutLogit, cutId, weights);
      const [count, before] = softmaxEdge(logits, weights, top, temperature, topP * total, ids);
      const kept = selectLikeliest(ids, count, logits, topP * total - before, weights);
      cutId = ids[kept - 1] ?? best;
      cutLogit = logits[cutId] ?? 0;
    }
    const key = drawKey({ seed, choice, place: this.#generated }, this.#key);
    return gumbelArgmax(logits, best, temperature, cutLogit, cutId, key);
  }
}

/** Of a trained model's distribution the likeliest tokens stand out: they lie within this many temperatures of the top one. */
const NEAR_TEMPERATURES = 8;

/** Writes ids that are in, in order, the `least` likeliest of them in any case; returns how many. */
function gatherLikely(
  ids: Int32Array,
  logits: Float32Array,
  cutLogit: number,
  cutId: number,
  top: number,
  temperature: number,
  least: number,
): number {
  for (let near = NEAR_TEMPERATURES; near <= 2 * NEAR_TEMPERATURES; near *= 2) {
    const floor = top - near * temperature;
    if (floor <= cutLogit) break;
    const count = gather(ids, logits, floor, logits.length);
    if (count >= least) return count;
  }
  return gather(ids, logits, cutLogit, cutId);
}

/** Writes the ids that are in, in order; returns how many. */
function gather(ids: Int32Array, logits: Float32Array, cutLogit: number, cutId: number): number {
  let count = 0;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id] ?? 0;
    if (logit > cutLogit || (logit === cutLogit && id <= cutId)) ids[count++] = id;
  }
  return count;
}

function applyMask(logits: Float32Array, allowed: Uint32Array): void {
  // Tokens beyond the mask are no text that a grammar could allow.
  for (let word = 0; word * 32 < logits.length; word++) {
    const bits = allowed[word] ?? 0;
    if (bits === 0xffffffff) continue;
    const end = Math.min(logits.length, word * 32 + 32);
    for (let id = word * 32; id < end; id++) {
      if (((bits >>> (id & 31)) & 1) === 0) logits[id] = Number.NEGATIVE_INFINITY;
    }
  }
}
