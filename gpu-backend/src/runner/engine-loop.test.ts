/**
 * The loop with its real scheduler, blocks and slots, over a model whose every next token depends on all tokens, blocks and experts before it: one
 * row in the wrong block, or one expert in the wrong slot, changes the answer.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { type Digest, type ExpertVersion, Problem } from '@signpost/contracts';
import { abortable, argmax, type ChosenToken, Grammars, type StepBatch, samplingParams } from '@signpost/engine';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Residency } from '../experts/residency.ts';
import { BlockManager } from '../schedule/block-manager.ts';
import { Scheduler } from '../schedule/scheduler.ts';
import { EngineLoop, type StepModel } from './engine-loop.ts';
import type { GenerationEvent, GenerationRequest } from './protocol.ts';

const BLOCK_TOKENS = 4;
const VOCAB = 97;
const STOP = 5;
/** An expert that can't be loaded. */
const BROKEN = 4;
/** Turns of the event loop after which something hangs. */
const TURN_LIMIT = 20_000;

interface Arrival {
  readonly turn: number;
  readonly prompt: readonly number[];
  readonly maxTokens: number;
  readonly tenant: string;
  /** Tokens of its answer that an earlier run has made. */
  readonly resumesAfter: number;
  readonly experts: readonly number[];
  readonly scores: boolean;
  /** Turns after which the client leaves. */
  readonly leaves: number | undefined;
}

const mostly = <T>(usual: fc.Arbitrary<T>, seldom: fc.Arbitrary<T>): fc.Arbitrary<T> =>
  fc.oneof({ weight: 5, arbitrary: usual }, { weight: 1, arbitrary: seldom });
const token = fc.integer({ min: 6, max: VOCAB - 1 });
/** Some begin alike, for three blocks at most, and some are the same. */
const prompt = fc
  .tuple(fc.nat(12), fc.array(token, { maxLength: 8 }))
  .map(([shared, own]) => [...Array.from({ length: shared }, (_, i) => 10 + i), ...own, 50]);
const arrivals: fc.Arbitrary<Arrival[]> = fc.array(
  fc.record({
    turn: fc.nat(12),
    prompt,
    maxTokens: fc.integer({ min: 1, max: 12 }),
    tenant: fc.constantFrom('', 'a', 'b'),
    resumesAfter: mostly(fc.constant(0), fc.nat(12)),
    experts: fc.uniqueArray(mostly(fc.nat(BROKEN - 1), fc.constant(BROKEN)), { maxLength: 2 }),
    scores: fc.boolean(),
    leaves: mostly<number | undefined>(fc.constant(undefined), fc.nat(40)),
  }),
  { minLength: 1, maxLength: 14 },
);
const sizes = fc.record({
  slots: fc.integer({ min: 1, max: 3 }),
  // Enough for the longest request alone.
  blocks: fc.integer({ min: 8, max: 12 }),
  maxStepTokens: fc.integer({ min: 1, max: 24 }),
  maxSequences: fc.integer({ min: 1, max: 6 }),
  maxStepExperts: fc.integer({ min: 1, max: 3 }),
  /** 0: the device chooses no tokens. */
  decodeSteps: fc.nat(5),
  /** Turns that the loads take, one after the other. */
  loads: fc.array(fc.nat(12), { minLength: 1, maxLength: 8 }),
});

const digestOf = (expert: number) => String(expert).padStart(64, '0') as Digest;
const versionOf = (expert: number): ExpertVersion => ({
  digest: digestOf(expert),
  base: digestOf(99),
  key: `experts/${expert}`,
  bytes: 1,
  method: 'sign',
  published: '2026-01-01T00:00:00Z',
});
const weightOf = (expert: number) => 1 + expert / 4;

/** What a cell of the cache holds: a number made of the cell before it, the token and the experts that computed it. */
function cell(before: number, token: number, mixture: readonly (readonly [Digest | undefined, number])[]): number {
  return mixture.reduce(
    (hash, [digest, weight]) => (hash * 31 + Number(digest) * 7 + weight * 4) % 65_521,
    (before * 131 + token + 1) % 65_521,
  );
}

/** The token after these cells. */
function follow(cells: readonly number[]): number {
  return cells.reduce((hash, value) => (hash * 131 + value + 1) % 65_521, 7) % VOCAB;
}

