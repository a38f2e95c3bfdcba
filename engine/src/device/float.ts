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

/** The F16 nearest to a number, ties to even; beyond the largest it is an infinity, NaN stays NaN. */
export function floatToHalf(value: number): number {
  float[0] = value;
  const bits = word[0] ?? 0;
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  // 65520 lies halfway between the largest half and the next power of two, and goes to even: infinity.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  // Below 2^-14 halves are 2^-24 apart: adding 0.5 leaves float32 a last place of just that.
  if (magnitude < 0x38800000) {
    float[0] = Math.abs(float[0] ?? 0) + 0.5;
    return sign | ((word[0] ?? 0) - 0x3f000000);
  }
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
}
