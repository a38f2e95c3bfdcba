/**
 * A region under load whose store does everything that stores do: no wrong answer, no crash, nobody left without an answer or a reason, and back to
 * normal within seconds.
 *
 * The real server in a process of its own, a real S3 server where versitygw is installed, and a proxy between the two that spoils what passes.
 * `SIGNPOST_CHAOS_SEED` repeats a run's dice; the moments at which they fall are the machine's.
 */
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CATALOGUE_KEY, type SigningKey } from '@signpost/contracts';
import { chance } from '@signpost/kernels/testing';
import { publish } from '@signpost/packer';
import { type ObjectStore, openStore, readCatalogue, readSigningKey, writeKeyPair } from '@signpost/store';
import {
  type Fault,
  type FaultyProxy,
  flipBit,
  hasRealS3,
  openMemoryS3,
  openRealS3,
  type ProxiedRequest,
  type StoreHome,
  startFaultyProxy,
} from '@signpost/store/testing';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Answers, exactNames, recordAnswers } from './answers.ts';
import { DEMO_BASE, type ExpertFiles, writeFamily } from './family.ts';
import { Fan } from './fan.ts';
import { recovered, refusals, restOf } from './recovery.ts';
import { Region } from './region.ts';
import { type Outcome, type Question, Traffic } from './traffic.ts';

const SEED = Number(process.env.SIGNPOST_CHAOS_SEED ?? Math.floor(Math.random() * 2 ** 31));
const SLOTS = 3;
/** Of fifteen experts. */
const HOST_FILES = 5;
/** Several to a file, so that it comes in parts. */
const CHUNK_BYTES = 2 ** 16;
/** What is left of a storm: nothing, and both tiers hold whole files alone, no more of them than they may. */
const AT_REST = {
  running: 0,
  waiting: 0,
  slots: SLOTS,
  kv: 1,
  loading: 0,
  files: { device: expect.toSatisfy(upTo(SLOTS)), host: expect.toSatisfy(upTo(HOST_FILES)) },
};
/** Once a fault is over, every expert answers within this: a read that hung before it may wait for 5 s of silence, or 10. */
const RECOVERY_MS = 15_000;
const SHORT: Question = { content: 'What is 17 plus 25?', maxTokens: 16 };
const QUESTIONS: readonly Question[] = [
  SHORT,
  { content: 'Write a function that returns the square of a number.', maxTokens: 24 },
  { content: 'Tell me about a red house.', maxTokens: 12 },
  // Long enough to be computed while its expert comes in.
  { content: 'Tom has 12 apples and gives 5 to Anna. '.repeat(12), maxTokens: 12 },
];
const LONG: Question = { content: 'Once upon a time there was', maxTokens: 500 };

/** Those with a second version that takes the first one's place on the way. */
const PUBLISHED = ['math-0', 'code-0'];
const MIXTURES = ['math-0:1+chat-1:0.3', 'code-0:1+math-2:0.5', 'chat-0:0.3', 'chat-3:1+code-3:1+math-3:1'];
/** Asked for by one test each alone, and so not at hand when it does. */
const RARE = ['chat-4', 'math-4', 'code-4'] as const;
type Rare = (typeof RARE)[number];
/** What some apps ask for all the time while the store is gone. */
const FAVOURITES = ['base', 'math-1', 'chat-1'];
/** So often before that, that nothing takes their place in memory. */
const FAVOURED = 100;
/** Loads that come to nothing hold slots, too, until the store is seen to be silent: 5 s, and what a busy machine adds. */
const FAVOURITE_TIMEOUT_MS = 10_000;
const GONE_MS = 60_000;

type Weather = (request: ProxiedRequest) => Fault | undefined;
const CLEAR: Weather = () => undefined;

const random = chance(SEED);
const oneOf = <T>(...choices: readonly T[]): T | undefined => choices[Math.floor(random() * choices.length)];
const isDelta = ({ url }: ProxiedRequest) => url.includes('/experts/');
const isCatalogue = ({ url }: ProxiedRequest) => url.includes(CATALOGUE_KEY);

function upTo(most: number): (files: number) => boolean {
  return (files) => files > 0 && files <= most;
}

let dir: string;
let home: StoreHome;
/** As publishers see it: without the proxy. */
let store: ObjectStore;
let proxy: FaultyProxy;
let weather = CLEAR;
let deltaReads = 0;
/** From before the second versions were published. */
let oldCatalogue: Uint8Array;
let sign: SigningKey;
let experts: readonly ExpertFiles[];
let fileBytes: number;
let models: readonly string[];
let region: Region;
let traffic: Traffic;
let answers: Answers;
const firsts = new Map<string, string>();
/** Digest of a first version → that of the second. */
const seconds = new Map<string, string>();

