/**
 * 16-bit floats as numbers.
 */
const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

/** BF16: the upper half of a float32. */
export function brainToFloat(bits: number): number {
  word[0] = bits << 16;
  return float[0] ?? 0;
}

/** F16 (IEEE 754 binary16). */
export function halfToFloat(bits: number): number {
  const sign = (bits & 0x8000) === 0 ? 1 : -1;
  const exponent = (bits >> 10) & 31;
  const mantissa = bits & 1023;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  if (exponent === 31) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + mantissa / 1024) * 2 ** (exponent - 15);
}

/** The BF16 nearest to a number, ties to even; NaN stays NaN. */
export function floatToBrain(value: number): number {
  float[0] = value;
  const bits = word[0] ?? 0;
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}
