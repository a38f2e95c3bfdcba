/**
 * What passes and what doesn't, through real servers behind a proxy that spoils their answers, over each kind of store on a network.
 */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { HttpStore, type ObjectStore, openStore, type RetryPolicy, S3Store } from './index.ts';
import {
  type Fault,
  openMemoryS3,
  type ProxiedRequest,
  serveStore,
  startFaultyProxy,
  TEST_BUCKET,
} from './testing/index.ts';

const data = new Uint8Array(randomBytes(200_000));
const FAST: RetryPolicy = {
  attempts: 4,
  baseDelayMs: 1,
  maxDelayMs: 5,
  deadlineMs: 5_000,
  firstIdleMs: 300,
  idleMs: 300,
  leastBytesPerSecond: 2_000,
};
const range = { start: 1_000, end: 150_000 };

let closing: (() => Promise<void>)[];
let requests: ProxiedRequest[];
/** What becomes of the requests, in order; those beyond it pass. */
let faults: (Fault | undefined)[];

async function proxied(origin: string): Promise<string> {
  const proxy = await startFaultyProxy(origin, (request) => {
    requests.push(request);
    return faults[requests.length - 1];
  });
  closing.push(proxy.close);
  return proxy.url;
}

async function openWeb(policy: RetryPolicy): Promise<ObjectStore> {
  const root = await mkdtemp(join(tmpdir(), 'signpost-retry-'));
  const behind = openStore(root);
  await behind.write('k', data);
  const server = await serveStore(behind);
  closing.push(server.close, () => rm(root, { recursive: true }));
  return new HttpStore(await proxied(server.url), policy);
}

async function openS3(policy: RetryPolicy): Promise<ObjectStore> {
  const home = await openMemoryS3();
  closing.push(home.close);
  await new S3Store(TEST_BUCKET, 'p').write('k', data);
  vi.stubEnv('AWS_ENDPOINT_URL_S3', await proxied(process.env.AWS_ENDPOINT_URL_S3 ?? ''));
  return new S3Store(TEST_BUCKET, 'p', { retries: policy });
}

beforeEach(() => {
  closing = [];
  requests = [];
  faults = [];
});
afterEach(async () => {
  vi.unstubAllEnvs();
  for (const close of closing.reverse()) await close();
});

