import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  instructionSets,
  MAP_GRANULE,
  mapFile,
  NativeDevice,
  type RawMatrix,
  releaseMapped,
  setThreads,
  signPack,
  threads,
} from './index.ts';

interface Packed {
  readonly signs: number[];
  readonly rowScale: number[];
  readonly absolute: number[];
  readonly residualSquared: number[];
}

/** The sum along a row: 16 lanes, then by halves. */
function laneSum(values: readonly number[]): number {
  let lanes = Array.from({ length: 16 }, (_, lane) =>
    values.reduce((sum, value, i) => (i % 16 === lane ? sum + value : sum), 0),
  );
  while (lanes.length > 1) {
    const half = lanes.length / 2;
    lanes = lanes.slice(0, half).map((sum, lane) => sum + (lanes[lane + half] ?? 0));
  }
  return lanes[0] ?? 0;
}

/** Plain TypeScript: differences and what a plane leaves in float32, sums in float64. */
function oracle(
  base: Float32Array,
  tuned: Float32Array,
  out: number,
  inDim: number,
  scale: 'row' | 'matrix',
  planes: number,
): { planes: Packed[]; residualSquared: number } {
  const rowSums = (of: (value: number) => number) =>
    Array.from({ length: out }, (_, row) => laneSum([...left.subarray(row * inDim, (row + 1) * inDim)].map(of)));
  const rowsSquared = () => rowSums((value) => value * value);
  const left = tuned.map((value, i) => Math.fround(value - (base[i] ?? Number.NaN)));
  const words = Math.ceil(inDim / 32);
  const packed: Packed[] = [];
  for (let plane = 0; plane < planes; plane++) {
    const signs = new Array<number>(out * words).fill(0);
    const sums = rowSums(Math.abs);
    left.forEach((value, i) => {
      const [row, col] = [Math.floor(i / inDim), i % inDim];
      const word = row * words + (col >> 5);
      if (value >= 0) signs[word] = ((signs[word] ?? 0) | (1 << (col & 31))) >>> 0;
    });
    const total = sums.reduce((sum, value) => sum + value, 0);
    const rowScale =
      scale === 'row' ? sums.map((sum) => Math.fround(sum / inDim)) : [Math.fround(total / (out * inDim))];
    left.forEach((value, i) => {
      const r = rowScale[scale === 'row' ? Math.floor(i / inDim) : 0] ?? Number.NaN;
      left[i] = value >= 0 ? Math.fround(value - r) : Math.fround(value + r);
    });
    packed.push({ signs, rowScale, absolute: sums, residualSquared: rowsSquared() });
  }
  return { planes: packed, residualSquared: rowsSquared().reduce((sum, value) => sum + value, 0) };
}

const raw = (values: Float32Array): RawMatrix => ({ dtype: 'F32', data: new Uint8Array(values.buffer) });

describe('sign packing', () => {
  it('equals the oracle bit for bit', () => {
    const sizes = fc.record({ out: fc.integer({ min: 1, max: 40 }), inDim: fc.integer({ min: 1, max: 100 }) });
    fc.assert(
      fc.property(
        sizes,
        fc.constantFrom('row' as const, 'matrix' as const),
        fc.integer({ min: 1, max: 3 }),
        fc.infiniteStream(fc.float({ min: -1, max: 1, noNaN: true })),
        ({ out, inDim }, scale, planes, values) => {
          const take = () => Float32Array.from({ length: out * inDim }, () => values.next().value ?? 0);
          const [base, tuned] = [take(), take()];
          const got = signPack(raw(base), raw(tuned), { out, inDim }, { scale, planes });
          const want = oracle(base, tuned, out, inDim, scale, planes);
          const plain = got.planes.map(({ signs, rowScale, absolute, residualSquared }) => ({
            signs: [...signs],
            rowScale: [...rowScale],
            absolute: [...absolute],
            residualSquared: [...residualSquared],
          }));
          expect(plain).toEqual(want.planes);
          expect(got.residualSquared).toBe(want.residualSquared);
        },
      ),
    );
  });

  it('widens BF16 and F16 before it takes differences', () => {
    const half = (...bits: number[]): Uint8Array => new Uint8Array(Uint16Array.from(bits).buffer);
    // 1, -2 and 1.5, -2.5 in either format.
    const brain = signPack(
      { dtype: 'BF16', data: half(0x3f80, 0xc000) },
      { dtype: 'F16', data: half(0x3e00, 0xc100) },
      { out: 1, inDim: 2 },
      { scale: 'row', planes: 1 },
    );
    expect([...(brain.planes[0]?.rowScale ?? [])]).toEqual([0.5]);
    expect([...(brain.planes[0]?.signs ?? [])]).toEqual([0b01]);
    expect(brain.differenceSquared).toBe(0.5);
  });

  it('refuses buffers that do not fit, and reports what is not finite', () => {
    const one = raw(new Float32Array(4));
    expect(() => signPack(one, one, { out: 2, inDim: 3 }, { scale: 'row', planes: 1 })).toThrow(
      /doesn't fit the shape/,
    );
    const odd = { dtype: 'F32' as const, data: new Uint8Array(new ArrayBuffer(20), 2, 16) };
    expect(() => signPack(odd, one, { out: 2, inDim: 2 }, { scale: 'row', planes: 1 })).toThrow(/not aligned/);
    const broken = raw(Float32Array.of(1, Number.NaN, 0, 0));
    expect(signPack(one, broken, { out: 2, inDim: 2 }, { scale: 'row', planes: 1 }).differenceSquared).toBeNaN();
  });
});

