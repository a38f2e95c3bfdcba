/**
 * What a slot has room for. No GPU is needed to add that up.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ParamDelta } from '../device.ts';
import type { Gpu } from './adapter.ts';
import type { Uploads } from './buffers.ts';
import { Slots } from './slots.ts';

const SHAPES = [[64, 96], [96], [40, 33], [7]] as const;
const specs = SHAPES.map((shape, i) => ({ name: `parameter-${i}`, shape }));
const SLOTS = 2;

function slotsOf(slotBytes: number, limit: number): Slots {
  const limits = { maxStorageBufferBindingSize: limit, maxBufferSize: limit };
  const gpu = { device: { limits, createBuffer: () => ({}) } } as unknown as Gpu;
  const uploads = { write: () => undefined } as unknown as Uploads;
  return new Slots(gpu, { specs, slots: SLOTS, slotBytes, sections: [0, 1, 2, 3] }, uploads);
}

const deltaOf = (param: number) => {
  const [rows, columns] = SHAPES[param] ?? [0];
  const values = rows * (columns ?? 1);
  const exact = fc.boolean().map((is) => (is ? { exact: new Uint16Array(values) } : {}));
  if (columns === undefined) return exact.map((part): ParamDelta => ({ planes: [], ...part }));
  const plane = fc.record({ perRow: fc.boolean(), perColumn: fc.boolean() }).map(({ perRow, perColumn }) => ({
    signs: new Uint32Array(rows * Math.ceil(columns / 32)),
    rowScale: new Float32Array(perRow ? rows : 1),
    ...(perColumn ? { colScale: new Float32Array(columns) } : {}),
  }));
  const added = fc.nat(3).map((count) => (count > 0 ? { added: new Uint16Array(count * columns) } : {}));
  return fc
    .tuple(fc.array(plane, { maxLength: 3 }), exact, added)
    .map(([planes, ...parts]): ParamDelta => Object.assign({ planes }, ...parts));
};
const expert = fc
  .tuple(...SHAPES.map((_, param) => fc.option(deltaOf(param), { nil: undefined })))
  .map((deltas) => deltas.flatMap((lengths, param) => (lengths === undefined ? [] : [{ param, lengths }])));

/** What is said of an expert; undefined where it fits. */
function refusal(slots: Slots, deltas: Parameters<Slots['checkRoom']>[1]): string | undefined {
  try {
    slots.checkRoom('an expert', deltas);
    return undefined;
  } catch (error) {
    return `${error}`;
  }
}

describe('the room of a slot', () => {
  it('is there for an expert if and only if all of it can be loaded, in one arena or several', () => {
    fc.assert(
      fc.property(
        expert,
        fc.integer({ min: 64, max: 16_000 }),
        fc.constantFrom(2 ** 20, 30_000),
        (deltas, bytes, limit) => {
          const slots = slotsOf(bytes, limit);
          const load = () => {
            for (const { param, lengths } of deltas) slots.load(1, param, lengths);
          };
          if (refusal(slots, deltas) === undefined) load();
          else expect(load).toThrow(/bytes, and slot 1 has/);
        },
      ),
      { numRuns: 300 },
    );
  });

  it('suffices with as many bytes as it is said to need, and not with fewer', () => {
    fc.assert(
      fc.property(fc.oneof(fc.constant([]), { arbitrary: expert, weight: 20 }), (deltas) => {
        const needed = /--slot-bytes (\d+) or more/.exec(refusal(slotsOf(16, 2 ** 20), deltas) ?? '')?.[1];
        // What has nothing fits anywhere.
        expect(needed === undefined).toBe(deltas.length === 0);
        if (needed === undefined) return;
        const bytes = Number(needed);
        expect(refusal(slotsOf(bytes, 2 ** 20), deltas)).toBeUndefined();
        expect(refusal(slotsOf(Math.max(16, bytes - 64), 2 ** 20), deltas)).toMatch(`a slot has`);
      }),
    );
  });

  it('says which parameters it is too small for, where they have memory apart', () => {
    const exact = new Uint16Array(64 * 96);
    const deltas = [{ param: 0, lengths: { planes: [], exact } }];
    expect(refusal(slotsOf(14_000, 20_000), deltas)).toMatch(
      /an expert takes 12304 bytes, and a slot has 14000, \d+ of them for parameters 0 to \d, of which it takes 12304; start/,
    );
  });
});
