/**
 * One parameter's difference: as 1-bit planes, or exact.
 */
import { Problem } from '@signpost/contracts';
import { brainToFloat, type CheckpointTensor, floatToBrain, halfToFloat } from '@signpost/engine';
import { type RawMatrix, signPack } from '@signpost/kernels';
import type { PackParameters, PlannedParam } from './plan.ts';

export interface Binarised {
  readonly planes: readonly { readonly signs: Uint32Array; readonly rowScale: Float32Array }[];
  /** ‖Δ − Δ̂‖ / ‖Δ‖. */
  readonly error: number;
}

/**
 * Signs and scales of a linear layer's difference: BitDelta's closed form (arXiv 2402.10193, equation 3), a scale of mean |Δ| for each row or for the
 * matrix; further planes do the same to what is left.
 *
 * @throws Problem when a difference is not finite.
 */
export function binarise(param: PlannedParam & { kind: '1bit' }, parameters: PackParameters): Binarised {
  const { planes, differenceSquared, residualSquared } = signPack(
    rawMatrix(param.base),
    rawMatrix(param.tuned),
    param,
    parameters,
  );
  if (!Number.isFinite(differenceSquared)) throw notFinite(param);
  return { planes, error: Math.sqrt(residualSquared / differenceSquared) };
}

/**
 * A parameter's difference in BF16, in the base's shape.
 *
 * @throws Problem when a difference is not finite.
 */
export function exactDifference(param: PlannedParam): Uint16Array {
  const [base, tuned] = [floats(rawMatrix(param.base)), floats(rawMatrix(param.tuned))];
  return Uint16Array.from(tuned, (value, i) => {
    const difference = Math.fround(value - (base[i] ?? Number.NaN));
    if (!Number.isFinite(difference)) throw notFinite(param);
    return floatToBrain(difference);
  });
}

/** @throws Problem for a dtype that weights don't come in. */
export function rawMatrix({ info, data }: CheckpointTensor): RawMatrix {
  switch (info.dtype) {
    case 'BF16':
    case 'F16':
    case 'F32':
      return { dtype: info.dtype, data: data.byteOffset % 4 === 0 ? data : data.slice() };
    default:
      throw new Problem(`tensor ${info.name} is ${info.dtype}; supported: BF16, F16, F32`);
  }
}

export function floats({ dtype, data }: RawMatrix): Float32Array {
  if (dtype === 'F32') return new Float32Array(data.buffer, data.byteOffset, data.byteLength / 4);
  const halves = new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2);
  return Float32Array.from(halves, dtype === 'BF16' ? brainToFloat : halfToFloat);
}

function notFinite({ spec, tuned }: PlannedParam): Problem {
  return new Problem(
    `the difference of ${spec.name} is not finite: the base or the fine-tune (${tuned.info.dtype}) holds an infinity or NaN`,
  );
}
