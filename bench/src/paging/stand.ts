/**
 * What the benchmarks of paging stand on: a random base, random experts published in an S3 server on loopback, and a link to it that is shaped.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExpertVersion } from '@signpost/contracts';
import { modelParams, openCheckpoint } from '@signpost/engine';
import { publish } from '@signpost/packer';
import { openStore, RANGE_BYTES } from '@signpost/store';
import { hasRealS3, openMemoryS3, openRealS3 } from '@signpost/store/testing';
import { type LlamaShape, writeRandomCheckpoint } from '../random-checkpoint.ts';
import { randomExpert } from '../random-expert.ts';

export const LINK = { megabits: 200, roundTripMs: 50 };
/** As many as a region has under way. */
export const PARALLEL_READS = 8;

export interface Stand {
  /** Checkpoint folder. */
  readonly base: string;
  readonly store: string;
  /** Named `expert-0` …, each a file of its own. */
  readonly experts: readonly ExpertVersion[];
  /** Puts the shaped link in front of the store, for what is started from now on. Its end takes it away. */
  readonly shape: () => Promise<() => Promise<void>>;
  readonly close: () => Promise<void>;
}

/** Makes the files, `experts` of them, and starts the server. */
export async function openStand(shape: LlamaShape, experts: number): Promise<Stand> {
  const dir = await mkdtemp(join(tmpdir(), 'signpost-paging-'));
  const home = hasRealS3() ? await openRealS3() : await openMemoryS3();
  const close = async () => {
    await home.close();
    await rm(dir, { recursive: true });
  };
  try {
    await writeRandomCheckpoint(dir, shape);
    const checkpoint = await openCheckpoint(dir);
    const base = await checkpoint.digest();
    const { specs } = modelParams(checkpoint.config);
    const store = openStore(home.url());
    const versions: ExpertVersion[] = [];
    for (let i = 0; i < experts; i++) {
      const file = join(dir, 'expert.delta.safetensors');
      await writeFile(file, randomExpert(base, specs, i + 1));
      versions.push((await publish(store, file, { name: `expert-${i}` })).version);
      await rm(file);
    }
    if (new Set(versions.map(({ digest }) => digest)).size !== experts) throw new Error('two experts have one digest');
    const server = hasRealS3() ? 'versitygw' : 'the S3 server of the tests, in memory';
    const megabytes = ((versions[0]?.bytes ?? 0) / 1e6).toFixed(1);
    console.log(`store: ${server}; ${experts} experts of ${megabytes} MB`);
    return { base: dir, store: store.url, experts: versions, shape: () => shapeLink(), close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Until its end, this process's S3 endpoint is the link's near end. */
async function shapeLink(): Promise<() => Promise<void>> {
  const direct = process.env.AWS_ENDPOINT_URL_S3 ?? '';
  const { port, close } = await startLink(Number(new URL(direct).port));
  process.env.AWS_ENDPOINT_URL_S3 = `http://127.0.0.1:${port}`;
  return async () => {
    process.env.AWS_ENDPOINT_URL_S3 = direct;
    await close();
  };
}

/** The link to a port of this machine, in a process of its own. */
export async function startLink(
  behind: number,
): Promise<{ readonly port: number; readonly close: () => Promise<void> }> {
  const script = join(import.meta.dirname, 'shaped-link.mjs');
  const link = fork(script, [String(behind), String(LINK.megabits), String(LINK.roundTripMs)], { execArgv: [] });
  const [{ port }] = (await once(link, 'message')) as [{ port: number }];
  return {
    port,
    async close() {
      const exited = once(link, 'exit');
      link.kill();
      await exited;
    },
  };
}

/** Reads an expert's object by as many ranges at once as a region has under way, and throws it away: no hash, no slot. Milliseconds. */
export class PlainDownload {
  readonly #store;

  /** By the endpoint that is set now. Connections stay open between downloads, as a region's do. */
  constructor(url: string) {
    this.#store = openStore(url);
  }

  async ms({ key, bytes, chunks }: ExpertVersion): Promise<number> {
    const size = Math.max(RANGE_BYTES, chunks?.bytes ?? bytes);
    const starts = Array.from({ length: Math.ceil(bytes / size) }, (_, i) => i * size);
    const begun = performance.now();
    const read = async () => {
      for (let start = starts.shift(); start !== undefined; start = starts.shift())
        await this.#store.read(key, { range: { start, end: Math.min(start + size, bytes) } });
    };
    await Promise.all(Array.from({ length: PARALLEL_READS }, read));
    return performance.now() - begun;
  }
}

let state = 0x2545f491;
/** A seeded whole number below `n`. */
export function draw(n: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % n;
}

/** A prompt that nobody has seen. */
export function freshPrompt(tokens: number): number[] {
  return Array.from({ length: tokens }, () => 300 + draw(3_000));
}

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}
