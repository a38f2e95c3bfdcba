/**
 * The engine's thread as the HTTP thread sees it, on the demo base: what leaves or runs out of time, what is cached and resumed, what is measured.
 */
import { utimesSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Digest } from '@signpost/contracts';
import { samplingParams } from '@signpost/engine';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { EngineClient } from './engine-client.ts';
import type { GenerationEvent, GenerationRequest, StepStats } from './protocol.ts';
import type { RequestSummary } from './request-watch.ts';

const BASE = join(import.meta.dirname, '../../../models/demo/base');
const MAX_QUEUED_TOKENS = 100;

const OPTIONS = {
  base: BASE,
  device: 'cpu',
  gpu: {},
  weights: 'q8',
  slots: 1,
  hostCacheBytes: 2 ** 28,
  diskCache: undefined,
  kvTokens: 2_048,
  maxStepTokens: 32,
  maxSequences: 2,
  maxStepExperts: 1,
  decodeSteps: 1,
  blockTokens: 16,
} as const;

let store: string;
let engine: EngineClient;
const steps: StepStats[] = [];
const loading: number[] = [];
const ends: RequestSummary[] = [];
beforeAll(async () => {
  store = await mkdtemp(join(tmpdir(), 'signpost-client-'));
  engine = await EngineClient.start(
    { ...OPTIONS, store },
    {
      maxRequests: 8,
      maxQueuedTokens: MAX_QUEUED_TOKENS,
      onLoading: (bytes, totalBytes) => loading.push(bytes / totalBytes),
      onDeath: () => undefined,
      observer: { onStep: (step) => steps.push(step), onToken() {}, onRequestEnd: (summary) => ends.push(summary) },
    },
  );
});
afterAll(async () => {
  await engine?.close();
  await rm(store, { recursive: true, force: true });
});
beforeEach(() => {
  steps.length = 0;
  ends.length = 0;
});

const never = new AbortController().signal;
/** A prompt of its own for each `seed`. */
const promptOf = (seed: number, tokens: number) =>
  Array.from({ length: tokens }, (_, i) => 300 + ((seed * 101 + i * 37) % 500));

function request(of: Partial<GenerationRequest>): Omit<GenerationRequest, 'id'> {
  return {
    prompt: [300],
    generated: [],
    maxTokens: 4,
    tenant: '',
    timeoutMs: undefined,
    mixture: [],
    sampling: samplingParams({ temperature: 0 }),
    stopIds: [],
    scoresPrompt: false,
    logprobs: undefined,
    ...of,
  };
}

async function run(of: Partial<GenerationRequest>, signal = never): Promise<GenerationEvent[]> {
  const events: GenerationEvent[] = [];
  for await (const event of engine.generate(request(of), signal)) events.push(event);
  return events;
}

const tokensOf = (events: readonly GenerationEvent[]) =>
  events.flatMap((event) => (event.kind === 'token' ? event.token : []));
const isRunning = (count: number) =>
  expect.poll(async () => (await engine.stats()).running, { interval: 2, timeout: 5_000 }).toBe(count);
const everythingIsFree = async () => {
  const stats = await engine.stats();
  expect(stats).toMatchObject({ running: 0, waiting: 0, kvBlocksFree: stats.kvBlocks });
  expect(stats.residency.slotsFree).toBe(stats.residency.slots);
};