beforeAll(async () => {
  console.log(`chaos: seed ${SEED}, ${hasRealS3() ? 'versitygw' : 'S3 in memory'}`);
  dir = await mkdtemp(join(tmpdir(), 'signpost-chaos-'));
  home = await (hasRealS3() ? openRealS3() : openMemoryS3());
  store = openStore(home.url());
  proxy = await startFaultyProxy(process.env.AWS_ENDPOINT_URL_S3 ?? '', (request) => {
    if (isDelta(request)) deltaReads++;
    return weather(request);
  });
  sign = await readSigningKey((await writeKeyPair(join(dir, 'key'))).privateKey);
  ({ experts, bytes: fileBytes } = await writeFamily(dir));
  for (const { name, first, second } of experts) {
    const { version } = await publish(store, first, { sign, chunkBytes: CHUNK_BYTES });
    firsts.set(name, version.digest);
    if (!PUBLISHED.includes(name)) continue;
    const next = await publish(store, second, { sign, chunkBytes: CHUNK_BYTES, channel: 'next' });
    seconds.set(version.digest, next.version.digest);
  }
  const common = experts.filter(({ name }) => !RARE.some((rare) => rare === name)).map(({ name }) => name);
  models = shuffled([...common, ...MIXTURES, 'base']);
  region = await startRegion();
  const { catalogue } = await readCatalogue(store, [sign.public]);
  const names = [...RARE, ...models].flatMap((model) => exactNames(model, catalogue));
  answers = await recordAnswers(region.url, [
    ...names.flatMap((model) => QUESTIONS.map((question) => ({ model, question }))),
    { model: `math-0@${digestOf('math-0')}`, question: LONG },
  ]);
  traffic = newTraffic();
});
afterAll(async () => {
  await region?.stop('SIGKILL');
  await proxy?.close();
  await home?.close();
  await rm(dir, { recursive: true, force: true });
});

/** An expert's, in its first version. */
function digestOf(name: string): string {
  const digest = firsts.get(name);
  if (digest === undefined) throw new Error(`there is no ${name}`);
  return digest;
}

function shuffled<T>(items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, key: random() }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item);
}

async function startRegion(...flags: string[]): Promise<Region> {
  const sizes = { slots: SLOTS, 'host-cache-bytes': HOST_FILES * fileBytes, 'kv-tokens': 4_096, 'max-step-tokens': 64 };
  const started = new Region(
    [
      ...[
        '--base',
        DEMO_BASE,
        '--store',
        store.url,
        '--region',
        'chaos',
        '--drain-limit',
        '2',
        '--catalogue-key',
        join(dir, 'key.pub'),
      ],
      ...Object.entries(sizes).flatMap(([name, size]) => [`--${name}`, String(size)]),
      ...flags,
    ],
    { AWS_ENDPOINT_URL_S3: proxy.url },
  );
  await started.start();
  return started;
}

function newTraffic(): Traffic {
  return new Traffic({ region, answers, random, models, questions: QUESTIONS, replaced: invert(seconds) });
}

function invert(map: ReadonlyMap<string, string>): Map<string, string> {
  return new Map(Array.from(map, ([key, value]) => [value, key]));
}

/** Lets it storm under load, and sees that all is well soon after. */
async function survive(storm: Weather, during: () => Promise<unknown>): Promise<void> {
  const { downs } = region;
  const before = await refusals(region);
  const begun = await region.loadsBegun();
  traffic.start();
  weather = storm;
  try {
    await during();
    weather = CLEAR;
    await recovered({ traffic, models, question: SHORT, limitMs: RECOVERY_MS });
    await expect.poll(() => restOf(region, fileBytes), { timeout: 5_000 }).toEqual(AT_REST);
  } finally {
    weather = CLEAR;
    await traffic.stop();
    // Said beside what else went wrong.
    expect.soft([...traffic.violations.splice(0), ...region.violations.splice(0)]).toEqual([]);
  }
  // The load was one: experts came and went.
  expect((await region.loadsBegun()) - (region.downs > downs ? 0 : begun)).toBeGreaterThan(2 * SLOTS);
  if (region.downs > downs) return;
  // Those that somebody was there to be told of, and perhaps some of those that nobody was.
  const after = await refusals(region);
  for (const [code, total] of after) {
    const counted = total - (before.get(code) ?? 0);
    expect(counted, code).toBeGreaterThanOrEqual(traffic.count(code));
    expect(counted, code).toBeLessThanOrEqual(traffic.count(code) + traffic.count('left'));
  }
}

const askRare = (model: Rare, timeoutMs: number) =>
  traffic.check({ model, question: QUESTIONS[3] ?? LONG, stream: true, timeoutMs });
/** The same, before there is a queue for slots. */
async function beginRare(model: Rare, timeoutMs: number): Promise<{ readonly outcome: Promise<Outcome | undefined> }> {
  const outcome = askRare(model, timeoutMs);
  const loading = async () => (await region.heartbeat()).experts.loading;
  await expect.poll(loading, { interval: 5 }).toContain(digestOf(model));
  return { outcome };
}

