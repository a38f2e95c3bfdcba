/**
 * Real regions whose heartbeats stop, or lie: what they said last counts for as long as a container that is there would have let pass, and no longer; what they say
 * decides who is asked, and nothing else; apps get their answers all the while.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { HEARTBEAT_INTERVAL_MS, HEARTBEAT_SILENCE_MS } from '@signpost/contracts';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { breakAll, Fleet, NAMES } from './fleet.ts';
import { STREAMS, type Streamed, streamMany } from './streams.ts';

const ADMIN_KEY = 'an-administrator-of-the-regions';
/** Each isolate's copy of what was heard is about a second old; asking takes its time. */
const SLACK_MS = 5_000;
const near = () => fleet.at(0);

interface Planned {
  readonly region: string;
  readonly draining: boolean;
  readonly terms: readonly { readonly term: string; readonly why: string }[];
}

const EXPERTS = ['chat', 'math', 'code'];
/** A region computes as many at once as one of them has. */
const CROWDS = 3;
/** A truth is heard with the next heartbeat, by an isolate whose copy is then old. */
const HEARD_WITHIN_MS = HEARTBEAT_INTERVAL_MS + SLACK_MS;

let fleet: Fleet;
let undisturbed: readonly string[];
beforeAll(async () => {
  fleet = await Fleet.start({ env: { SIGNPOST_ADMIN_KEY: ADMIN_KEY } });
  await fleet.showCatalogue();
  undisturbed = (await fleet.streamMany()).map(({ text }) => text);
}, 180_000);
afterAll(() => fleet?.close());
beforeEach(async () => {
  for (const { beats } of fleet.members) beats.reset();
  await expect.poll(async () => (await plan()).map(loadKnown), { timeout: 30_000 }).toEqual([true, true, true]);
});
afterEach(() => expect(fleet.violations).toEqual([]));

async function plan(): Promise<readonly Planned[]> {
  const body = JSON.stringify({ model: 'math', messages: [{ role: 'user', content: 'What is 3 + 4?' }] });
  const response = await fetch(`${fleet.edge.url}/v1/route`, { method: 'POST', body });
  return ((await response.json()) as { plan: Planned[] }).plan;
}

const loadKnown = ({ terms }: Planned) => terms.every(({ why }) => !why.startsWith('nothing heard of it'));
const planned = async (name: string) =>
  (await plan()).find(({ region }) => region === name) ?? expect.unreachable(`${name} is in no plan`);

/** Of the nearest region. */
async function administer(what: 'drain' | 'resume' | 'experts/load' | 'experts/evict', model?: string): Promise<void> {
  const response = await fetch(`${near().region.url}/admin/${what}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${ADMIN_KEY}` },
    ...(model === undefined ? {} : { body: JSON.stringify({ model }) }),
  });
  expect(response.status).toBe(200);
}

/** What the plan says of the nearest region's queue, or its experts. */
async function why(name: string): Promise<string | undefined> {
  return (await planned('near')).terms.find(({ term }) => term === name)?.why;
}

function expectUndisturbed(streams: readonly Streamed[]): void {
  expect(streams.map(({ text, hasEnded }) => ({ text, hasEnded }))).toEqual(
    undisturbed.slice(0, streams.length).map((text) => ({ text, hasEnded: true })),
  );
}

/** The nearest region's last heartbeat says that it drains, which it does no more; nobody hears of that. */
async function leaveStaleBeat(): Promise<number> {
  await administer('drain');
  await expect.poll(async () => (await planned('near')).draining, { timeout: 10_000 }).toBe(true);
  near().beats.intercept = breakAll;
  const lastAt = performance.now();
  await administer('resume');
  return lastAt;
}

it('a region that lives, and whose heartbeats stop, is planned by its network alone after ten seconds', async () => {
  const lastAt = await leaveStaleBeat();
  const answeredBy: (string | null)[] = [];
  while ((await planned('near')).draining) {
    expect(performance.now() - lastAt).toBeLessThan(HEARTBEAT_SILENCE_MS + SLACK_MS);
    const { region, text, hasEnded } = await fleet.stream(1);
    expect({ text, hasEnded }).toEqual({ text: undisturbed[1], hasEnded: true });
    answeredBy.push(region);
  }
  expect(answeredBy[0]).toMatch(/middle|far/);
  expect(performance.now() - lastAt).toBeGreaterThan(HEARTBEAT_SILENCE_MS - HEARTBEAT_INTERVAL_MS);
  // Whether that makes it the first rests on how quick the others say they are.
  const { terms } = await planned('near');
  expect(terms.map(({ term, why }) => `${term}: ${why}`)).toEqual([
    expect.stringMatching(/^network: (measured|about \d+ km)/),
    'queue: nothing heard of it; as the others on average',
  ]);
  expect(await fleet.stream(1)).toMatchObject({ text: undisturbed[1], hasEnded: true });
});

it('what was said last does not count for the first who asks after a quiet time', async () => {
  await leaveStaleBeat();
  for (const { beats } of fleet.members) beats.intercept = breakAll;
  // Nobody asks: the isolate's copy grows old with what it holds.
  await sleep(HEARTBEAT_SILENCE_MS + SLACK_MS);
  const first = await plan();
  expect(first).toHaveLength(NAMES.length);
  expect(first.filter(({ draining }) => draining)).toEqual([]);
  expect(first.filter(({ terms }) => terms.some(({ why }) => /tokens wait/.test(why)))).toEqual([]);
});

