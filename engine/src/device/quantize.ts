/**
 * What a quantised matrix is: each 32 columns of a row share an F16 scale, and a weight is scale · value. This plain code says which values; devices
 * hold the same ones, packed.
 *
 * Q8: values −127 … 127, scale = largest |w| / 127. Q4: values −8 … 7, scale such that the w furthest from zero becomes −8. (llama.cpp's Q8_0 and
 * Q4_0.) Arithmetic is float32, and rounding to even, so that every device comes to the same bits.
 */
import { floatToHalf, halfToFloat } from './float.ts';

const GROUP_COLUMNS = 32;
const LARGEST_HALF = 0x7bff;

/** The matrix (out, in) as a quantised one reads, in float32. */
export function quantized(values: Float32Array, inDim: number, format: 'q8' | 'q4'): Float32Array {
  const result = new Float32Array(values.length);
  for (let row = 0; row < values.length; row += inDim) {
    for (let column = 0; column < inDim; column += GROUP_COLUMNS) {
      const [start, end] = [row + column, row + Math.min(column + GROUP_COLUMNS, inDim)];
      result.set(quantizedGroup(values.subarray(start, end), format), start);
    }
  }
  return result;
}

function quantizedGroup(group: Float32Array, format: 'q8' | 'q4'): Float32Array {
  const steps = new Int8Array(group.length);
  const scale = quantizedSteps(group, format, steps);
  return Float32Array.from(steps, (step) => scale * step);
}

/** The values of up to 32 columns, into `steps`. Gives their scale, which an F16 holds. */
function quantizedSteps(group: Float32Array, format: 'q8' | 'q4', steps: Int8Array): number {
  let furthest = 0;
  for (const value of group) if (Math.abs(value) > Math.abs(furthest)) furthest = value;
  const [least, most] = format === 'q8' ? [-127, 127] : [-8, 7];
  const scale = nearestHalf(Math.fround(format === 'q8' ? Math.abs(furthest) / most : furthest / least));
  const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
  for (let i = 0; i < group.length; i++) {
    const step = roundEven(Math.fround((group[i] ?? 0) * inverse));
    steps[i] = step >= least ? Math.min(step, most) : least;
  }
  return scale;
}

/** As an F16 holds it, the largest one at most. */
function nearestHalf(value: number): number {
  const bits = floatToHalf(value);
  return halfToFloat((bits & 0x8000) | Math.min(bits & 0x7fff, LARGEST_HALF));
}

function roundEven(value: number): number {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}