describe.each([
  ['https://', openWeb],
  ['s3://', openS3],
])('a read from %s', (_, open) => {
  it.each<Fault>([
    { status: 500 },
    { status: 503 },
    { status: 503, body: '<html>a balancer has a page of its own</html>' },
    { status: 429 },
    'reset',
    'garble',
    'stall',
    'stall half-way',
    'cut half-way',
    'trickle',
    { spoil: (body) => body.subarray(0, body.byteLength >> 1) },
  ])('is sent again after %j', async (fault) => {
    const store = await open(FAST);
    faults = [fault, fault];
    expect((await store.read('k', { range })).data).toEqual(data.subarray(range.start, range.end));
    expect(requests).toHaveLength(3);
  });

  it('hands a range over in parts, from its first again where the transfer broke', async () => {
    const store = await open(FAST);
    faults = ['cut half-way'];
    const bytes = Math.ceil((range.end - range.start) / 5);
    const took: { readonly part: Uint8Array; readonly at: number }[] = [];
    const parts = { bytes, take: (part: Uint8Array, at: number) => void took.push({ part, at }) };
    const stored = await store.read('k', { range, parts });
    expect(stored.data.byteLength).toBe(0);
    expect(stored.bytes).toBe(data.byteLength);
    const wanted = [0, 1, 2, 3, 4].map((i) => i * bytes);
    expect(took.slice(-5).map(({ at }) => at)).toEqual(wanted);
    const before = took.slice(0, -5).map(({ at }) => at);
    expect(before).toEqual(wanted.slice(0, before.length));
    for (const { part, at } of took) {
      const start = range.start + at;
      expect(part).toEqual(data.subarray(start, Math.min(start + bytes, range.end)));
      expect(part.byteLength).toBe(part.buffer.byteLength);
    }
  });

  it.each<Fault>([{ status: 503 }, 'reset', 'stall', 'cut half-way', 'trickle'])(
    'that goes on failing with %j is sent as often as the policy says, and no more',
    async (fault) => {
      const store = await open(FAST);
      faults = Array.from({ length: 20 }, () => fault);
      await expect(store.read('k')).rejects.toThrow(/can't read .*\/k \(/);
      expect(requests).toHaveLength(FAST.attempts);
      faults = [];
      expect((await store.read('k')).data).toEqual(data);
    },
  );

  it.each([400, 401, 403, 501])('is not sent again after status %i', async (status) => {
    const store = await open(FAST);
    faults = [{ status }];
    await expect(store.read('k')).rejects.toThrow(/can't read/);
    expect(requests).toHaveLength(1);
  });

  it('waits as long as the server asks it to', async () => {
    const store = await open(FAST);
    faults = [{ status: 429, retryAfter: '1' }];
    const started = performance.now();
    expect((await store.read('k')).data).toEqual(data);
    expect(performance.now() - started).toBeGreaterThanOrEqual(990);
  });

  it('doesn’t wait beyond its deadline', async () => {
    const store = await open(FAST);
    faults = [{ status: 503, retryAfter: '3600' }];
    await expect(store.read('k')).rejects.toThrow(/can't read/);
    expect(requests).toHaveLength(1);
  });

  it.each<[string, Fault]>([
    ['while it stalls', 'stall'],
    ['half-way', 'stall half-way'],
    ['while it waits to try again', { status: 429, retryAfter: '3' }],
  ])('ends when nobody waits for it any more, %s', async (_name, fault) => {
    const store = await open({ ...FAST, firstIdleMs: 60_000, idleMs: 60_000 });
    faults = [fault];
    const controller = new AbortController();
    const read = store.read('k', { range, signal: controller.signal });
    setTimeout(() => controller.abort(new Error('left')), 100);
    await expect(read).rejects.toThrow(/^left$/);
    expect(requests).toHaveLength(1);
  });

  it('is given up soon at first, and given more time after that', async () => {
    const store = await open({ ...FAST, firstIdleMs: 200, idleMs: 60_000 });
    faults = ['stall', { pieces: 2, pauseMs: 250 }];
    expect((await store.read('k')).data).toEqual(data);
    expect(requests).toHaveLength(2);
  });

  it('that is slow but comes is not taken for stalled', async () => {
    const store = await open({ ...FAST, attempts: 1 });
    faults = [{ pieces: 8, pauseMs: FAST.idleMs / 4 }];
    const started = performance.now();
    expect((await store.read('k')).data).toEqual(data);
    expect(performance.now() - started).toBeGreaterThan(FAST.idleMs);
  });

  it('that comes a little faster than it must is read to its end, however small its pieces', async () => {
    const store = await open({ ...FAST, attempts: 1 });
    const slow = { start: 0, end: 4 * FAST.leastBytesPerSecond };
    // Four times as fast: other work on the machine makes pauses longer.
    faults = [{ pieces: 100, pauseMs: 10 }];
    expect((await store.read('k', { range: slow })).data).toEqual(data.subarray(slow.start, slow.end));
  });
});

describe('other requests to s3://', () => {
  it('are sent again by us, and not by the SDK as well', async () => {
    const store = await openS3(FAST);
    const fails = { status: 503 };
    faults = [fails, fails];
    await store.write('new', data);
    expect(requests.map(({ method }) => method)).toEqual(['PUT', 'PUT', 'PUT']);
    requests = [];
    faults = [fails, undefined];
    expect((await store.list('')).map(({ key }) => key)).toEqual(['k', 'new']);
    requests = [];
    faults = ['reset', undefined];
    await store.delete('new');
    requests = [];
    faults = Array.from({ length: 50 }, () => fails);
    await expect(store.write('new', data)).rejects.toThrow(/can't write/);
    expect(requests).toHaveLength(FAST.attempts);
  });
});