const refusedCatalogues = () => region.metric('signpost_catalogue_problems_total');

it('errors, and a new version in their midst: it is seen, and who was being answered keeps theirs', async () => {
  const first = digestOf('math-0');
  let open = 3;
  const inFlight = Array.from({ length: open }, async () => {
    const outcome = await traffic.check({ model: 'math-0', question: LONG, stream: true, timeoutMs: 60_000 });
    open--;
    return outcome;
  });
  await expect.poll(async () => (await region.heartbeat()).running, { interval: 5 }).toBe(open);
  const errors = () =>
    random() < 0.6
      ? oneOf<Fault>(
          { status: 500 },
          { status: 503, body: '<html>busy</html>' },
          { status: 429, retryAfter: '1' },
          'reset',
          'garble',
        )
      : undefined;
  await survive(errors, async () => {
    oldCatalogue = (await store.read(CATALOGUE_KEY)).data;
    for (const { name, second } of experts)
      if (PUBLISHED.includes(name)) await publish(store, second, { sign, chunkBytes: CHUNK_BYTES });
    expect(open).toBeGreaterThan(0);
    await sleep(2_500);
    // Who asks for all slots at once waits for these, however long they take on a machine that has other work: that isn't the store's.
    await Promise.all(inFlight);
  });
  for (const outcome of await Promise.all(inFlight))
    expect(outcome).toMatchObject({ kind: 'answered', digests: first });
  // The storm may have ended before anybody asked for it again.
  await expect
    .poll(
      async () => {
        await traffic.check({ model: 'math-0', question: SHORT, stream: false, timeoutMs: RECOVERY_MS });
        return traffic.hasSeenNewer(first);
      },
      { timeout: RECOVERY_MS },
    )
    .toBe(true);
});

it('stalls, before an answer and in the middle of one, and trickles', async () => {
  const cancelled = await region.loads('cancelled');
  const stalls: Weather = ({ url }) =>
    url.includes(digestOf('chat-4')) || random() < 0.5 ? oneOf<Fault>('stall', 'stall half-way', 'trickle') : undefined;
  weather = stalls;
  const rare = await beginRare('chat-4', 2_000);
  await survive(stalls, async () => {
    // Who waits too long is told so, and what nobody waits for any more ends.
    expect(await rare.outcome).toMatchObject({ kind: 'refused', code: 'deadline_exceeded' });
    await expect.poll(() => region.loads('cancelled')).toBeGreaterThan(cancelled);
  });
  expect(await askRare('chat-4', RECOVERY_MS)).toMatchObject({ kind: 'answered' });
});

it('answers cut short, said to be whole or not, and flipped bits', async () => {
  const failed = await region.loads('failed');
  const altered = await region.metric('signpost_integrity_failures_total{from="store",check="chunk"}');
  const refused = await refusedCatalogues();
  const lies: Weather = (request) => {
    const place = random();
    // One that never comes as it was published, until it does.
    if (request.url.includes(digestOf('math-4'))) return { spoil: (body) => flipBit(body, place) };
    // The signature stands at the end.
    const catalogued = random() < 0.5 ? place : undefined;
    if (isCatalogue(request)) return { spoil: (body) => flipBit(body, catalogued ?? 1 - 30 / body.byteLength) };
    if (random() < 0.5) return undefined;
    return oneOf<Fault>(
      'cut half-way',
      { spoil: (body) => body.subarray(0, place * body.byteLength) },
      { spoil: (body) => flipBit(body, place) },
    );
  };
  weather = lies;
  expect(await askRare('math-4', RECOVERY_MS)).toMatchObject({
    kind: 'refused',
    code: 'expert_unavailable',
    message: expect.stringContaining('altered'),
  });
  expect(await region.loads('failed')).toBeGreaterThan(failed);
  expect(await region.metric('signpost_integrity_failures_total{from="store",check="chunk"}')).toBeGreaterThan(altered);
  await survive(lies, async () => {
    await sleep(2_000);
    await expect.poll(refusedCatalogues, { timeout: 5_000 }).toBeGreaterThan(refused);
  });
  expect(await askRare('math-4', RECOVERY_MS)).toMatchObject({ kind: 'answered' });
});

it('an old catalogue, whose signature is right, over a slow link', async () => {
  const older: Weather = (request) => {
    if (isCatalogue(request)) return { spoil: () => oldCatalogue };
    return { pieces: 8, pauseMs: 15 };
  };
  await survive(older, async () => {
    traffic.mustAnswer();
    await expect
      .poll(() => region.problems.filter((problem) => /went back from revision/.test(problem)).length, {
        timeout: 6_000,
      })
      .toBeGreaterThan(0);
  });
});

