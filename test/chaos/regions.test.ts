/**
 * Three real regions behind the real Worker, and what happens to streams when regions die, fall silent, fail, or lie.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { breakAll, Fleet, NAMES } from './fleet.ts';
import { MIDST_EVENTS, STREAMS, type Streamed } from './streams.ts';

let fleet: Fleet;
let undisturbed: string[];

beforeAll(async () => {
  // A region that lives begins an answer within ten seconds, and goes on with it: the rest is what a machine with other work to do may add.
  fleet = await Fleet.start({ variables: { CONNECT_TIMEOUT_MS: '25000', IDLE_TIMEOUT_MS: '8000' } });
  // What the edge hears of them is what a test says.
  for (const { beats } of fleet.members) beats.intercept = breakAll;
  // Measured in a burst alone it might seem further away than the next one.
  await fleet.untilNearestIsAsked();
  undisturbed = (await fleet.streamMany()).map(({ text }) => text);
}, 120_000);
afterAll(() => fleet?.close());
beforeEach(() => fleet.untilNearestIsAsked());
afterEach(() => {
  for (const { door } of fleet.members) door.reset();
  expect(fleet.violations).toEqual([]);
});

async function expectUndisturbed(streams: readonly Streamed[]): Promise<void> {
  expect(streams.filter(({ hasEnded }) => !hasEnded)).toEqual([]);
  expect(streams.map(({ text }) => text)).toEqual(undisturbed);
}

describe('64 streams', { timeout: 180_000 }, () => {
  beforeEach(() => fleet.drawToNearest());

  it('are answered by the nearest region while all is well', async () => {
    const streams = await fleet.streamMany();
    await expectUndisturbed(streams);
    // Some may have been raced with the next one.
    expect(streams.filter(({ region }) => region === 'near').length).toBeGreaterThan(STREAMS / 2);
    expect(fleet.resumed).toBe(0);
  });

  it('go on elsewhere, each bit for bit, when their region is killed', async () => {
    const before = fleet.resumed;
    await expectUndisturbed(await fleet.streamManyWhileNearestDies());
    expect(fleet.resumed - before).toBeGreaterThan(STREAMS / 8);
    // Not all of them where it is nearest: nothing is heard of the other two, but each knows what the others were sent.
    for (const name of NAMES.slice(1)) expect(fleet.resumedBy(name)).toBeGreaterThan(STREAMS / 8);
  });

  it('are answered elsewhere while a region takes requests and never answers', async () => {
    let taken = 0;
    fleet.at(0).door.intercept = () => ++taken > 0;
    await expectUndisturbed(await fleet.streamMany());
    expect(taken).toBeGreaterThan(STREAMS / 8);
  });

  it('survive regions that fall silent in the midst of them', async () => {
    let isSilent = false;
    // Two of the three: those that were raced with the second are in it, too.
    for (const { door } of fleet.members.slice(0, 2)) {
      door.intercept = (_, response) => {
        const write = response.write.bind(response);
        response.write = ((...args: Parameters<typeof write>) => (isSilent ? true : write(...args))) as typeof write;
        const end = response.end.bind(response);
        response.end = ((...args: Parameters<typeof end>) => (isSilent ? response : end(...args))) as typeof end;
        return false;
      };
    }
    let events = 0;
    const before = fleet.resumed;
    const streams = await fleet.streamMany({
      onEvent: () => {
        events++;
        isSilent ||= events === MIDST_EVENTS;
      },
    });
    await expectUndisturbed(streams);
    expect(fleet.resumed - before).toBeGreaterThan(STREAMS / 8);
  });

  it('survive a region that answers 500 half the time', async () => {
    let requests = 0;
    fleet.at(0).door.intercept = (_, response) => {
      if (requests++ % 2 === 0) return false;
      response.writeHead(500, { 'content-type': 'application/json' }).end('{"error":{"code":"internal_error"}}');
      return true;
    };
    await expectUndisturbed(await fleet.streamMany());
    expect(requests).toBeGreaterThan(STREAMS / 2);
  });
});

describe('heartbeats', () => {
  it('that say all regions drain, or that a dead one is well, cost no answer', async () => {
    for (const i of NAMES.keys()) await fleet.say(i, { draining: true });
    await expectUndisturbed(await fleet.streamMany());
    await fleet.say(0, { sentAt: Date.now() + 1, draining: false });
    await fleet.at(0).region.stop('SIGKILL');
    await expectUndisturbed(await fleet.streamMany());
    await fleet.at(0).region.start();
  });
});
