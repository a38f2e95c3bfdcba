/**
 * What is S3's alone: uploads in parts, and what goes wrong between here and there.
 */
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openStore, S3Store, WriteConflict } from './index.ts';
import {
  hasRealS3,
  openMemoryS3,
  openRealS3,
  type S3RequestInfo,
  type StoreHome,
  TEST_BUCKET,
} from './testing/index.ts';

const PART = 5 * 2 ** 20;
const TAIL = 2_500_000;
const data = randomBytes(3 * PART + TAIL);
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** `bytes` in chunks that fit no part. */
async function* stream(bytes: Uint8Array, failAt = Number.POSITIVE_INFINITY): AsyncGenerator<Uint8Array> {
  const step = 1_000_003;
  for (let at = 0; at < bytes.byteLength; at += step) {
    if (at >= failAt) throw new Error('killed');
    yield bytes.subarray(at, at + step);
  }
}

let home: StoreHome;
let prefix: string;
let requests: S3RequestInfo[];
let refuse: (request: S3RequestInfo) => number | undefined;
/** Numbers of the parts sent. */
const sent = () =>
  requests
    .flatMap(({ method, query }) =>
      method === 'PUT' && query.has('partNumber') ? [Number(query.get('partNumber'))] : [],
    )
    .sort();
const partsSent = () => sent().length;
const open = () => new S3Store(TEST_BUCKET, prefix, { partBytes: PART });
/** Keys of unfinished uploads; ends them. */
const unfinished = (store: S3Store) => store.sweep(new Date(Date.now() + 60_000));

beforeEach(async () => {
  requests = [];
  refuse = () => undefined;
  prefix = randomUUID();
  home = await openMemoryS3({
    pageSize: 2,
    onRequest: (request) => {
      requests.push(request);
      return refuse(request);
    },
  });
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await home.close();
});

describe('an upload in parts', () => {
  it('is the stream’s bytes, sent once, in parts of one size', async () => {
    const store = open();
    const { bytes, etag } = await store.write('k', stream(data), { ifNoneMatch: '*' });
    expect(bytes).toBe(data.byteLength);
    expect(await store.head('k')).toEqual({ bytes, etag });
    expect(sha256((await store.read('k')).data)).toBe(sha256(data));
    expect(requests.flatMap(({ query, bytes: size }) => (query.has('partNumber') ? [size] : [])).sort()).toEqual(
      [PART, PART, PART, TAIL].sort(),
    );
  });

  it('of bytes in memory is the same', async () => {
    const store = open();
    await store.write('k', data);
    expect(partsSent()).toBe(4);
    expect(sha256((await store.read('k')).data)).toBe(sha256(data));
  });

  it('holds no more than a few parts of the stream at once', async () => {
    const parts = 16;
    let read = 0;
    let held = 0;
    const zeros = async function* () {
      for (let i = 0; i < parts; i++) {
        read += 1;
        held = Math.max(held, read - partsSent());
        yield new Uint8Array(PART);
      }
    };
    await open().write('k', zeros(), { ifNoneMatch: '*' });
    expect(partsSent()).toBe(parts);
    expect(held).toBeLessThanOrEqual(7);
  });

  it('that was killed is resumed: only what is missing or differs is sent', async () => {
    await expect(open().write('k', stream(data, 2 * PART + 1e6), { ifNoneMatch: '*' })).rejects.toThrow('killed');
    expect(partsSent()).toBe(2);
    requests = [];
    await open().write('k', stream(data), { ifNoneMatch: '*' });
    expect(partsSent()).toBe(2);
    expect(sha256((await open().read('k')).data)).toBe(sha256(data));
    expect(await unfinished(open())).toEqual([]);
  });

  it('keeps no part of an unfinished upload that holds other bytes', async () => {
    const other = Uint8Array.from(data);
    other.fill(7, PART, PART + 10);
    await expect(open().write('k', stream(other, 3 * PART), { ifNoneMatch: '*' })).rejects.toThrow('killed');
    requests = [];
    await open().write('k', stream(data), { ifNoneMatch: '*' });
    expect(sent()).toEqual([2, 4]);
    expect(sha256((await open().read('k')).data)).toBe(sha256(data));
  });

  it('is not resumed by another key that begins the same', async () => {
    await expect(open().write('k2', stream(data, 3 * PART), { ifNoneMatch: '*' })).rejects.toThrow('killed');
    requests = [];
    await open().write('k', stream(data), { ifNoneMatch: '*' });
    expect(partsSent()).toBe(4);
    expect(await unfinished(open())).toEqual(['k2']);
  });

  it('that could not be resumed is aborted when it fails', async () => {
    await expect(open().write('k', stream(data, 2 * PART + 1e6))).rejects.toThrow('killed');
    expect(partsSent()).toBe(2);
    expect(await unfinished(open())).toEqual([]);
  });

  it('that lost to another writer is aborted', async () => {
    await open().write('k', new Uint8Array(1));
    await expect(open().write('k', stream(data), { ifNoneMatch: '*' })).rejects.toThrow(WriteConflict);
    expect(await unfinished(open())).toEqual([]);
    expect((await open().head('k'))?.bytes).toBe(1);
  });

  it('by several writers at once ends in one whole object', async () => {
    await expect(open().write('k', stream(data, 3 * PART), { ifNoneMatch: '*' })).rejects.toThrow('killed');
    const results = await Promise.allSettled(
      Array.from({ length: 4 }, () => open().write('k', stream(data), { ifNoneMatch: '*' })),
    );
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const result of results) if (result.status === 'rejected') expect(result.reason).toBeInstanceOf(WriteConflict);
    expect(sha256((await open().read('k')).data)).toBe(sha256(data));
  });
});