it('a store that is gone for a minute, refusing connections and then silent: what is asked for most is answered all the while, and the rest told why', {
  timeout: 180_000,
}, async () => {
  const fans = FAVOURITES.map((model) => new Fan(traffic, { model, question: SHORT, timeoutMs: FAVOURITE_TIMEOUT_MS }));
  const noFan = () => Promise.all(fans.map((fan) => fan.stop()));
  try {
    for (const fan of fans) await expect.poll(() => fan.answered, { timeout: 30_000 }).toBeGreaterThan(FAVOURED);
    for (const fan of fans) fan.forget();
    await proxy.vanish();
    const goneAt = performance.now();
    const goneFor = (ms: number) => sleep(goneAt + ms - performance.now());
    const rare = await beginRare('code-4', RECOVERY_MS);
    await survive(CLEAR, async () => {
      // All its attempts take 6.2 s at most.
      expect(await rare.outcome).toMatchObject({ kind: 'refused', code: 'expert_unavailable' });
      await goneFor(GONE_MS / 2);
      expect(traffic.count('expert_unavailable')).toBeGreaterThan(1);
      const late = traffic.count('deadline_exceeded');
      weather = () => 'stall';
      await proxy.reappear();
      await goneFor(GONE_MS);
      expect(traffic.count('deadline_exceeded')).toBeGreaterThan(late);
      weather = CLEAR;
      await noFan();
    });
  } finally {
    await noFan();
  }
  const told = fans.map(
    ({ model, answered, longestMs }) => `${model} ${answered} times, after ${longestMs} ms at most`,
  );
  console.log(`chaos: answered while the store was gone: ${told.join('; ')}`);
  // A load takes slot and memory before anything has come, where all else is in use those of one that is asked for more: then that one is refused with a reason, too.
  for (const { model, others } of fans)
    for (const outcome of others) expect(outcome, model).toMatchObject({ kind: 'refused', code: 'expert_unavailable' });
  const steady = fans.filter(({ others, answered }) => others.length === 0 && answered > FAVOURED);
  expect(steady.map(({ model }) => model)).toContain('base');
  expect(steady.length).toBeGreaterThan(1);
  expect(await askRare('code-4', RECOVERY_MS)).toMatchObject({ kind: 'answered' });
});

it('its own end by SIGKILL in the middle of loads: what the disk cache has is whole, or is not used', async () => {
  await region.stop('SIGKILL');
  const disk = join(dir, 'disk');
  const files = async () => (await readdir(disk).catch(() => [])).filter((name) => name.endsWith('.safetensors'));
  region = await startRegion('--disk-cache', disk);
  traffic = newTraffic();
  await survive(
    () => ({ pieces: 8, pauseMs: 10 }),
    async () => {
      await expect.poll(async () => (await files()).length, { timeout: 10_000 }).toBeGreaterThan(3);
      await expect
        .poll(async () => (await region.heartbeat()).experts.loading.length, { interval: 5, timeout: 5_000 })
        .toBeGreaterThan(0);
      await region.stop('SIGKILL');
      for (const name of await files()) expect(await sha256Of(join(disk, name))).toBe(name.slice(0, 64));
      // As after a power cut, or on a disk that forgets.
      const [first = '', second = ''] = await files();
      await writeFile(join(disk, first), (await readFile(join(disk, first))).subarray(0, fileBytes / 2));
      await writeFile(join(disk, second), flipBit(await readFile(join(disk, second))));
      await region.start();
    },
  );
  for (const check of ['size', 'chunk'])
    expect(
      await region.metric(`signpost_integrity_failures_total{from="disk",check="${check}"}`),
      check,
    ).toBeGreaterThan(0);
  const names = await files();
  expect(names.length).toBeGreaterThan(HOST_FILES);
  for (const name of names) expect(await sha256Of(join(disk, name))).toBe(name.slice(0, 64));
});

it('a restart while the store is gone: the base answers, and experts do as soon as there is a catalogue again, from the disk', async () => {
  let reads = 0;
  await survive(CLEAR, async () => {
    await sleep(500);
    await proxy.vanish();
    await region.stop('SIGTERM');
    await region.start();
    reads = deltaReads;
    await expect.poll(() => traffic.count('catalogue_unavailable'), { timeout: 15_000 }).toBeGreaterThan(0);
    // There, but not quite yet; and what it had seen before the restart, it hasn't forgotten.
    weather = (request) => (isCatalogue(request) ? { spoil: () => oldCatalogue } : 'stall');
    await proxy.reappear();
    const wentBack = () => region.problems.some((problem) => /went back from revision/.test(problem));
    await expect.poll(wentBack, { timeout: 10_000 }).toBe(true);
  });
  expect(deltaReads).toBe(reads);
});

async function sha256Of(path: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
}
