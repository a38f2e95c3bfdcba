/**
 * One sequence on a model of its own: what tests, benchmarks and calibration use where there is no scheduler.
 */
import type { StepBatch } from '../device/device.ts';
import { argmax } from '../sampling/logprobs.ts';
import type { Model } from './model.ts';

/** One expert's part in what a sequence is answered by. */
export interface SlotWeight {
  readonly slot: number;
  readonly weight: number;
}

export class Session {
  readonly #model: Model;
  readonly #blockTable: Int32Array;
  readonly #mixture: readonly SlotWeight[];
  #length = 0;

  /** Uses the cache's blocks 0 … `blocks - 1`; sessions on one model at a time must not share them. */
  constructor(model: Model, blocks: number, mixture: readonly SlotWeight[] = []) {
    this.#model = model;
    this.#blockTable = Int32Array.from({ length: blocks }, (_, block) => block);
    this.#mixture = mixture;
  }

  /** Appends tokens in one step. Gives their logits, all of them (tokens, vocab) or the last one's (1, vocab). */
  async append(tokens: readonly number[], logits: 'all' | 'last'): Promise<Float32Array> {
    const rows = tokens.length;
    const terms = this.#mixture.length;
    const batch: StepBatch = {
      tokens: Int32Array.from(tokens),
      positions: Int32Array.from(tokens, (_, i) => this.#length + i),
      sequenceStart: Int32Array.of(0, rows),
      blockTable: this.#blockTable,
      blocksPerSequence: this.#blockTable.length,
      mixtureStart: Int32Array.from({ length: rows + 1 }, (_, row) => row * terms),
      mixtureSlots: Int32Array.from({ length: rows * terms }, (_, i) => this.#mixture[i % terms]?.slot ?? -1),
      mixtureWeights: Float32Array.from({ length: rows * terms }, (_, i) => this.#mixture[i % terms]?.weight ?? 0),
      logitRows: logits === 'all' ? Int32Array.from(tokens.keys()) : Int32Array.of(rows - 1),
    };
    const values = await this.#model.forward(batch);
    this.#length += rows;
    return values;
  }

  /** Appends a prompt, then up to `count` greedy tokens; stops after one of `stopIds`. Gives the new tokens. */
  async greedy(prompt: readonly number[], count: number, stopIds: ReadonlySet<number> = new Set()): Promise<number[]> {
    const tokens: number[] = [];
    let next = argmax(await this.append(prompt, 'last'));
    for (;;) {
      tokens.push(next);
      if (tokens.length >= count || stopIds.has(next)) return tokens;
      next = argmax(await this.append([next], 'last'));
    }
  }
}
