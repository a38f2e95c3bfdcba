/**
 * A row's result has the same bits whatever else is in the batch: what prefix caching, preemption and resumed streams rely on.
 */
import { instructionSets, setThreads, threads } from '@signpost/kernels';
import { noise } from '@signpost/kernels/testing';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { type CpuActivations, CpuDevice } from './cpu/cpu-device.ts';
import type { DeviceConfig, StepBatch } from './device.ts';
import { configOf, fill, HEADS, KV, PARAM, type Shape, SLOTS, shape } from './fixtures.ts';

const maxThreads = threads();
afterEach(() => setThreads(maxThreads));

/** Enough for any test's rows, none used twice. */
const BLOCKS = 120;

interface Term {
  readonly slot: number;
  readonly weight: number;
}

/** One sequence of rows from `past` on, each with its own mixture. */
function sequenceBatch(past: number, mixtures: readonly (readonly Term[])[]): StepBatch {
  const rows = mixtures.length;
  const blocks = Math.ceil((past + rows) / KV.blockTokens);
  const starts = [0];
  for (const terms of mixtures) starts.push((starts.at(-1) ?? 0) + terms.length);
  return {
    tokens: new Int32Array(rows),
    positions: Int32Array.from({ length: rows }, (_, i) => past + i),
    sequenceStart: Int32Array.of(0, rows),
    blockTable: Int32Array.from({ length: blocks }, (_, i) => (i * 7 + 3) % BLOCKS),
    blocksPerSequence: blocks,
    mixtureStart: Int32Array.from(starts),
    mixtureSlots: Int32Array.from(mixtures.flat(), ({ slot }) => slot),
    mixtureWeights: Float32Array.from(mixtures.flat(), ({ weight }) => weight),
    logitRows: Int32Array.of(),
  };
}

function put(x: CpuActivations, rows: readonly Float32Array[]): CpuActivations {
  const stride = x.data.length / x.capacity;
  for (const [row, values] of rows.entries()) x.data.set(values, row * stride);
  return x;
}

function randomRows(count: number, cols: number, next: () => number): Float32Array[] {
  return Array.from({ length: count }, () => Float32Array.from({ length: cols }, next));
}

const roomy = (of: Shape): DeviceConfig => ({ ...configOf(of), kv: { ...KV, blocks: BLOCKS } });

/** As `toEqual`, without printing thousands of numbers. */
function expectBits(got: ArrayLike<number>, want: ArrayLike<number>, name: string): void {
  expect(got.length, name).toBe(want.length);
  for (let i = 0; i < want.length; i++) {
    if (!Object.is(got[i], want[i])) throw new Error(`${name}: value ${i} is ${got[i]}, in the whole batch ${want[i]}`);
  }
}