describe('a mapped file', () => {
  let dir: string;
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'signpost-map-'));
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  it('has the bytes of the file', () => {
    const bytes = Uint8Array.from({ length: 10_000 }, (_, i) => i % 251);
    writeFileSync(join(dir, 'x'), bytes);
    expect(new Uint8Array(mapFile(join(dir, 'x'), 0, bytes.length))).toEqual(bytes);
    writeFileSync(join(dir, 'empty'), '');
    expect(mapFile(join(dir, 'empty'), 0, 0).byteLength).toBe(0);
  });

  it('has the bytes of a part of the file, also after they have been let go of', () => {
    const bytes = Uint8Array.from({ length: MAP_GRANULE + 10_000 }, (_, i) => i % 251);
    writeFileSync(join(dir, 'long'), bytes);
    const part = new Uint8Array(mapFile(join(dir, 'long'), MAP_GRANULE, 9_000));
    expect(part).toEqual(bytes.subarray(MAP_GRANULE, MAP_GRANULE + 9_000));
    releaseMapped(part);
    expect(part).toEqual(bytes.subarray(MAP_GRANULE, MAP_GRANULE + 9_000));
    for (const [offset, length] of [
      [1, 10],
      [-MAP_GRANULE, 10],
      [MAP_GRANULE, 10_001],
      [0, 2 ** 32],
    ] as const)
      expect(() => mapFile(join(dir, 'long'), offset, length)).toThrow(/long: a part to map must lie in the file/);
  });

  it('that is missing, or is a folder, is named', () => {
    expect(() => mapFile(join(dir, 'none'), 0, 1)).toThrow(/none can't be opened: No such file/);
    expect(() => mapFile(dir, 0, 1)).toThrow(/can't be read as a file/);
    expect(() => mapFile(join(dir, 'none'), 0, 1)).toThrow(expect.objectContaining({ code: 'ENOENT', errno: -2 }));
  });
});

describe('the addon', () => {
  it('says what this machine can run, and refuses what it cannot', () => {
    expect(instructionSets()).toContain('portable');
    const create = (set: string) =>
      new NativeDevice(Int32Array.of(1, 1), 0, Int32Array.of(1, 1, 1, 1, 2), set as 'portable');
    expect(() => create('sse9')).toThrow(/no instruction set "sse9" here; this machine has: .*portable/);
    expect(() => new NativeDevice(Int32Array.of(1), 0, Int32Array.of(1, 1, 1, 1, 2))).toThrow(/pairs/);
    expect(() => new NativeDevice(Int32Array.of(0, 1), 0, Int32Array.of(1, 1, 1, 1, 2))).toThrow(/positive/);
  });

  it('bounds its threads', () => {
    const before = threads();
    setThreads(3);
    expect(threads()).toBe(3);
    setThreads(before);
    expect(() => setThreads(0)).toThrow(/threads must be an integer from 1/);
  });

  it('refuses arguments of the wrong kind instead of crashing', () => {
    const device = new NativeDevice(Int32Array.of(4, 32), 1, Int32Array.of(1, 1, 4, 1, 2));
    expect(() => device.loadParam(0, 2, new Uint8Array(4), 0)).toThrow(/has 4 bytes, its shape needs 512/);
    expect(() => device.loadParam(7, 2, new Uint8Array(4), 0)).toThrow(/param must be an integer from 0 to 0/);
    expect(() => device.embed(new Float32Array(32), 32, 0)).toThrow(/not loaded/);
    expect(() => Reflect.apply(device.embed, device, [[], 32, 0])).toThrow(/not the typed array expected/);
    expect(() => Reflect.apply(device.begin, device, [])).toThrow(RangeError);
  });
});
