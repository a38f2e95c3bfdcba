/**
 * From logits to the next token.
 */

export interface SamplingParams {
  /** 0 takes the likeliest token. */
  readonly temperature: number;
  /** The smallest set of likeliest tokens whose probabilities reach this is drawn from. */
  readonly topP: number;
  /** The same seed draws the same tokens from the same logits. */
  readonly seed: number;
}

export class Sampler {
  readonly #params: SamplingParams;
  #state: number;

  constructor(params: SamplingParams) {
    this.#params = params;
    this.#state = params.seed | 0;
  }

  next(logits: Float32Array /* (vocab) */): number {
    const { temperature, topP } = this.#params;
    return temperature === 0 ? argmax(logits) : this.#draw(logits, temperature, topP);
  }

  #draw(logits: Float32Array, temperature: number, topP: number): number {
    const top = logits[argmax(logits)] ?? 0;
    const weights = Float64Array.from(logits, (logit) => Math.exp((logit - top) / temperature));
    const order = topP < 1 ? likeliest(weights, topP) : undefined;
    const total =
      order === undefined
        ? weights.reduce((sum, w) => sum + w, 0)
        : order.reduce((sum, id) => sum + (weights[id] ?? 0), 0);
    let left = this.#random() * total;
    const ids = order ?? weights.keys();
    let last = 0;
    for (const id of ids) {
      last = id;
      left -= weights[id] ?? 0;
      if (left < 0) break;
    }
    return last;
  }

  /** Uniform in [0, 1). mulberry32: 32 bits of state, enough for one answer's draws. */
  #random(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }
}

/** Index of the largest value, the first of equals. */
export function argmax(values: Float32Array): number {
  let best = 0;
  let top = values[0] ?? Number.NEGATIVE_INFINITY;
  for (let i = 1; i < values.length; i++) {
    const value = values[i] ?? Number.NEGATIVE_INFINITY;
    if (value > top) {
      best = i;
      top = value;
    }
  }
  return best;
}

/** Natural logarithm of the probability that softmax gives token `id`. */
export function logProbability(logits: Float32Array /* (vocab) */, id: number): number {
  const top = logits[argmax(logits)] ?? 0;
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - top);
  return (logits[id] ?? Number.NEGATIVE_INFINITY) - top - Math.log(sum);
}

function likeliest(weights: Float64Array, topP: number): number[] {
  const order = [...weights.keys()].sort((a, b) => (weights[b] ?? 0) - (weights[a] ?? 0));
  const enough = topP * weights.reduce((sum, w) => sum + w, 0);
  let sum = 0;
  const end = order.findIndex((id) => {
    sum += weights[id] ?? 0;
    return sum >= enough;
  });
  return end === -1 ? order : order.slice(0, end + 1);
}
