/**
 * Every op of a device, for tests to compare with another's.
 */
import { noise } from '@signpost/kernels/testing';
import { expect } from 'vitest';
import type { Activations, Device, StepBatch } from './device.ts';
import { batchOf, HEADS, KV, PARAM, type Shape, VOCAB } from './fixtures.ts';

/** Runs every op once; each result by name. */
export async function runOps<A extends Activations>(
  device: Device<A>,
  of: Shape,
  batch = batchOf(of),
): Promise<Record<string, Float32Array>> {
  const { inDim, outDim, hasBias } = of;
  const rows = batch.tokens.length;
  const make = (cols: number) => device.activations(rows, cols);
  const results: Record<string, Float32Array> = {};
  device.begin(batch);
  const x = make(inDim);
  device.embed(x, PARAM.embedding);
  results.embed = await device.read(x);
  const normed = make(inDim);
  device.rmsNorm(normed, x, PARAM.norm, 1e-5);
  results.rmsNorm = await device.read(normed);
  const y = make(outDim);
  // Of one input: with a bias and without.
  const plain = make(outDim);
  device.linears(normed, [
    { out: y, param: PARAM.matrix, bias: hasBias ? PARAM.bias : undefined },
    { out: plain, param: PARAM.matrix },
  ]);
  results.linear = await device.read(y);
  results['linear beside it'] = await device.read(plain);
  device.swiglu(normed, normed, x);
  results.swiglu = await device.read(normed);
  device.add(normed, x);
  results.add = await device.read(normed);
  Object.assign(results, await runAttention(device, make, batch, of.seed));
  const last = make(inDim);
  device.gather(last, normed);
  results.gather = await device.read(last);
  device.linears(last, [{ out: y, param: PARAM.matrix }]);
  results['linear after gather'] = await device.read(y);
  // Wider than any row's own, and tied: the embedding is the head.
  const logits = make(outDim + of.added + 2);
  device.head(logits, last, PARAM.matrix);
  results.head = await device.read(logits);
  const tied = make(VOCAB + of.added);
  device.head(tied, last, PARAM.embedding);
  results['tied head'] = await device.read(tied);
  return results;
}

/** Queries, keys and values made of the embedding's values, so that both devices begin with the same. */
async function runAttention<A extends Activations>(
  device: Device<A>,
  make: (cols: number) => A,
  batch: StepBatch,
  seed: number,
): Promise<Record<string, Float32Array>> {
  const queries = make(HEADS * KV.headDim);
  const [keys, values] = [make(KV.kvHeads * KV.headDim), make(KV.kvHeads * KV.headDim)];
  const next = noise(seed + 2);
  for (const buffer of [queries, keys, values])
    device.write(buffer, Float32Array.from({ length: batch.tokens.length * buffer.cols }, next));
  const half = KV.headDim / 2;
  const angles = Array.from({ length: 40 * half }, (_, i) => i * 0.37);
  const table = {
    cos: Float32Array.from(angles, Math.cos),
    sin: Float32Array.from(angles, Math.sin),
    headDim: KV.headDim,
  };
  device.rmsNorm(queries, queries, PARAM.headNorm, 1e-6);
  device.rope(queries, table);
  device.rope(keys, table);
  device.storeKv(0, keys, values);
  const results: Record<string, Float32Array> = { 'rope and head norm': await device.read(queries) };
  for (const window of [0, 3]) {
    const out = make(HEADS * KV.headDim);
    device.attention(out, queries, 0, 0.4, window);
    results[`attention, window ${window}`] = await device.read(out);
  }
  return results;
}

/** What sums over so many inputs come to, where their terms don't happen to cancel out: inputs and weights are about 1, of any sign. */
export function usualSize(name: string, { inDim }: Shape): number {
  return name.startsWith('linear') || name.endsWith('head') ? Math.sqrt(inDim) / 2 : 1e-3;
}

/** @param tolerance of the largest value, or of `usually`, what that usually is: one value alone may happen to be small. */
export function expectNear(
  got: Float32Array | undefined,
  want: Float32Array,
  name: string,
  tolerance: number,
  usually: number,
): void {
  expect(got?.length, name).toBe(want.length);
  const size = want.reduce((max, value) => (Number.isFinite(value) ? Math.max(max, Math.abs(value)) : max), usually);
  want.forEach((value, i) => {
    if (value === Number.NEGATIVE_INFINITY && got?.[i] === value) return;
    if (!(Math.abs((got?.[i] ?? Number.NaN) - value) <= tolerance * size))
      throw new Error(`${name}[${i}] is ${got?.[i]}, the reference has ${value}`);
  });
}
