/**
 * A real S3 server for tests: versitygw over a folder, where it is installed
 * (`go install github.com/versity/versitygw/cmd/versitygw@v1.8.0`).
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TEST_BUCKET } from './s3-server.ts';

const START_LIMIT_MS = 20_000;

export interface Gateway {
  readonly endpoint: string;
  readonly close: () => Promise<void>;
}

/** Undefined where it isn't installed: neither on the PATH nor where Go puts programs. */
export function findGateway(): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), join(homedir(), 'go/bin')];
  return folders.map((folder) => join(folder, 'versitygw')).find((path) => existsSync(path));
}

export async function startGateway(path: string, credentials: { id: string; secret: string }): Promise<Gateway> {
  const root = await mkdtemp(join(tmpdir(), 'signpost-gateway-'));
  await mkdir(join(root, 'data', TEST_BUCKET), { recursive: true });
  const port = await freePort();
  const endpoint = `http://127.0.0.1:${port}`;
  const { id, secret } = credentials;
  const server = spawn(
    path,
    // ETags in extended attributes, not in `--sidecar` files: those change apart from the data, so that under load a reader gets one
    // version's bytes with another's ETag, and a conditional write loses what it should have kept.
    // Connections are kept, as S3's are; unasked, it ends each after one answer.
    ['--quiet', '--keep-alive', '--port', `127.0.0.1:${port}`, 'posix', join(root, 'data')],
    { stdio: 'ignore', env: { ...process.env, ROOT_ACCESS_KEY_ID: id, ROOT_SECRET_ACCESS_KEY: secret } },
  );
  const exited = new Promise<void>((resolve) => server.once('exit', () => resolve()));
  const deadline = performance.now() + START_LIMIT_MS;
  while ((await fetch(endpoint).catch(() => undefined)) === undefined) {
    if (server.exitCode !== null || performance.now() > deadline)
      throw new Error(`${path} does not answer; does ${root} take extended attributes?`);
    await sleep(50);
  }
  return {
    endpoint,
    async close() {
      server.kill();
      await exited;
      await rm(root, { recursive: true });
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port is free');
  return address.port;
}
