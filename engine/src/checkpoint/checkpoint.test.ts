import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeHeader } from '@signpost/contracts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { mapTensors } from './checkpoint.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-checkpoint-'));
});
afterAll(() => rm(dir, { recursive: true }));

describe('a mapped safetensors file', () => {
  it('may be larger than 4 GiB', async () => {
    const path = join(dir, 'large.safetensors');
    const half = 2.5 * 2 ** 30;
    const header = encodeHeader(
      ['first', 'second'].map((name) => ({ name, dtype: 'U8', shape: [half] }) as const),
      {},
    );
    // Holes take no room on the disk.
    const file = await open(path, 'w');
    await file.write(header);
    await file.truncate(header.length + 2 * half);
    await file.write(Uint8Array.of(42), 0, 1, header.length + 2 * half - 1);
    await file.close();
    const before = process.memoryUsage().arrayBuffers;
    const [first, second] = mapTensors(path);
    // What is mapped counts as memory for the garbage collector: nothing is before it is asked for.
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(half / 2);
    expect(first?.data.length).toBe(half);
    expect(first?.data.at(-1)).toBe(0);
    expect(second?.data.at(-1)).toBe(42);
  });

  it('may hold a tensor without elements, and none at all', async () => {
    const specs = [
      { name: 'nothing', dtype: 'F32', shape: [0, 4] },
      { name: 'one', dtype: 'U8', shape: [1] },
    ] as const;
    const path = join(dir, 'small.safetensors');
    await writeFile(path, Buffer.concat([encodeHeader(specs, {}), Uint8Array.of(7)]));
    expect(mapTensors(path).map(({ data }) => [...data])).toEqual([[], [7]]);
    await writeFile(path, encodeHeader([], {}));
    expect(mapTensors(path)).toEqual([]);
  });

  it.each([
    ['cut short', (bytes: Uint8Array) => bytes.subarray(0, bytes.length - 1), /truncated/],
    ['cut in its header', (bytes: Uint8Array) => bytes.subarray(0, 20), /truncated/],
    ['empty', () => new Uint8Array(), /too short for a safetensors file/],
  ])('that is %s is refused by name', async (_, cut, message) => {
    const path = join(dir, 'cut.safetensors');
    const whole = Buffer.concat([encodeHeader([{ name: 'a', dtype: 'U8', shape: [3] }], {}), Uint8Array.of(1, 2, 3)]);
    await writeFile(path, cut(whole));
    expect(() => mapTensors(path)).toThrow(message);
    expect(() => mapTensors(path)).toThrow(path);
  });
});
