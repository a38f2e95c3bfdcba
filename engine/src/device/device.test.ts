/**
 * Every op of the CPU device against the reference, for every instruction set of this machine, over odd shapes; and what devices refuse.
 */
import { instructionSets, setThreads, threads } from '@signpost/kernels';
import fc from 'fast-check';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { CpuDevice } from './cpu/cpu-device.ts';
import type { Device, StepBatch } from './device.ts';
import {
  ADDING_SLOT,
  batchOf,
  configOf,
  fill,
  HEADS,
  PARAM,
  type Shape,
  SLOTS,
  shape,
  storageOf,
  VOCAB,
} from './fixtures.ts';
import { ReferenceDevice } from './reference/reference-device.ts';
import { expectNear, runOps, usualSize } from './run-ops.ts';
import type { Gpu } from './webgpu/adapter.ts';
import { openTestGpu } from './webgpu/testing.ts';
import { WebGpuDevice } from './webgpu/webgpu-device.ts';

/**
 * Of the largest value: what float32 sums differ by from float64 ones, and what activations rounded to 16 bits before they meet quantised weights add.
 * Where terms cancel out, that is more than the 2^-16 of a single one.
 */
const TOLERANCE = { stored: 3e-5, q8: 5e-4, q4: 5e-4 } as const;

const maxThreads = threads();
afterEach(() => setThreads(maxThreads));

describe.each(instructionSets())('the cpu device (%s)', (instructionSet) => {
  it('computes what the reference computes, over any shapes', async () => {
    await fc.assert(
      fc.asyncProperty(shape, async (of) => {
        const [cpu, reference] = [new CpuDevice(configOf(of), instructionSet), new ReferenceDevice(configOf(of))];
        for (const device of [cpu, reference]) fill(device, of);
        const [got, want] = [await runOps(cpu, of), await runOps(reference, of)];
        for (const [name, values] of Object.entries(want))
          expectNear(got[name], values, name, TOLERANCE[of.format], usualSize(name, of));
      }),
      { numRuns: 150 },
    );
  });

  it('has nothing left of what was in its slots before', async () => {
    await fc.assert(
      fc.asyncProperty(shape, shape, async (before, now) => {
        const of = { ...now, inDim: before.inDim, outDim: before.outDim };
        const [used, fresh] = [
          new CpuDevice(configOf(of), instructionSet),
          new CpuDevice(configOf(of), instructionSet),
        ];
        fill(used, before);
        if (before.seed % 2 === 0) for (let slot = 0; slot < SLOTS; slot++) used.clearSlot(slot);
        for (const device of [used, fresh]) fill(device, of);
        expect(await runOps(used, of)).toEqual(await runOps(fresh, of));
      }),
      { numRuns: 20 },
    );
  });

  it('gives a row the same bits alone, in any batch, and with any number of threads', async () => {
    await fc.assert(
      fc.asyncProperty(shape, fc.nat(), async (of, pick) => {
        const device = new CpuDevice(configOf(of), instructionSet);
        fill(device, of);
        const batch = batchOf(of);
        setThreads(1 + (pick % 3));
        const together = await runOps(device, of, batch);
        const row = pick % batch.tokens.length;
        const s = batch.sequenceStart.findLastIndex((start) => start <= row);
        const [from, to] = [batch.mixtureStart[row] ?? 0, batch.mixtureStart[row + 1] ?? 0];
        setThreads(1);
        const alone = await runOps(device, of, {
          ...batch,
          tokens: batch.tokens.slice(row, row + 1),
          positions: batch.positions.slice(row, row + 1),
          sequenceStart: Int32Array.of(0, 1),
          blockTable: batch.blockTable.slice(s * batch.blocksPerSequence, (s + 1) * batch.blocksPerSequence),
          mixtureStart: Int32Array.of(0, to - from),
          mixtureSlots: batch.mixtureSlots.slice(from, to),
          mixtureWeights: batch.mixtureWeights.slice(from, to),
          logitRows: Int32Array.of(0),
        });
        const expectSame = (name: string, at: number) => {
          const values = alone[name] ?? new Float32Array();
          const cols = values.length;
          expect(together[name]?.slice(at * cols, (at + 1) * cols), name).toEqual(values);
        };
        for (const name of ['embed', 'rmsNorm', 'linear', 'linear beside it', 'swiglu', 'add']) expectSame(name, row);
        const logitRow = batch.logitRows.indexOf(row);
        if (logitRow !== -1) for (const name of ['head', 'tied head']) expectSame(name, logitRow);
      }),
      { numRuns: 100 },
    );
  });
});

const PLAIN: Shape = {
  seed: 1,
  inDim: 40,
  outDim: 8,
  dtype: 'BF16',
  format: 'stored',
  planes: 1,
  scale: 'row',
  isExact: false,
  hasBias: false,
  added: 2,
  sequences: [
    { rows: 3, past: 0, experts: [0] },
    { rows: 1, past: 5, experts: [] },
  ],
};

const gpu = await openTestGpu();
afterAll(() => gpu?.close());

function openOn(shared: Gpu): Promise<Device> {
  const layout = { storage: storageOf(PLAIN), groups: [], sections: [], rows: 8, heads: HEADS };
  return WebGpuDevice.open({ ...shared, close() {} }, configOf(PLAIN), layout);
}

