/**
 * A kernel of linear layers with certain sizes, run and timed on an adapter.
 */
import type { ParamDtype, StepBatch } from '../device.ts';
import { floatToBrain, floatToHalf } from '../float.ts';
import type { Gpu } from './adapter.ts';
import type { MatrixFormat } from './pack.ts';
import type { MatmulShape, MatvecShape } from './tuning.ts';
import { WebGpuDevice } from './webgpu-device.ts';

export type Trial = { readonly format: MatrixFormat; readonly rows: number } & (
  | { readonly kind: 'matvec'; readonly shape: MatvecShape }
  | { readonly kind: 'matmul'; readonly shape: MatmulShape }
);

export interface TrialResult {
  /** Of one round. */
  readonly ms: number;
  /** What the last matrix gave. */
  readonly values: Float32Array;
}

/** Matrices, and how often all of them are gone through in a round; in software so that a difference shows soon. */
const LOADS = {
  hardware: {
    matvec: { matrices: 8, side: 4096, repeats: 8 },
    matmul: { matrices: 1, side: 4096, repeats: 8 },
  },
  software: {
    matvec: { matrices: 1, side: 256, repeats: 1 },
    matmul: { matrices: 1, side: 128, repeats: 1 },
  },
} as const;
const ROUNDS = 3;
const PARAM_STORAGE = {
  bf16: { dtype: 'BF16', format: 'stored' },
  f16: { dtype: 'F16', format: 'stored' },
  f32: { dtype: 'F32', format: 'stored' },
  q8: { dtype: 'BF16', format: 'q8' },
  q4: { dtype: 'BF16', format: 'q4' },
} as const;

/** Undefined where the driver refuses the kernel. */
export async function trial(gpu: Gpu, { kind, format, rows, shape }: Trial): Promise<TrialResult | undefined> {
  const { matrices, side, repeats } = LOADS[gpu.identity.isSoftware ? 'software' : 'hardware'][kind];
  const params = Array.from({ length: matrices }, (_, i) => ({ name: `tuned ${i}`, shape: [side, side] as const }));
  const storage = PARAM_STORAGE[format];
  const measured =
    kind === 'matvec'
      ? { matvec: { [`${format} ${rows}`]: shape }, matmul: {} }
      : { matvec: {}, matmul: { [format]: shape } };
  // What a driver refuses here must not count as a fault.
  gpu.device.pushErrorScope('validation');
  const device = await WebGpuDevice.open(
    { ...gpu, close() {} },
    { params, slots: 0, kv: { layers: 1, blocks: 1, blockTokens: 1, kvHeads: 1, headDim: 4 } },
    { storage: params.map(() => storage), groups: [], sections: [], rows, heads: 1, slotBytes: 4, measured },
  );
  try {
    const weights = smallValues(side * side, storage.dtype);
    for (const param of params.keys()) device.loadParam(param, storage.dtype, weights, storage.format);
    await device.loaded();
    const [x, out] = [device.activations(rows, side), device.activations(rows, side)];
    const input = Float32Array.from({ length: rows * side }, (_, i) => Math.sin(i));
    const values = new Float32Array(rows * side);
    const round = async () => {
      const start = performance.now();
      device.begin(batchOf(rows));
      device.write(x, input);
      for (let repeat = 0; repeat < repeats; repeat++)
        for (const param of params.keys()) device.linears(x, [{ out, param }]);
      await device.read(out, values);
      return performance.now() - start;
    };
    await round();
    let ms = Number.POSITIVE_INFINITY;
    for (let i = 0; i < ROUNDS; i++) ms = Math.min(ms, await round());
    return (await gpu.device.popErrorScope()) === null ? { ms, values } : undefined;
  } finally {
    await device.close();
  }
}

/** Some below 1 of both signs, in any of the formats that a checkpoint has. */
function smallValues(count: number, dtype: ParamDtype): Uint8Array {
  const values = Float32Array.from({ length: count }, (_, i) => Math.sin(i * 0.7) / 4);
  if (dtype === 'F32') return new Uint8Array(values.buffer);
  return new Uint8Array(Uint16Array.from(values, dtype === 'BF16' ? floatToBrain : floatToHalf).buffer);
}

/** Rows of as many answers. */
function batchOf(rows: number): StepBatch {
  return {
    tokens: new Int32Array(rows),
    positions: new Int32Array(rows),
    sequenceStart: Int32Array.from({ length: rows + 1 }, (_, row) => row),
    blockTable: new Int32Array(rows),
    blocksPerSequence: 1,
    mixtureStart: new Int32Array(rows + 1),
    mixtureSlots: new Int32Array(0),
    mixtureWeights: new Float32Array(0),
    logitRows: new Int32Array(0),
  };
}
