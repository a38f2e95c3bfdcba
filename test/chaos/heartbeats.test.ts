/**
 * Real regions whose heartbeats stop: what they said last counts for as long as a container that is there would have let pass, and no longer; apps get their answers
 * all the while.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { HEARTBEAT_INTERVAL_MS, HEARTBEAT_SILENCE_MS } from '@signpost/contracts';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { breakAll, Fleet, NAMES } from './fleet.ts';

const ADMIN_KEY = 'an-administrator-of-the-regions';
/** Each isolate's copy of what was heard is about a second old; asking takes its time. */
const SLACK_MS = 5_000;
const near = () => fleet.at(0);

interface Planned {
  readonly region: string;
  readonly draining: boolean;
  readonly terms: readonly { readonly term: string; readonly why: string }[];
}

let fleet: Fleet;
beforeAll(async () => {
  fleet = await Fleet.start({ env: { SIGNPOST_ADMIN_KEY: ADMIN_KEY } });
}, 120_000);
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

async function setDraining(what: 'drain' | 'resume'): Promise<void> {
  const response = await fetch(`${near().region.url}/admin/${what}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${ADMIN_KEY}` },
  });
  expect(response.status).toBe(200);
}

/** The nearest region's last heartbeat says that it drains, which it does no more; nobody hears of that. */
async function leaveStaleBeat(): Promise<number> {
  await setDraining('drain');
  await expect.poll(async () => (await planned('near')).draining, { timeout: 10_000 }).toBe(true);
  near().beats.intercept = breakAll;
  const lastAt = performance.now();
  await setDraining('resume');
  return lastAt;
}

it('a region that lives, and whose heartbeats stop, is planned by its network alone after ten seconds', async () => {
  const lastAt = await leaveStaleBeat();
  const undisturbed = (await fleet.stream(1)).text;
  const answeredBy: (string | null)[] = [];
  while ((await planned('near')).draining) {
    expect(performance.now() - lastAt).toBeLessThan(HEARTBEAT_SILENCE_MS + SLACK_MS);
    const { region, text, hasEnded } = await fleet.stream(1);
    expect({ text, hasEnded }).toEqual({ text: undisturbed, hasEnded: true });
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
  expect(await fleet.stream(1)).toMatchObject({ text: undisturbed, hasEnded: true });
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
  const undisturbed = (await fleet.streamMany()).map(({ text }) => text);
  await expect.poll(async () => loadKnown(await planned('near')), { timeout: 10_000 }).toBe(true);
  await near().region.stop('SIGKILL');
  const diedAt = performance.now();
  expect(loadKnown(await planned('near'))).toBe(true);
  const streams = await fleet.streamMany();
  expect(streams.map(({ text, hasEnded }) => ({ text, hasEnded }))).toEqual(
    undisturbed.map((text) => ({ text, hasEnded: true })),
  );
  expect(streams.filter(({ region }) => region === 'near')).toEqual([]);
  while (loadKnown(await planned('near'))) {
    expect(performance.now() - diedAt).toBeLessThan(HEARTBEAT_SILENCE_MS + SLACK_MS);
    await sleep(100);
  }
  await near().region.start();
});