it('a region that died saying it was idle costs no answer, and is not heard of after ten seconds', async () => {
  await expect.poll(async () => loadKnown(await planned('near')), { timeout: 10_000 }).toBe(true);
  await near().region.stop('SIGKILL');
  const diedAt = performance.now();
  expect(loadKnown(await planned('near'))).toBe(true);
  const streams = await fleet.streamMany();
  expectUndisturbed(streams);
  expect(streams.filter(({ region }) => region === 'near')).toEqual([]);
  while (loadKnown(await planned('near'))) {
    expect(performance.now() - diedAt).toBeLessThan(HEARTBEAT_SILENCE_MS + SLACK_MS);
    await sleep(100);
  }
  await near().region.start();
});

describe('a region that lies', { timeout: 120_000 }, () => {
  const heard = { timeout: HEARD_WITHIN_MS };
  const answeredBy = (streams: readonly Streamed[], name: string) => streams.filter(({ region }) => region === name);

  it('of experts in its slots that it has nowhere brings them in, and costs no answer', async () => {
    for (const model of EXPERTS) await administer('experts/load', model);
    const { experts } = await near().region.heartbeat();
    expect(experts.device).toHaveLength(EXPERTS.length);
    for (const model of EXPERTS) await administer('experts/evict', model);
    await expect.poll(() => why('page-in'), heard).toMatch(/^math cold/);
    // And of prompts that it computes in no time: nobody is nearer.
    fleet.lie(0, () => ({ experts, prefillTokensPerSecond: 1e9 }));
    await expect.poll(() => why('page-in'), heard).toBe('math resident');
    await fleet.untilNearestIsAsked();
    expect((await near().region.heartbeat()).experts).toEqual({ device: [], host: [], loading: [] });
    const streams = await fleet.streamMany();
    expectUndisturbed(streams);
    expect(answeredBy(streams, 'near').length).toBeGreaterThan(STREAMS / 2);
    expect((await near().region.heartbeat()).experts.device).toHaveLength(EXPERTS.length);
    await administer('experts/evict', 'math');
    near().beats.reset();
    await expect.poll(() => why('page-in'), heard).toMatch(/^math cold/);
  });

  it('of experts that it has not, all being in its slots, is asked last until it tells the truth', async () => {
    for (const model of EXPERTS) await administer('experts/load', model);
    await expect.poll(() => why('page-in'), heard).toBe('math resident');
    fleet.lie(0, () => ({
      experts: { device: [], host: [], loading: [] },
      pageInBytesPerSecond: { host: null, store: 1 },
    }));
    await expect.poll(async () => (await plan()).at(-1)?.region, heard).toBe('near');
    expect(await why('page-in')).toMatch(/^math cold/);
    const streams = await fleet.streamMany();
    expectUndisturbed(streams);
    // Those for the base alone.
    expect(answeredBy(streams, 'near').length).toBeLessThan(STREAMS / 2);
    near().beats.reset();
    await expect.poll(() => why('page-in'), heard).toBe('math resident');
  });

  it('of an empty queue while it is full costs no answer, and is known to be full when it tells the truth', async () => {
    fleet.lie(0, ({ kvBlocks }) => ({ running: 0, waiting: 0, queuedTokens: 0, kvBlocksFree: kvBlocks }));
    let isCrowded = true;
    // Sent past the edge, which so knows only what it is told.
    const crowds = Array.from({ length: CROWDS }, async (_, i) => {
      while (isCrowded) await streamMany(near().region.url, { from: i * STREAMS });
    });
    try {
      const waiting = async () => (await near().region.heartbeat()).waiting;
      await expect.poll(waiting, heard).toBeGreaterThan(STREAMS);
      expect(await why('queue')).toMatch(/^0 prompt tokens wait/);
      const streams = Promise.all(Array.from({ length: STREAMS / 4 }, (_, i) => fleet.stream(i)));
      near().beats.reset();
      await expect.poll(() => why('queue'), heard).toMatch(/^[1-9]\d* prompt tokens wait/);
      expectUndisturbed(await streams);
    } finally {
      isCrowded = false;
      await Promise.all(crowds);
    }
    await expect.poll(() => why('queue'), heard).toBe('0 prompt tokens wait');
  });

  it('of a long queue while it is empty is asked last until it tells the truth; where all do, all are asked', async () => {
    fleet.lie(0, () => ({ queuedTokens: 1e12, waiting: 1e9 }));
    await expect.poll(async () => (await plan()).at(-1)?.region, heard).toBe('near');
    const streams = await fleet.streamMany();
    expectUndisturbed(streams);
    // Some may have been raced with it.
    expect(answeredBy(streams, 'near').length).toBeLessThan(STREAMS / 8);
    for (const i of NAMES.keys()) fleet.lie(i, () => ({ queuedTokens: 1e12 }));
    const queues = async () => (await plan()).map(({ terms }) => terms.find(({ term }) => term === 'queue')?.why);
    const long = '1000000000000 prompt tokens wait';
    await expect.poll(queues, heard).toEqual(NAMES.map(() => expect.stringContaining(long)));
    expectUndisturbed(await fleet.streamMany());
    for (const { beats } of fleet.members) beats.reset();
    await expect.poll(queues, heard).toEqual(NAMES.map(() => '0 prompt tokens wait'));
  });
});