// Skipped where versitygw is not installed: see testing/gateway.ts.
describe.skipIf(!hasRealS3())('an upload in parts to a real S3 server', () => {
  it('is whole, loses to an object that is there, and is resumed', async () => {
    const real = await openRealS3();
    try {
      await expect(open().write('k', stream(data, 3 * PART), { ifNoneMatch: '*' })).rejects.toThrow('killed');
      const { etag } = await open().write('k', stream(data), { ifNoneMatch: '*' });
      expect(await open().head('k')).toEqual({ bytes: data.byteLength, etag });
      expect(sha256((await open().read('k')).data)).toBe(sha256(data));
      await expect(open().write('k', stream(data), { ifNoneMatch: '*' })).rejects.toThrow(WriteConflict);
      expect(await unfinished(open())).toEqual([]);
      await expect(open().write('k2', stream(data, 2 * PART + 1e6))).rejects.toThrow('killed');
      expect(await unfinished(open())).toEqual([]);
      await expect(open().write('k3', stream(data, 3 * PART), { ifNoneMatch: '*' })).rejects.toThrow('killed');
      expect(await open().sweep(new Date(0))).toEqual([]);
      expect(await unfinished(open())).toEqual(['k3']);
    } finally {
      await real.close();
    }
  });
});

describe('what goes wrong', () => {
  const bytes = new Uint8Array(1);

  it('says which bucket, and to check its name', async () => {
    await expect(openStore('s3://no-such/x').read('k')).rejects.toThrow(
      /^can't read s3:\/\/no-such\/x\/k \(NoSuchBucket: .*\); check the bucket's name/,
    );
  });

  it('says what was refused, and to check the policy', async () => {
    refuse = () => 403;
    const store = open();
    const where = `${TEST_BUCKET}/${prefix}`;
    await expect(store.write('k', bytes)).rejects.toThrow(`can't write s3://${where}/k (AccessDenied`);
    await expect(store.head('k')).rejects.toThrow(`can't look up s3://${where}/k`);
    await expect(store.list('')).rejects.toThrow(`can't list s3://${where} (`);
    await expect(store.delete('k')).rejects.toThrow(`can't delete s3://${where}/k`);
    await expect(store.sweep(new Date())).rejects.toThrow(/check the credentials.*s3:GetObject/);
  });

  it('says to check the network and the endpoint when nobody answers', async () => {
    vi.stubEnv('AWS_ENDPOINT_URL_S3', 'http://127.0.0.1:1');
    await expect(open().read('k')).rejects.toThrow(/can't read .*check the network, and AWS_ENDPOINT_URL_S3/);
  });

  it('says which setting is missing', async () => {
    vi.stubEnv('AWS_CONFIG_FILE', '/dev/null');
    vi.stubEnv('AWS_REGION', undefined);
    await expect(open().read('k')).rejects.toThrow(/set AWS_REGION/);
    vi.stubEnv('AWS_REGION', 'us-east-1');
    vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', '/dev/null');
    vi.stubEnv('AWS_EC2_METADATA_DISABLED', 'true');
    vi.stubEnv('AWS_ACCESS_KEY_ID', undefined);
    await expect(open().read('k')).rejects.toThrow(/set AWS_ACCESS_KEY_ID/);
  });

  it.each(['s3://', 's3:///x', 's3://Bad_Bucket', 's3://b/x'])('refuses %s, which names no bucket', (url) => {
    expect(() => openStore(url)).toThrow(/expected s3:\/\/BUCKET\/PREFIX/);
  });

  it('refuses a prefix that is no key', () => {
    expect(() => openStore('s3://bucket/../x')).toThrow(/is no object key/);
    expect(openStore('s3://bucket/a/b/').url).toBe('s3://bucket/a/b');
    expect(openStore('s3://bucket').url).toBe('s3://bucket');
  });
});
