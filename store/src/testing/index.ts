/**
 * Places for stores in tests, here and in the rooms that use a store.
 */
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findGateway, startGateway } from './gateway.ts';
import { S3Server, type S3ServerOptions, TEST_BUCKET } from './s3-server.ts';

export { type Fault, type FaultyProxy, flipBit, type ProxiedRequest, startFaultyProxy } from './faults.ts';
export { interceptStore } from './intercept.ts';
export { type S3RequestInfo, TEST_BUCKET } from './s3-server.ts';
export { serveStore } from './web-server.ts';

/** A folder or server that stores live in. */
export interface StoreHome {
  /** A URL nobody has used yet. */
  readonly url: () => string;
  readonly close: () => Promise<void>;
}

export interface StoreKind {
  readonly name: string;
  /** Whether this machine has what it takes. */
  readonly isThere: () => boolean;
  readonly open: () => Promise<StoreHome>;
}

/** Every kind of store, to run the same tests over. */
export const STORE_KINDS: readonly StoreKind[] = [
  { name: 'a folder', isThere: () => true, open: openFolder },
  { name: 'S3 in memory', isThere: () => true, open: () => openMemoryS3({ pageSize: 3 }) },
  { name: 'a real S3 server (skipped where versitygw is not installed)', isThere: hasRealS3, open: openRealS3 },
];

const CREDENTIALS = { id: 'signpost', secret: 'signpost-test-secret' };

async function openFolder(): Promise<StoreHome> {
  const root = await mkdtemp(join(tmpdir(), 'signpost-store-'));
  return { url: () => `file://${root}/${randomUUID()}`, close: () => rm(root, { recursive: true }) };
}

/** The S3 server in memory. */
export async function openMemoryS3(options: S3ServerOptions = {}): Promise<StoreHome> {
  const server = new S3Server(options);
  return openBucket(await server.listen(), () => server.close());
}

export function hasRealS3(): boolean {
  return findGateway() !== undefined;
}

/** A real S3 server, where `hasRealS3`. */
export async function openRealS3(): Promise<StoreHome> {
  const path = findGateway();
  if (path === undefined) throw new Error('versitygw is not installed');
  const { endpoint, close } = await startGateway(path, CREDENTIALS);
  return openBucket(endpoint, close);
}

/** Until it is closed, this process's `s3://` stores are at `endpoint`. */
function openBucket(endpoint: string, close: () => Promise<void>): StoreHome {
  const settings = {
    AWS_ENDPOINT_URL_S3: endpoint,
    AWS_REGION: 'us-east-1',
    AWS_ACCESS_KEY_ID: CREDENTIALS.id,
    AWS_SECRET_ACCESS_KEY: CREDENTIALS.secret,
  };
  const before = Object.keys(settings).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, settings);
  return {
    url: () => `s3://${TEST_BUCKET}/tests/${randomUUID()}`,
    async close() {
      for (const [name, value] of before) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
      await close();
    },
  };
}
