/**
 * A request's tokens and their log-probabilities are the same alone and in any batch, chunked any way, preempted, resumed, from the prefix cache: bit by
 * bit on one device, and between `cpu` and `reference` as far as float32 tells the likeliest token from the next.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { type Digest, type ExpertVersion, Problem } from '@signpost/contracts';
import {
  type DeltaFile,
  Grammars,
  logProbability,
  Model,
  openCheckpoint,
  openDelta,
  Session,
  samplingParams,
} from '@signpost/engine';
import { pack } from '@signpost/packer';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Residency } from '../experts/residency.ts';
import { BlockManager } from '../schedule/block-manager.ts';
import { Scheduler } from '../schedule/scheduler.ts';
import { EngineLoop } from './engine-loop.ts';
import type { GenerationEvent } from './protocol.ts';

const GOLDEN = join(import.meta.dirname, '../../../test/golden/merge');
const EXPERTS = ['a', 'b', 'c'];
const DEVICES = ['cpu', 'reference'] as const;
const BLOCK_TOKENS = 4;
const MAX_BLOCKS = 24;
const MAX_ROWS = 40;
const SLOTS = 2;
/** Two logits nearer to each other than this may change places between devices. */
const NARROW = 1e-3;
const TURN_LIMIT = 5_000;

interface Request {
  readonly turn: number;
  readonly prompt: readonly number[];
  readonly maxTokens: number;
  readonly mixture: readonly { readonly expert: number; readonly weight: number }[];
  readonly tenant: string;
  readonly scores: boolean;
  readonly resumesAfter: number;
  readonly leaves: number | undefined;
}

interface Token {
  readonly id: number;
  readonly logprob: number;
  /** By how much it was likelier than the next. */
  readonly margin: number;
}

const rarely = <T, U>(usual: T, seldom: fc.Arbitrary<U>) =>
  fc.oneof({ weight: 4, arbitrary: fc.constant(usual) }, { weight: 1, arbitrary: seldom });
const request: fc.Arbitrary<Request> = fc.record({
  turn: fc.nat(20),
  // Few different ones, so that prefixes are shared and answers alone are computed once.
  prompt: fc
    .tuple(fc.constantFrom(0, 3, 8, 17, 30), fc.nat(3))
    .map(([shared, own]) => [...Array.from({ length: shared }, (_, i) => 20 + ((i * 37) % 70)), 3 + own]),
  maxTokens: fc.integer({ min: 1, max: 12 }),
  mixture: fc.uniqueArray(fc.record({ expert: fc.nat(EXPERTS.length - 1), weight: fc.constantFrom(1, 0.5) }), {
    maxLength: SLOTS,
    selector: ({ expert }) => expert,
  }),
  tenant: fc.constantFrom('', 'a'),
  scores: fc.boolean(),
  resumesAfter: rarely(0, fc.nat(11)),
  leaves: rarely(undefined, fc.nat(30)),
});
const sizes = fc.record({
  // Enough for the longest alone.
  blocks: fc.integer({ min: 11, max: MAX_BLOCKS }),
  maxStepTokens: fc.integer({ min: 1, max: MAX_ROWS }),
  maxSequences: fc.integer({ min: 1, max: 6 }),
  maxStepExperts: fc.integer({ min: 1, max: 3 }),
});
type Sizes = typeof sizes extends fc.Arbitrary<infer T> ? T : never;

const models = new Map<string, Model>();
const deltas: Uint8Array[] = [];
beforeAll(async () => {
  const dir = await mkdtemp(join(tmpdir(), 'signpost-equal-'));
  const base = await openCheckpoint(join(GOLDEN, 'base'));
  for (const name of EXPERTS) {
    const out = join(dir, `${name}.safetensors`);
    await pack(base, await openCheckpoint(join(GOLDEN, name)), { name, out, scale: 'row', planes: 1 });
    deltas.push(await readFile(out));
  }
  await rm(dir, { recursive: true });
  for (const device of DEVICES) {
    const model = await Model.load(base, {
      device,
      slots: EXPERTS.length,
      kvBlocks: MAX_BLOCKS,
      blockTokens: BLOCK_TOKENS,
      maxRows: MAX_ROWS,
      maxLogitRows: MAX_ROWS,
    });
    models.set(device, model);
  }
});
afterAll(() => {
  for (const model of models.values()) model.close();
});

function modelOf(device: string): Model {
  const model = models.get(device);
  if (model === undefined) throw new Error(`no model on ${device}`);
  return model;
}

const versionOf = (expert: number): ExpertVersion => ({
  digest: String(expert).padStart(64, '0') as Digest,
  base: '9'.repeat(64) as Digest,
  key: `experts/${expert}`,
  bytes: 1,
  method: 'sign',
  published: '2026-01-01T00:00:00Z',
});

function deltaOf(expert: number): DeltaFile {
  return openDelta(deltas[expert] ?? new Uint8Array(0), EXPERTS[expert] ?? '');
}

const alone = new Map<string, Token[]>();