it('a base that is written to before the engine has its own copy ends the engine, and says so', async () => {
  const base = join(store, 'written');
  await cp(BASE, base, { recursive: true });
  const weights = join(base, 'model.safetensors');
  const deaths: Error[] = [];
  let tellDigest: (digest: Digest) => void = () => undefined;
  const own = await EngineClient.start(
    { ...OPTIONS, store, base, weights: 'bf16' },
    {
      maxRequests: 8,
      maxQueuedTokens: MAX_QUEUED_TOKENS,
      // The engine waits for it when all weights are mapped, and before it begins to copy them.
      baseDigest: new Promise((resolve) => {
        tellDigest = resolve;
      }),
      onLoading(bytes, totalBytes) {
        if (bytes < totalBytes) return;
        utimesSync(weights, 1, 1);
        tellDigest('0'.repeat(64) as Digest);
      },
      onDeath: (error) => deaths.push(error),
    },
  );
  const said = expect.stringContaining(`${weights} was written to while it was in use`);
  await expect.poll(() => deaths.map(({ message }) => message)).toEqual([said]);
  expect(own.isAlive).toBe(false);
});

describe('the base', () => {
  it('is held in the format asked for, and tells how much of it is in as it loads', async () => {
    const { byteLength: bytes } = await readFile(join(BASE, 'model.safetensors'));
    // 8 bits and a scale for 32 weights, of what took 16 bits.
    expect(engine.facts.weightBytes / bytes).toBeGreaterThan(0.5);
    expect(engine.facts.weightBytes / bytes).toBeLessThan(0.56);
    expect(loading.length).toBeGreaterThanOrEqual(5);
    expect(loading.toSorted((a, b) => a - b)).toEqual(loading);
    expect(loading.at(-1)).toBe(1);
  });
});

describe('a request that is given up', () => {
  it.each([
    ['while it answers', 20, 5_000],
    ['while its prompt is computed', 900, 4],
  ])('%s has freed its blocks before the next step but one', async (_, tokens, answer) => {
    const controller = new AbortController();
    const given = run({ prompt: promptOf(tokens, tokens), maxTokens: answer }, controller.signal);
    await isRunning(1);
    const leaving = expect(given).rejects.toThrow('left');
    controller.abort(new Error('left'));
    // The engine has been told when it answers: messages keep their order, also those of steps that it had run by then.
    await engine.stats();
    const before = steps.length;
    await leaving;
    await everythingIsFree();
    expect(steps.length - before).toBeLessThanOrEqual(1);
  });

  it('while it waits leaves the others to go on', async () => {
    const controller = new AbortController();
    const long = [1, 2].map((seed) => run({ prompt: promptOf(seed, 10), maxTokens: 60 }));
    await isRunning(2);
    const waiting = run({ prompt: promptOf(3, 10) }, controller.signal);
    await expect.poll(async () => (await engine.stats()).waiting).toBe(1);
    controller.abort(new Error('left'));
    await expect(waiting).rejects.toThrow('left');
    for (const events of await Promise.all(long)) expect(tokensOf(events)).toHaveLength(60);
    await everythingIsFree();
  });
});

describe('a request with a deadline', () => {
  it('fails with 504 when it has run too long, and frees its blocks', async () => {
    await expect(run({ maxTokens: 1_500, timeoutMs: 60 })).rejects.toMatchObject({
      status: 504,
      code: 'deadline_exceeded',
      message: expect.stringMatching(/60 ms passed with \d+ of at most 1500 tokens answered/),
    });
    await everythingIsFree();
  });

  it('fails with 504 when its turn has not come, without having disturbed the others', async () => {
    const long = [1, 2].map((seed) => run({ prompt: promptOf(seed, 10), maxTokens: 150 }));
    await isRunning(2);
    await expect(run({ timeoutMs: 20 })).rejects.toMatchObject({
      status: 504,
      message: expect.stringContaining('waited for its turn'),
    });
    for (const events of await Promise.all(long)) expect(tokensOf(events)).toHaveLength(150);
    await everythingIsFree();
  });

  it('that it keeps is answered', async () => {
    expect(tokensOf(await run({ timeoutMs: 2 ** 40 }))).toHaveLength(4);
  });
});

