import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { instructionSets } from './index.ts';
import { type NativeSha256, sha256With } from './sha256.ts';

/** Longer than what is read at once, so that ranges of every length end in the middle of a chunk or a block. */
const FILE_BYTES = 700_000;
const { sha256Ranges: native } = createRequire(import.meta.url)('../build/Release/kernels.node') as {
  readonly sha256Ranges?: NativeSha256;
};

/** With the vectors of each instruction set, whatever else this machine has. */
const byLanes = instructionSets()
  .filter((set) => set.startsWith('avx') && set !== 'avx512-vnni')
  .map((set): readonly [string, NativeSha256, number] => [
    `the lanes of ${set}`,
    (paths, offsets, lengths, coresLeft) =>
      native?.(paths, offsets, lengths, coresLeft, set) ?? Promise.reject(new Error('the addon has no SHA-256')),
    40,
  ]);

let dir: string;
let path: string;
const bytes = Uint8Array.from({ length: FILE_BYTES }, (_, i) => (i * 31 + (i >> 8)) % 253);
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'signpost-sha256-'));
  path = join(dir, 'file');
  writeFileSync(path, bytes);
});
afterAll(() => rmSync(dir, { recursive: true }));

const wanted = (offset: number, length: number) =>
  createHash('sha256')
    .update(bytes.subarray(offset, offset + length))
    .digest('hex');

// Of more ranges than one thread has lanes, too, and of many that are about as long: several threads share those.
describe.each([
  ...(native === undefined ? [] : ([['instructions of this machine', native, 40]] as const)),
  ...byLanes,
  ['OpenSSL', undefined, 5] as const,
])('SHA-256 by %s', (_, implementation, numRuns) => {
  it('is that of every range, however long and however many', async () => {
    const range = fc.tuple(fc.nat(FILE_BYTES), fc.oneof(fc.nat(200), fc.nat(FILE_BYTES)));
    await fc.assert(
      fc.asyncProperty(fc.array(range, { maxLength: 60 }), async (asked) => {
        const ranges = asked.map(([offset, length]) => ({
          path,
          offset,
          bytes: Math.min(length, FILE_BYTES - offset),
        }));
        const got = await sha256With(implementation, ranges, ranges.length % 2);
        expect(got).toEqual(ranges.map((own) => wanted(own.offset, own.bytes)));
      }),
      { numRuns },
    );
  });

  it('names the file that is missing or too short', async () => {
    const missing = join(dir, 'none');
    await expect(sha256With(implementation, [{ path: missing, offset: 0, bytes: 1 }], 0)).rejects.toThrow(missing);
    const long = [
      { path, offset: 0, bytes: 10 },
      { path, offset: 5, bytes: FILE_BYTES },
    ];
    await expect(sha256With(implementation, long, 0)).rejects.toThrow(`${path} was cut short`);
  });
});

it('the addon refuses arguments of the wrong kind instead of crashing', () => {
  if (native === undefined) return;
  expect(() => native(['x'], new Float64Array(2), new Float64Array(1), 0)).toThrow(/offsets doesn't fit/);
  expect(() => native(['x'], Float64Array.of(-1), Float64Array.of(1), 0)).toThrow(/whole numbers from 0/);
  expect(() => Reflect.apply(native, undefined, [[5], Float64Array.of(0), Float64Array.of(1), 0])).toThrow(/a path/);
});

it('ends before the thread that asked for it does', async () => {
  const addon = join(import.meta.dirname, '../build/Release/kernels.node');
  const code = `
    const { sha256Ranges } = require(${JSON.stringify(addon)});
    const { parentPort, workerData: path } = require('node:worker_threads');
    for (let i = 0; i < 50; i++) sha256Ranges?.([path], Float64Array.of(0), Float64Array.of(${FILE_BYTES}), 0);
    parentPort.postMessage('begun');`;
  for (let round = 0; round < 10; round++) {
    const worker = new Worker(code, { eval: true, workerData: path });
    await once(worker, 'message');
    expect(await worker.terminate()).toBe(1);
  }
});
