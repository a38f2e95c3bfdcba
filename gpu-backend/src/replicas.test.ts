/**
 * Two replicas of a region over one store: whatever is restarted or published in whichever order, names come to stand for the same versions in both.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExpertList } from '@signpost/contracts';
import { openCheckpoint } from '@signpost/engine';
import { pack, publish } from '@signpost/packer';
import { openStore } from '@signpost/store';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type BackendHandle, startBackend } from './index.ts';

const DEMO = join(import.meta.dirname, '../../models/demo');

let dir: string;
const running = new Map<string, BackendHandle>();
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-replicas-'));
});
afterAll(async () => {
  for (const replica of running.values()) await replica.close();
  await rm(dir, { recursive: true, force: true });
});

/** A version of `math` that differs from those with another number of planes. @returns its digest. */
async function publishMath(planes: number): Promise<string> {
  const out = join(dir, `math-${planes}.delta.safetensors`);
  const base = await openCheckpoint(join(DEMO, 'base'));
  await pack(base, await openCheckpoint(join(DEMO, 'experts/math')), { name: 'math', out, scale: 'row', planes });
  return (await publish(openStore(join(dir, 'store')), out)).version.digest;
}

/** Starts a replica, or starts it again, over the disk that it has. */
async function restart(name: string): Promise<void> {
  await running.get(name)?.close();
  const settings = { base: join(DEMO, 'base'), store: join(dir, 'store'), region: 'eu', port: 0, slots: 2 };
  running.set(name, await startBackend({ ...settings, diskCache: join(dir, name), logLevel: 'silent' }));
}

interface Standing {
  /** What answers as `math`. */
  readonly answers: string | null;
  /** What `GET /v1/experts` has under that name. */
  readonly listed: string | undefined;
  readonly revision: number;
  /** By `GET /metrics`. */
  readonly measured: number;
}

async function standing(name: string): Promise<Standing> {
  const url = running.get(name)?.url;
  const body = JSON.stringify({ model: 'math', prompt: 'Hi', max_tokens: 1, temperature: 0 });
  const answer = await fetch(`${url}/v1/completions`, { method: 'POST', body });
  expect(answer.status, await answer.text()).toBe(200);
  const list = (await (await fetch(`${url}/v1/experts`)).json()) as ExpertList;
  const metrics = await (await fetch(`${url}/metrics`)).text();
  return {
    answers: answer.headers.get('x-signpost-digest'),
    listed: list.data.find(({ id }) => id === 'math')?.digest,
    revision: list.catalogue_revision,
    measured: Number(/^signpost_catalogue_revision\{.*\} (\d+)$/m.exec(metrics)?.[1]),
  };
}

const at = (digest: string, revision: number): Standing => ({
  answers: digest,
  listed: digest,
  revision,
  measured: revision,
});

it('agree after each restart, also where something was published between the two', async () => {
  const first = await publishMath(1);
  for (const name of ['a', 'b']) await restart(name);
  for (const name of ['a', 'b']) expect(await standing(name)).toEqual(at(first, 1));

  await restart('a');
  const second = await publishMath(2);
  expect(second).not.toBe(first);
  await restart('b');
  expect(await standing('b')).toEqual(at(second, 2));
  // The other one was started before that.
  await expect.poll(() => standing('a'), { timeout: 10_000 }).toEqual(at(second, 2));

  for (const name of ['b', 'a']) await restart(name);
  for (const name of ['a', 'b']) expect(await standing(name)).toEqual(at(second, 2));
});