describe.each(instructionSets())('on the cpu (%s), bits do not depend on the batch', (instructionSet) => {
  const mixture = fc.array(fc.record({ slot: fc.nat(SLOTS - 1), weight: fc.constantFrom(1, 0.5, -0.3) }), {
    maxLength: 3,
  });

  it('of a linear layer: alone, among 200 rows of few mixtures, among rows of as many mixtures', async () => {
    const sizes = fc.oneof(fc.integer({ min: 2, max: 24 }), fc.constantFrom(97, 110, 200));
    await fc.assert(
      fc.asyncProperty(
        shape,
        sizes,
        fc.array(mixture, { minLength: 1, maxLength: 20 }),
        fc.nat(),
        async (of, rows, mixtures, pick) => {
          const device = new CpuDevice(roomy(of), instructionSet);
          fill(device, of);
          const inputs = randomRows(rows, of.inDim, noise(of.seed + 3));
          const mixtureOf = (row: number) => mixtures[row % mixtures.length] ?? [];
          const bias = of.hasBias ? PARAM.bias : undefined;
          const linear = async (from: number, to: number) => {
            const count = to - from;
            const y = device.activations(count, of.outDim);
            device.begin(
              sequenceBatch(
                from,
                Array.from({ length: count }, (_, i) => mixtureOf(from + i)),
              ),
            );
            const x = put(device.activations(count, of.inDim), inputs.slice(from, to));
            device.linears(x, [{ out: y, param: PARAM.matrix, bias }]);
            return device.read(y);
          };
          setThreads(1 + (pick % 4));
          const together = await linear(0, rows);
          setThreads(1);
          for (const row of new Set([0, pick % rows, rows - 1])) {
            const same = together.slice(row * of.outDim, (row + 1) * of.outDim);
            expectBits(await linear(row, row + 1), same, `row ${row} of ${rows}`);
          }
          const cut = 1 + (pick % (rows - 1));
          expectBits(await linear(0, cut), together.slice(0, cut * of.outDim), `rows before ${cut}`);
          expectBits(await linear(cut, rows), together.slice(cut * of.outDim), `rows from ${cut}`);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('of what comes with linear layers: on the thread that computed them, or after all of them', async () => {
    await fc.assert(
      fc.asyncProperty(
        shape,
        fc.oneof(fc.integer({ min: 1, max: 24 }), fc.constantFrom(97, 200)),
        fc.array(mixture, { minLength: 1, maxLength: 20 }),
        fc.integer({ min: 1, max: 4 }),
        async (of, rows, mixtures, threadCount) => {
          setThreads(threadCount);
          const device = new CpuDevice(roomy(of), instructionSet);
          fill(device, of);
          const next = noise(of.seed + 3);
          const [inputs, streams] = [randomRows(rows, of.inDim, next), randomRows(rows, of.outDim, next)];
          const bias = of.hasBias ? PARAM.bias : undefined;
          device.begin(
            sequenceBatch(
              0,
              Array.from({ length: rows }, (_, row) => mixtures[row % mixtures.length] ?? []),
            ),
          );
          const x = put(device.activations(rows, of.inDim), inputs);
          const run = async (between: (out: CpuActivations) => Promise<unknown>) => {
            const stream = put(device.activations(rows, of.outDim), streams);
            const [y, up] = [device.activations(rows, of.outDim), device.activations(rows, of.outDim)];
            device.linears(x, [{ out: y, param: PARAM.matrix, bias }]);
            await between(y);
            device.add(stream, y);
            const gate = device.activations(rows, of.outDim);
            device.linears(x, [
              { out: gate, param: PARAM.matrix },
              { out: up, param: PARAM.matrix, bias },
            ]);
            await between(gate);
            device.swiglu(gate, gate, up);
            return [await device.read(stream), await device.read(y), await device.read(gate)];
          };
          const apart = await run((out) => device.read(out));
          const together = await run(async () => undefined);
          for (const [i, name] of ['stream', 'outputs', 'gated'].entries())
            expectBits(together[i] ?? [], apart[i] ?? [], name);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('of attention: a prompt in one chunk, in several, or token by token', async () => {
    // Less than a vector, whole vectors, and whole ones with a rest.
    const headDims = fc.constantFrom(6, 32, 64, 84);
    const chunks = fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 2, maxLength: 5 });
    await fc.assert(
      fc.asyncProperty(
        chunks,
        fc.constantFrom(0, 1, 5, 17),
        headDims,
        fc.nat(),
        async (sizes, window, headDim, seed) => {
          const plain = roomy({
            seed: 1,
            inDim: 4,
            outDim: 4,
            dtype: 'F32',
            format: 'stored',
            planes: 0,
            scale: 'row',
            isExact: false,
            hasBias: false,
            added: 0,
            sequences: [],
          });
          const config = { ...plain, kv: { ...plain.kv, headDim } };
          const total = sizes.reduce((sum, size) => sum + size, 0);
          const next = noise(seed + 1);
          const queries = randomRows(total, HEADS * headDim, next);
          const keys = randomRows(total, KV.kvHeads * headDim, next);
          const values = randomRows(total, KV.kvHeads * headDim, next);
          const attend = async (parts: readonly number[], threadCount: number) => {
            setThreads(threadCount);
            const device = new CpuDevice(config, instructionSet);
            const results: number[] = [];
            let past = 0;
            for (const size of parts) {
              const end = past + size;
              device.begin(
                sequenceBatch(
                  past,
                  Array.from({ length: size }, () => []),
                ),
              );
              const [k, v] = [keys, values].map((all) =>
                put(device.activations(size, KV.kvHeads * headDim), all.slice(past, end)),
              );
              if (k !== undefined && v !== undefined) device.storeKv(0, k, v);
              const out = device.activations(size, HEADS * headDim);
              device.attention(
                out,
                put(device.activations(size, HEADS * headDim), queries.slice(past, end)),
                0,
                0.4,
                window,
              );
              results.push(...(await device.read(out)));
              past = end;
            }
            return results;
          };
          const whole = await attend([total], 3);
          expect(whole.length).toBe(total * HEADS * headDim);
          expectBits(await attend(sizes, 2), whole, 'in chunks');
          expectBits(await attend(new Array<number>(total).fill(1), 1), whole, 'token by token');
        },
      ),
      { numRuns: 40 },
    );
  });
});