/** What a request is answered with when it is alone, its prompt in one chunk: computed once. */
async function answerAlone(device: string, { prompt, mixture, maxTokens }: Request): Promise<readonly Token[]> {
  const key = JSON.stringify([device, prompt, mixture]);
  const known = alone.get(key) ?? [];
  if (known.length < maxTokens) {
    const model = modelOf(device);
    for (const [slot, { expert }] of mixture.entries()) model.loadExpert(slot, deltaOf(expert));
    const session = new Session(
      model,
      MAX_BLOCKS,
      mixture.map(({ weight }, slot) => ({ slot, weight })),
    );
    known.length = 0;
    let next = await session.append(prompt, 'last');
    // For the longest: the shorter ones begin alike.
    for (let i = 0; i < 12; i++) {
      const order = [...next.keys()].sort((x, y) => (next[y] ?? 0) - (next[x] ?? 0) || x - y);
      const [id = -1, second = -1] = order;
      known.push({
        id,
        logprob: logProbability(next, id),
        margin: (next[id] ?? Number.NaN) - (next[second] ?? Number.NaN),
      });
      next = await session.append([id], 'last');
    }
    alone.set(key, known);
  }
  return known.slice(0, maxTokens);
}

/** Runs requests through a loop of their own to the end; the events of each. */
async function runTogether(device: string, requests: readonly Request[], size: Sizes) {
  const model = modelOf(device);
  const blocks = new BlockManager(size.blocks, BLOCK_TOKENS);
  const scheduler = new Scheduler(blocks, { ...size, maxLogitRows: size.maxSequences });
  const events = requests.map((): GenerationEvent[] => []);
  const fills: Promise<void>[] = [];
  const loop = new EngineLoop({
    model,
    blocks,
    scheduler,
    grammars: new Grammars(new Problem('no formats here')),
    residency: new Residency({
      slots: SLOTS,
      // A parameter a turn, so that prompts are computed behind it and between the steps of others.
      load: (version, slot, signal) => {
        const fill = model.fillSlot(slot, Promise.resolve(deltaOf(Number(version.digest))), async () => {
          await turn();
          signal.throwIfAborted();
        });
        fills.push(fill);
        return fill;
      },
    }),
    emit: (batch) => {
      for (const { id, event } of batch) events[id]?.push(event);
    },
  });
  const resumed: number[][] = [];
  for (const one of requests) {
    resumed.push((await answerAlone(device, one)).slice(0, one.resumesAfter).map(({ id }) => id));
  }
  const open = new Set(requests.keys());
  for (let now = 0; open.size > 0; now++) {
    expect(now, 'turns').toBeLessThan(TURN_LIMIT);
    for (const [id, { turn: arrives, leaves, mixture, prompt, maxTokens, tenant, scores }] of requests.entries()) {
      if (arrives === now) {
        void loop.submit({
          id,
          prompt,
          generated: resumed[id] ?? [],
          maxTokens,
          tenant,
          timeoutMs: undefined,
          mixture: mixture.map(({ expert, weight }) => ({ version: versionOf(expert), weight })),
          sampling: samplingParams({ temperature: 0, seed: 0 }),
          stopIds: [],
          scoresPrompt: scores,
          logprobs: 0,
        });
      }
      if (leaves !== undefined && arrives + leaves === now && open.delete(id)) loop.abort(id);
      const last = events[id]?.at(-1);
      expect(last?.kind, 'a request failed').not.toBe('failed');
      if (last?.kind === 'finished') open.delete(id);
    }
    await turn();
  }
  // The next ones use the same slots.
  await Promise.allSettled(fills);
  return { events, stats: loop.stats() };
}

describe.each(DEVICES)('on %s', (device) => {
  it('answers have the same bits alone and together, chunked, preempted, resumed, from the prefix cache', async () => {
    let [preemptions, cached] = [0, 0];
    await fc.assert(
      fc.asyncProperty(fc.array(request, { minLength: 1, maxLength: 10 }), sizes, async (requests, size) => {
        const { events, stats } = await runTogether(device, requests, size);
        for (const [id, own] of events.entries()) {
          const one = requests[id];
          if (one === undefined || own.at(-1)?.kind !== 'finished') continue;
          const expected = (await answerAlone(device, one)).slice(one.resumesAfter);
          const tokens = own.flatMap((event) => (event.kind === 'token' ? event : []));
          expect(tokens.map(({ token, score }) => [token, score?.logprob])).toEqual(
            expected.map(({ id: token, logprob }) => [token, logprob]),
          );
          cached += own.reduce((sum, event) => sum + (event.kind === 'started' ? event.cachedTokens : 0), 0);
        }
        preemptions += stats.preemptionsTotal;
      }),
      { numRuns: device === 'cpu' ? 80 : 20 },
    );
    // So few runs may come by without.
    if (device !== 'cpu') return;
    expect(cached).toBeGreaterThan(0);
    expect(preemptions).toBeGreaterThan(0);
  });
});

describe('cpu and reference', () => {
  it('answer alike, up to where two tokens are as good as equal', async () => {
    await fc.assert(
      fc.asyncProperty(request, async (one) => {
        const [cpu, reference] = await Promise.all(DEVICES.map((device) => answerAlone(device, one)));
        const narrow = reference?.findIndex(({ margin }) => margin < NARROW) ?? -1;
        const sure = narrow === -1 ? one.maxTokens : narrow;
        const ids = (tokens: readonly Token[] = []) => tokens.slice(0, sure).map(({ id }) => id);
        expect(ids(cpu)).toEqual(ids(reference));
      }),
      { numRuns: 30 },
    );
  });
});