describe.each([
  ['cpu', async () => new CpuDevice(configOf(PLAIN))],
  ['reference', async () => new ReferenceDevice(configOf(PLAIN))],
  ...(gpu === undefined ? [] : [['webgpu', () => openOn(gpu)]]),
] as [string, () => Promise<Device>][])('%s refuses', (_, create) => {
  const bad: [string, Partial<StepBatch>, RegExp][] = [
    ['positions beyond the blocks', { positions: Int32Array.of(0, 1, 2, 99) }, /position 99 is beyond/],
    ['positions with a gap', { positions: Int32Array.of(0, 2, 3, 5) }, /consecutive/],
    ['a negative position', { positions: Int32Array.of(-1, 0, 1, 5) }, /position -1/],
    ['a block that does not exist', { blockTable: new Int32Array(10).fill(24) }, /block 24 does not exist/],
    ['a missing block', { blockTable: new Int32Array(10).fill(-1) }, /block -1 does not exist/],
    ['a slot that does not exist', { mixtureSlots: Int32Array.of(0, 0, SLOTS) }, /slot 3 does not exist/],
    ['mixtures that end elsewhere', { mixtureStart: Int32Array.of(0, 1, 2, 3, 4) }, /mixtureStart must end/],
    ['sequences that end elsewhere', { sequenceStart: Int32Array.of(0, 3, 5) }, /sequenceStart/],
    ['sequences that go back', { sequenceStart: Int32Array.of(0, 5, 4) }, /sequenceStart|must not fall/],
    ['logit rows beyond the step', { logitRows: Int32Array.of(4) }, /logitRows/],
    ['logit rows out of order', { logitRows: Int32Array.of(2, 1) }, /logitRows/],
    ['a negative token', { tokens: Int32Array.of(0, 1, -2, 0) }, /token -2 does not exist/],
  ];
  it.each(bad)('a batch with %s', async (_name, change, message) => {
    const device = await create();
    fill(device, PLAIN);
    expect(() => device.begin({ ...batchOf(PLAIN), ...change })).toThrow(RangeError);
    expect(() => device.begin({ ...batchOf(PLAIN), ...change })).toThrow(message);
  });

  it('a token beyond the vocabulary, wrong sizes, and slots and parameters that do not exist', async () => {
    const device = await create();
    fill(device, PLAIN);
    device.begin({ ...batchOf(PLAIN), tokens: Int32Array.of(0, 1, VOCAB, 0) });
    expect(() => device.embed(device.activations(4, 40), PARAM.embedding)).toThrow(/token 11 does not exist/);
    expect(() => device.embed(device.activations(3, 40), PARAM.embedding)).toThrow(/room for 3 rows, the step has 4/);
    expect(() =>
      device.linears(device.activations(4, 40), [{ out: device.activations(4, 9), param: PARAM.matrix }]),
    ).toThrow(/is \(8, 40\), the activations are 40 to 9/);
    expect(() => device.loadParam(PARAM.norm, 'BF16', new Uint8Array(10), 'stored')).toThrow(RangeError);
    const plane = { signs: new Uint32Array(8 * 2), rowScale: new Float32Array(8) };
    expect(() => device.loadDelta(0, PARAM.matrix, { planes: [{ ...plane, rowScale: new Float32Array(7) }] })).toThrow(
      RangeError,
    );
    expect(() => device.loadDelta(0, PARAM.matrix, { planes: [{ ...plane, signs: new Uint32Array(8) }] })).toThrow(
      RangeError,
    );
    const ragged = new Uint16Array(41);
    expect(() => device.loadDelta(0, PARAM.matrix, { planes: [], added: ragged })).toThrow(/no whole rows/);
    expect(() => device.loadDelta(SLOTS, PARAM.matrix, { planes: [plane] })).toThrow(/slot 3 does not exist/);
    expect(() => device.loadDelta(0, 5, { planes: [plane] })).toThrow(RangeError);
  });

  it('tokens of another expert, logits without room for added rows, and mixtures of two experts that add rows', async () => {
    const device = await create();
    fill(device, PLAIN);
    const added = (experts: readonly number[], token: number) => {
      const shape = { ...PLAIN, sequences: [{ rows: 1, past: 0, experts }] };
      device.begin({ ...batchOf(shape), tokens: Int32Array.of(token) });
      return device.activations(1, 40);
    };
    device.embed(added([0, ADDING_SLOT], VOCAB + 1), PARAM.embedding);
    expect(() => device.embed(added([ADDING_SLOT], VOCAB + 2), PARAM.embedding)).toThrow(/token 13 does not exist/);
    expect(() => device.embed(added([0], VOCAB), PARAM.embedding)).toThrow(/token 11 does not exist/);
    const x = added([ADDING_SLOT], 0);
    expect(() => device.head(device.activations(1, 9), x, PARAM.matrix)).toThrow(/10 outputs, there is room for 9/);
    device.head(device.activations(1, 10), x, PARAM.matrix);
    device.loadDelta(0, PARAM.matrix, { planes: [], added: new Uint16Array(40) });
    const both = added([0, ADDING_SLOT], 0);
    expect(() => device.head(device.activations(1, 10), both, PARAM.matrix)).toThrow(/two experts .* add rows/);
    device.clearSlot(0);
    device.head(device.activations(1, 10), both, PARAM.matrix);
  });
});
