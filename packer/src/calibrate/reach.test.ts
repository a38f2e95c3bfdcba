/**
 * How far tokens reach, against attention as the engine computes it and the definition written out.
 */
import { join } from 'node:path';
import { LayerWalk, openCheckpoint, type StageAttention } from '@signpost/engine';
import { noise } from '@signpost/kernels/testing';
import { expect, it } from 'vitest';
import { decodeFloats } from '../source/floats.ts';
import { readings } from './attention.ts';
import { Reach } from './reach.ts';

const GOLDEN = join(import.meta.dirname, '../../../test/golden/merge/base');
const at = (values: ArrayLike<number>, index: number) => values[index] ?? Number.NaN;

it('reads what the engine’s attention reads', async () => {
  const base = await openCheckpoint(GOLDEN);
  const { heads, kvHeads, headDim, hidden } = base.config;
  const sequences = Array.from({ length: 40 }, (_, s) =>
    Array.from({ length: 3 + ((s * 7) % 31) }, (_, i) => (s * 31 + i * 17) % 90),
  );
  const walk = new LayerWalk(base, sequences);
  const value = base.param({ name: 'model.layers.0.self_attn.v_proj.weight', shape: [kvHeads * headDim, hidden] });
  const weights = decodeFloats(value.dtype, value.data);
  let want: Float32Array[] = [];
  for await (const stage of walk.stages()) {
    if (stage.layer > 0) break;
    if (stage.attention !== undefined) {
      const inputs: Float32Array[] = [];
      for await (const { input } of stage.inputs()) inputs.push(input);
      for await (const attention of stage.attention())
        want.push(attended(attention, inputs.shift() ?? new Float32Array()));
    } else if (want.length > 0) {
      for await (const { input } of stage.inputs()) {
        const expected = want.shift() ?? new Float32Array();
        expect(input.length).toBe(expected.length);
        for (const [k, value] of input.entries()) expect(Math.abs(value - at(expected, k))).toBeLessThan(1e-4);
      }
      want = [];
    }
  }
  walk.close();

  function attended(attention: StageAttention, input: Float32Array): Float32Array {
    const sums = new Float32Array((input.length / hidden) * heads * headDim);
    const valueAt = (row: number, kvRow: number) => {
      let sum = 0;
      for (let k = 0; k < hidden; k++) sum += at(weights, kvRow * hidden + k) * at(input, row * hidden + k);
      return sum;
    };
    for (const { reader, head, first, shares } of readings(attention, base.config))
      for (let i = 0; i < headDim; i++) {
        const kvRow = Math.floor((head * kvHeads) / heads) * headDim + i;
        sums[(reader * heads + head) * headDim + i] = shares.reduce(
          (sum, share, t) => sum + share * valueAt(first + t, kvRow),
          0,
        );
      }
    return sums;
  }
});

const SHAPE = { heads: 2, kvHeads: 1, headDim: 4, slidingWindow: 0 };

function attention(seed: number, sequenceStart: readonly number[]): StageAttention {
  const next = noise(seed);
  const rows = sequenceStart.at(-1) ?? 0;
  const values = (cols: number) => Float32Array.from({ length: rows * cols }, next);
  return { queries: values(8), keys: values(4), sequenceStart: Int32Array.from(sequenceStart) };
}

it('sees a window’s tokens alone', () => {
  for (const { reader, first, shares } of readings(attention(1, [0, 9]), { ...SHAPE, slidingWindow: 3 })) {
    expect([first, shares.length]).toEqual([Math.max(0, reader - 2), Math.min(3, reader + 1)]);
    expect(shares.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 5);
  }
});

it('counts keys and values by the squares of what reads them, from the last layer to the first', async () => {
  const config = { ...(await openCheckpoint(GOLDEN)).config, ...SHAPE };
  const reach = new Reach(config);
  const layers = [2, 3].map((seed) => [attention(seed, [0, 5, 9]), attention(seed + 10, [0, 4])]);
  for (const chunks of layers)
    await reach.add(
      (async function* () {
        yield* chunks;
      })(),
    );
  const tokens = 13;
  const ends = Float64Array.from({ length: tokens }, (_, token) => (token % 3 === 0 ? 0 : token));
  let stream = [...ends];
  const want = layers.toReversed().map((chunks) => {
    const read = new Array<number>(tokens).fill(0);
    let before = 0;
    for (const chunk of chunks) {
      for (const { reader, first, shares } of readings(chunk, SHAPE))
        for (const [t, share] of shares.entries())
          read[before + first + t] = at(read, before + first + t) + (share ** 2 / 2) * at(stream, before + reader);
      before += chunk.sequenceStart.at(-1) ?? 0;
    }
    const own = stream;
    stream = stream.map((weight, token) => weight + at(read, token));
    return { own, read };
  });
  const share = (weights: ArrayLike<number>, token: number) => {
    const total = Array.from(weights).reduce((sum, weight) => sum + weight, 0);
    return (at(weights, token) / total + 0.1 / tokens) / 1.1;
  };
  for (const [layer, { own, read }] of reach.weights(ends).entries()) {
    const expected = want.toReversed()[layer] ?? { own: [], read: [] };
    for (let token = 0; token < tokens; token++) {
      expect(at(own, token)).toBeCloseTo(share(expected.own, token), 4);
      expect(at(read, token)).toBeCloseTo(share(expected.read, token), 3);
    }
  }
});