class CellModel implements StepModel {
  readonly logitWidth = VOCAB;
  readonly slots: (Digest | undefined)[] = [];
  /** By slot: what a step that uses it waits for. */
  readonly filling = new Map<number, Promise<void>>();
  readonly #cells: number[] = [];

  async forwardArriving(batches: readonly StepBatch[], signal: AbortSignal): Promise<Float32Array> {
    for (const batch of batches) await abortable(Promise.all(this.#missing(batch)), signal);
    let logits = new Float32Array(0);
    for (const batch of batches) {
      await turn();
      signal.throwIfAborted();
      logits = new Float32Array(batch.logitRows.length * VOCAB);
      this.#compute(batch, logits);
    }
    return logits;
  }

  async forward(batch: StepBatch, into: Float32Array): Promise<Float32Array> {
    expect(this.#missing(batch)).toEqual([]);
    await turn();
    return this.#compute(batch, into);
  }

  /** Tokens where they are computed, and those that follow: by row, whatever they are followed by. */
  readonly generate = async (batch: StepBatch, rows: readonly unknown[], steps: number): Promise<ChosenToken[][]> => {
    expect(rows).toHaveLength(batch.logitRows.length);
    const chosen = rows.map((): ChosenToken[] => []);
    let now = batch;
    for (let step = 0; step < steps; step++) {
      const logits = await this.forward(now, new Float32Array(rows.length * VOCAB));
      for (const [i, tokens] of chosen.entries())
        tokens.push({ token: argmax(logits.subarray(i * VOCAB, (i + 1) * VOCAB)), score: { logprob: 0, top: [] } });
      this.longest = Math.max(this.longest, step + 1);
      if (step + 1 === steps) break;
      expect(now.tokens).toHaveLength(rows.length);
      expect(step).toBeLessThan(batch.ahead ?? 0);
      now = {
        ...now,
        tokens: Int32Array.from(chosen, (tokens) => tokens.at(-1)?.token ?? -1),
        positions: now.positions.map((position) => position + 1),
      };
    }
    return chosen;
  };
  /** Most tokens of a row that were chosen at once. */
  longest = 0;

  /** What the batch's experts wait for. */
  #missing(batch: StepBatch): Promise<void>[] {
    return [...new Set(batch.mixtureSlots)].flatMap((slot) => this.filling.get(slot) ?? []);
  }

  #compute(batch: StepBatch, into: Float32Array): Float32Array {
    const sequenceOf: number[] = [];
    for (let s = 0; s + 1 < batch.sequenceStart.length; s++) {
      for (let row = batch.sequenceStart[s] ?? 0; row < (batch.sequenceStart[s + 1] ?? 0); row++) {
        sequenceOf[row] = s;
        const terms = [...Array(batch.mixtureSlots.length).keys()]
          .slice(batch.mixtureStart[row], batch.mixtureStart[row + 1])
          .map((i) => [this.slots[batch.mixtureSlots[i] ?? -1], batch.mixtureWeights[i] ?? 0] as const);
        const position = batch.positions[row] ?? -1;
        const before = position === 0 ? 0 : (this.#cells[this.#at(batch, s, position - 1)] ?? Number.NaN);
        this.#cells[this.#at(batch, s, position)] = cell(before, batch.tokens[row] ?? -1, terms);
      }
    }
    const logits = into.subarray(0, batch.logitRows.length * VOCAB).fill(0);
    for (const [i, row] of batch.logitRows.entries()) {
      const length = (batch.positions[row] ?? -1) + 1;
      const cells = Array.from({ length }, (_, p) => this.#cells[this.#at(batch, sequenceOf[row] ?? -1, p)] ?? -1);
      logits[i * VOCAB + follow(cells)] = 1;
    }
    return logits;
  }

  #at(batch: StepBatch, sequence: number, position: number): number {
    const block = batch.blockTable[sequence * batch.blocksPerSequence + Math.floor(position / BLOCK_TOKENS)] ?? -1;
    expect(block).toBeGreaterThanOrEqual(0);
    return block * BLOCK_TOKENS + (position % BLOCK_TOKENS);
  }
}

/** The same on a device that chooses no tokens. */
function withoutChoice(model: CellModel): StepModel {
  return {
    logitWidth: model.logitWidth,
    forward: (batch, into) => model.forward(batch, into),
    forwardArriving: (batches, signal) => model.forwardArriving(batches, signal),
  };
}

/** What a request is answered with when it is alone in the world. */
function oracle({ prompt, maxTokens, experts }: Pick<Arrival, 'prompt' | 'maxTokens' | 'experts'>): number[] {
  const mixture = experts.map((expert) => [digestOf(expert), weightOf(expert)] as const);
  const cells: number[] = [];
  const push = (token: number) => cells.push(cell(cells.at(-1) ?? 0, token, mixture));
  prompt.forEach(push);
  const answer: number[] = [];
  while (answer.length < maxTokens) {
    const token = follow(cells);
    if (token === STOP) break;
    answer.push(token);
    push(token);
  }
  return answer;
}

/** Runs arrivals to the end; the events of each. */
async function simulate(list: readonly Arrival[], size: typeof sizes extends fc.Arbitrary<infer T> ? T : never) {
  const model = new CellModel();
  const blocks = new BlockManager(size.blocks, BLOCK_TOKENS);
  const events = list.map((): GenerationEvent[] => []);
  const filling = new Set<number>();
  let loads = 0;
  const residency = new Residency({
    slots: size.slots,
    async load({ digest }, slot, signal) {
      expect(filling.has(slot), 'two loads into one slot').toBe(false);
      filling.add(slot);
      model.slots[slot] = undefined;
      const load = async () => {
        try {
          for (let left = size.loads[loads++ % size.loads.length] ?? 0; left > 0; left--) {
            signal.throwIfAborted();
            await turn();
          }
          if (digest === digestOf(BROKEN)) throw new Error('bytes missing');
          model.slots[slot] = digest;
        } finally {
          filling.delete(slot);
          model.filling.delete(slot);
        }
      };
      const loading = load();
      if (filling.has(slot)) model.filling.set(slot, loading);
      return loading;
    },
  });
  const scheduler = new Scheduler(blocks, { ...size, maxLogitRows: size.maxSequences });
  const loop = new EngineLoop({
    model: size.decodeSteps > 0 ? model : withoutChoice(model),
    blocks,
    scheduler,
    grammars: new Grammars(new Problem('no formats here')),
    residency,
    emit: (batch) => {
      for (const { id, event } of batch) events[id]?.push(event);
    },
  });
  const open = new Set(list.keys());
  for (let now = 0; open.size > 0 || filling.size > 0; now++) {
    expect(now, 'turns').toBeLessThan(TURN_LIMIT);
    for (const [id, { turn: arrival, leaves, resumesAfter, ...request }] of list.entries()) {
      if (arrival === now) {
        void loop.submit({
          ...request,
          id,
          generated: oracle(request).slice(0, resumesAfter),
          timeoutMs: undefined,
          mixture: request.experts.map((expert) => ({ version: versionOf(expert), weight: weightOf(expert) })),
          sampling: samplingParams({ temperature: 0 }),
          stopIds: [STOP],
          scoresPrompt: request.scores,
          logprobs: 0,
        });
      }
      if (leaves !== undefined && arrival + leaves === now && open.delete(id)) loop.abort(id);
      const last = events[id]?.at(-1)?.kind;
      if (last === 'finished' || last === 'failed') open.delete(id);
    }
    await turn();
  }
  // Who left while its prompt was computed early holds its blocks and slots until that step is done.
  for (let left = 4; left > 0; left--) await turn();
  const { running, waiting, kvBlocksFree, residency: held } = loop.stats();
  expect({ running, waiting, kvBlocksFree, slotsFree: held.slotsFree }).toEqual({
    running: 0,
    waiting: 0,
    kvBlocksFree: size.blocks,
    slotsFree: size.slots,
  });
  return { events, longest: model.longest };
}

const BASE_REQUEST: Omit<GenerationRequest, 'id'> = {
  prompt: [9],
  generated: [],
  tenant: '',
  timeoutMs: undefined,
  maxTokens: 1,
  mixture: [],
  sampling: samplingParams({ temperature: 0 }),
  stopIds: [],
  scoresPrompt: false,
  logprobs: undefined,
};

describe('the engine loop', () => {
  it('answers each request as if it were alone, whatever else arrives, leaves, shares its prefix, is preempted, resumed, paged in or broken', async () => {
    let atOnce = 0;
    await fc.assert(
      fc.asyncProperty(arrivals, sizes, async (list, size) => {
        const { events, longest } = await simulate(list, size);
        expect(longest).toBeLessThanOrEqual(size.decodeSteps);
        atOnce = Math.max(atOnce, longest);
        for (const [id, arrival] of list.entries()) {
          const own = events[id] ?? [];
          const last = own.at(-1);
          // Left before its last event.
          if (last?.kind !== 'finished' && last?.kind !== 'failed') {
            expect(arrival.leaves).toBeDefined();
            continue;
          }
          if (arrival.experts.length > size.slots || arrival.experts.includes(BROKEN)) {
            const code = arrival.experts.length > size.slots ? 'too_many_experts' : 'expert_unavailable';
            expect(own).toMatchObject([{ kind: 'failed', error: { code } }]);
            continue;
          }
          const answer = oracle(arrival);
          expect(own.flatMap((event) => (event.kind === 'token' ? event.token : []))).toEqual(
            answer.slice(arrival.resumesAfter),
          );
          expect(last).toMatchObject({
            kind: 'finished',
            reason: answer.length < arrival.maxTokens ? 'stop' : 'length',
          });
          const scored = own.flatMap((event) => (event.kind === 'scored' ? event.scores : []));
          expect(scored).toHaveLength(arrival.scores ? arrival.prompt.length : 0);
        }
      }),
      { numRuns: 200 },
    );
    expect(atOnce).toBeGreaterThan(1);
  });

  it('answers the base while every slot is taken and experts wait for one; its load says who', async () => {
    const blocks = new BlockManager(8, BLOCK_TOKENS);
    const model = new CellModel();
    const events: GenerationEvent[][] = [[], [], []];
    const loop = new EngineLoop({
      grammars: new Grammars(new Problem('no formats here')),
      model,
      blocks,
      scheduler: new Scheduler(blocks, { maxStepTokens: 8, maxSequences: 2, maxLogitRows: 2, maxStepExperts: 1 }),
      // The one slot is being filled for ever.
      residency: new Residency({ slots: 1, load: () => new Promise(() => undefined) }),
      emit: (batch) => {
        for (const { id, event } of batch) events[id]?.push(event);
      },
    });
    const request = { ...BASE_REQUEST, prompt: [9, 8, 7] };
    for (const id of [0, 1]) void loop.submit({ ...request, id, mixture: [{ version: versionOf(id), weight: 1 }] });
    await loop.submit({ ...request, id: 2 });
    await expect.poll(() => events[2]?.at(-1)?.kind).toBe('finished');
    expect(events.slice(0, 2)).toEqual([[], []]);
    expect(loop.stats()).toMatchObject({
      waiting: 2,
      experts: [0, 1].map((expert) => ({ digest: digestOf(expert), running: 0, waiting: 1 })),
    });
  });

  it('has a cold expert’s first token when the expert is whole, without a further step', async () => {
    const model = new CellModel();
    const blocks = new BlockManager(8, BLOCK_TOKENS);
    const steps: StepBatch[] = [];
    const events: GenerationEvent[] = [];
    let fill: () => void = () => undefined;
    model.filling.set(
      0,
      new Promise((resolve) => {
        fill = () => {
          model.slots[0] = digestOf(1);
          model.filling.clear();
          resolve();
        };
      }),
    );
    const loop = new EngineLoop({
      model: {
        logitWidth: VOCAB,
        forwardArriving: (batches, signal) => model.forwardArriving(batches, signal),
        forward(batch, into) {
          steps.push(batch);
          return model.forward(batch, into);
        },
      },
      blocks,
      scheduler: new Scheduler(blocks, { maxStepTokens: 2, maxSequences: 2, maxLogitRows: 2, maxStepExperts: 1 }),
      grammars: new Grammars(new Problem('no formats here')),
      residency: new Residency({ slots: 1, load: async () => model.filling.get(0) }),
      emit: (batch) => events.push(...batch.map(({ event }) => event)),
    });
    // Three chunks, and no block is full with the last.
    const request = { ...BASE_REQUEST, prompt: [9, 8, 7, 6, 9], maxTokens: 2 };
    const submitted = loop.submit({ ...request, id: 1, mixture: [{ version: versionOf(1), weight: weightOf(1) }] });
    // Not at once, as what was in memory is.
    for (let turns = 0; turns < 8; turns++) await turn();
    fill();
    await submitted;
    const answer = oracle({ ...request, experts: [1] });
    expect(events).toMatchObject([{ kind: 'started' }, { kind: 'token', token: answer[0] }]);
    expect(steps.map(({ tokens }) => [...tokens])).toEqual([[answer[0]]]);
    await expect.poll(() => events.at(-1)?.kind).toBe('finished');
    expect(events[2]).toMatchObject({ kind: 'token', token: answer[1] });
    expect(blocks.free).toBe(8);
  });

  it('computes the prompt of an expert that was in memory in steps with others', async () => {
    const model = new CellModel();
    const blocks = new BlockManager(8, BLOCK_TOKENS);
    const events: GenerationEvent[] = [];
    const loop = new EngineLoop({
      model: {
        logitWidth: VOCAB,
        forward: (batch, into) => model.forward(batch, into),
        forwardArriving: () => expect.unreachable('a step of its own'),
      },
      blocks,
      scheduler: new Scheduler(blocks, { maxStepTokens: 8, maxSequences: 2, maxLogitRows: 2, maxStepExperts: 1 }),
      grammars: new Grammars(new Problem('no formats here')),
      residency: new Residency({
        slots: 1,
        async load() {
          for (let step = 0; step < 50; step++) await undefined;
          model.slots[0] = digestOf(1);
        },
      }),
      emit: (batch) => events.push(...batch.map(({ event }) => event)),
    });
    const request = { ...BASE_REQUEST, prompt: [9, 8, 7] };
    await loop.submit({ ...request, id: 1, mixture: [{ version: versionOf(1), weight: weightOf(1) }] });
    await expect.poll(() => events.at(-1)?.kind).toBe('finished');
    expect(events[1]).toMatchObject({ kind: 'token', token: oracle({ ...request, experts: [1] })[0] });
  });

  it.each([
    ['goes on', false],
    ['goes on also where the request left meanwhile', true],
  ])('fails the requests of a step that can not be computed, with the cause for the log, and %s', async (_, leaves) => {
    const blocks = new BlockManager(8, BLOCK_TOKENS);
    const events: GenerationEvent[] = [];
    let isBroken = true;
    const model = new CellModel();
    const loop: EngineLoop = new EngineLoop({
      model: {
        logitWidth: model.logitWidth,
        forward: async (batch, into) => {
          if (!isBroken) return model.forward(batch, into);
          if (leaves) loop.abort(1);
          isBroken = false;
          throw new Error('device lost');
        },
        forwardArriving: (batches, signal) => model.forwardArriving(batches, signal),
      },
      blocks,
      scheduler: new Scheduler(blocks, { maxStepTokens: 8, maxSequences: 2, maxLogitRows: 2, maxStepExperts: 1 }),
      grammars: new Grammars(new Problem('no formats here')),
      residency: new Residency({ slots: 1, load: async () => undefined }),
      emit: (batch) => events.push(...batch.map(({ event }) => event)),
    });
    // Two full blocks: what a broken step was to compute must not be taken for computed by the next.
    const request = { ...BASE_REQUEST, prompt: [9, 8, 7, 6, 9, 8, 7, 6] };
    await loop.submit({ ...request, id: 1 });
    await expect.poll(() => isBroken).toBe(false);
    await turn();
    expect(events.slice(1)).toMatchObject(
      leaves
        ? []
        : [{ kind: 'failed', error: { code: 'internal_error', detail: expect.stringContaining('device lost') } }],
    );
    expect(blocks.free).toBe(8);
    await loop.submit({ ...request, id: 2 });
    await expect.poll(() => events.at(-1)).toMatchObject({ kind: 'finished', reason: 'length' });
    expect(events.find((event) => event.kind === 'token')).toEqual({
      kind: 'token',
      token: oracle({ ...request, experts: [] })[0],
    });
  });
});
