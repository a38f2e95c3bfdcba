/**
 * An expert with random signs in every linear layer, one plane a matrix and a scale a row.
 */
import { type Digest, deltaStem, encodeHeader } from '@signpost/contracts';
import { isLinearWeight, type ParamSpec } from '@signpost/engine';

/** A delta file's bytes, others for each seed. */
export function randomExpert(base: Digest, params: readonly ParamSpec[], seed: number): Uint8Array {
  const tensors = params
    .filter(({ name }) => isLinearWeight(name))
    .flatMap(({ name, shape: [out, inDim = 0] }) => [
      { name: `${deltaStem(name)}.sign.0`, dtype: 'U32' as const, shape: [out, Math.ceil(inDim / 32)] },
      { name: `${deltaStem(name)}.row_scale.0`, dtype: 'F32' as const, shape: [out] },
    ]);
  const header = encodeHeader(tensors, {
    format: 'signpost-delta/1',
    base,
    expert: `random-${seed}`,
    method: 'random',
    parameters: '{}',
    errors: '{}',
    source: base,
    packer: 'bench',
  });
  const counts = tensors.map(({ shape }) => shape.reduce((product, dim) => product * dim, 1));
  const bytes = new Uint8Array(header.byteLength + 4 * counts.reduce((sum, count) => sum + count, 0));
  bytes.set(header);
  const words = new Uint32Array(bytes.buffer, header.byteLength);
  const scale = new Uint32Array(Float32Array.of(1e-3).buffer)[0] ?? 0;
  let state = seed * 0x9e3779b9 || 1;
  let at = 0;
  for (const [i, count] of counts.entries()) {
    for (const end = at + count; at < end; at++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      words[at] = tensors[i]?.dtype === 'U32' ? state : scale;
    }
  }
  return bytes;
}