describe('admission', () => {
  it('refuses prompts beyond the tokens that may wait, and takes them again once those have begun', async () => {
    const long = [1, 2].map((seed) => run({ prompt: promptOf(seed, 10), maxTokens: 100 }));
    await isRunning(2);
    const waiting = run({ prompt: promptOf(3, MAX_QUEUED_TOKENS - 10) });
    await expect(run({ prompt: promptOf(4, 11) })).rejects.toMatchObject({
      status: 429,
      code: 'region_full',
      retryAfterSeconds: expect.any(Number),
    });
    const small = run({ prompt: promptOf(5, 10) });
    await Promise.all([...long, waiting, small]);
    expect(tokensOf(await run({ prompt: promptOf(4, 11) }))).toHaveLength(4);
  });
});

describe('an answer', () => {
  it('says how much of its prompt was cached', async () => {
    const prompt = promptOf(77, 50);
    const [first, second] = [await run({ prompt }), await run({ prompt })];
    expect(first[0]).toMatchObject({ kind: 'started', cachedTokens: 0 });
    expect(second[0]).toMatchObject({ kind: 'started', cachedTokens: 48 });
    expect(tokensOf(second)).toEqual(tokensOf(first));
  });

  it.each([
    ['the likeliest', samplingParams({ temperature: 0 })],
    ['drawn', samplingParams({ temperature: 1, seed: 7 })],
  ])('goes on from tokens that were already generated (%s), with the same ones', async (_, sampling) => {
    const prompt = promptOf(88, 33);
    const whole = tokensOf(await run({ prompt, maxTokens: 24, sampling }));
    for (const count of [1, 10, 23, 24]) {
      const rest = tokensOf(await run({ prompt, generated: whole.slice(0, count), maxTokens: 24, sampling }));
      expect(rest).toEqual(whole.slice(count));
    }
  });
});

describe('statistics', () => {
  it('tell of every request how it ended, when, and with how many tokens', async () => {
    const controller = new AbortController();
    const left = run({ prompt: promptOf(7, 10), maxTokens: 1_000 }, controller.signal);
    await isRunning(1);
    controller.abort(new Error('left'));
    await expect(left).rejects.toThrow('left');
    await run({ prompt: promptOf(8, 40), maxTokens: 3 });
    await run({ prompt: promptOf(8, 40), maxTokens: 3 });
    await expect(run({ maxTokens: 1_500, timeoutMs: 60 })).rejects.toMatchObject({ status: 504 });
    expect(ends.map(({ outcome }) => outcome)).toEqual(['abort', 'length', 'length', 'error']);
    expect(ends[1]).toMatchObject({ experts: [], promptTokens: 40, cachedTokens: 0, generatedTokens: 3, maxTokens: 3 });
    expect(ends[2]).toMatchObject({ cachedTokens: 32 });
    const { startedMs = Number.NaN, firstTokenMs = Number.NaN, finishedMs = 0 } = ends[1] ?? {};
    expect(0 <= startedMs && startedMs <= firstTokenMs && firstTokenMs <= finishedMs).toBe(true);
  });

  it('tell of every step what it computed, and add up', async () => {
    const before = await engine.stats();
    await run({ prompt: promptOf(99, 70), maxTokens: 5 });
    const sum = (of: (step: StepStats) => number) => steps.reduce((total, step) => total + of(step), 0);
    expect(sum(({ prefillTokens }) => prefillTokens)).toBe(70);
    // The first token comes of the prompt, and the last one is not computed.
    expect(sum(({ decodeTokens }) => decodeTokens)).toBe(4);
    expect(steps).toHaveLength(Math.ceil(70 / 32) + 4);
    for (const { durationMs, experts } of steps) expect([durationMs > 0, experts]).toEqual([true, 0]);
    const after = await engine.stats();
    expect(after.prefixQueriesTotal - before.prefixQueriesTotal).toBe(70);
    expect(sum(({ prefixQueries }) => prefixQueries)).toBe(70);
    expect(after.prefixHitsTotal - before.prefixHitsTotal).toBe(sum(({ prefixHits }) => prefixHits));
  });
});
