/**
 * Numbers within bounds, as rules over their digits.
 */
import { DIGIT, MAX_INTEGER_DIGITS } from './json.ts';
import { chars, choice, literal, type Rule, repeat, sequence } from './rule.ts';

export interface Bounds {
  readonly minimum?: number | undefined;
  readonly maximum?: number | undefined;
  readonly exclusiveMinimum?: number | undefined;
  readonly exclusiveMaximum?: number | undefined;
}

/** Most digits after the point of a bounded number that is no integer. */
const MAX_FRACTION_DIGITS = 4;

/** Integers within bounds; undefined where there is none. */
export function integerRange(bounds: Bounds): Rule | undefined {
  return decimals(bounds, 0);
}

/** Numbers within bounds, with at most 4 digits after the point; undefined where there is none. */
export function numberRange(bounds: Bounds): Rule | undefined {
  const options = [...Array(MAX_FRACTION_DIGITS + 1).keys()].flatMap((places) => decimals(bounds, places) ?? []);
  return options.length === 0 ? undefined : choice(...options);
}

/** Numbers with exactly so many digits after the point: integers, counted in units of the last place. */
function decimals(bounds: Bounds, places: number): Rule | undefined {
  const limit = 10n ** BigInt(MAX_INTEGER_DIGITS + places) - 1n;
  let low = -limit;
  let high = limit;
  const raise = (to: bigint) => {
    if (to > low) low = to;
  };
  const lower = (to: bigint) => {
    if (to < high) high = to;
  };
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = bounds;
  if (minimum !== undefined) raise(units(minimum, places).ceiling);
  if (maximum !== undefined) lower(units(maximum, places).floor);
  if (exclusiveMinimum !== undefined) raise(units(exclusiveMinimum, places).floor + 1n);
  if (exclusiveMaximum !== undefined) lower(units(exclusiveMaximum, places).ceiling - 1n);
  const options: Rule[] = [];
  if (low < 0n && low <= high) {
    const least = high < 0n ? -high : 1n;
    if (least <= -low) options.push(sequence(literal('-'), naturals(least, -low, places)));
  }
  if (high >= 0n && low <= high) options.push(naturals(low > 0n ? low : 0n, high, places));
  return options.length === 0 ? undefined : choice(...options);
}

/** A bound in units of 10^-places, rounded both ways, exactly. */
function units(bound: number, places: number): { floor: bigint; ceiling: bigint } {
  const [mantissa = '0', exponent = '0'] = bound.toExponential().split('e');
  const [whole = '0', fraction = ''] = mantissa.split('.');
  const digits = BigInt(whole + fraction);
  const shift = Number(exponent) - fraction.length + places;
  if (shift >= 0) {
    const exact = digits * 10n ** BigInt(shift);
    return { floor: exact, ceiling: exact };
  }
  const divisor = 10n ** BigInt(-shift);
  const quotient = digits / divisor;
  if (quotient * divisor === digits) return { floor: quotient, ceiling: quotient };
  return digits < 0n ? { floor: quotient - 1n, ceiling: quotient } : { floor: quotient, ceiling: quotient + 1n };
}

/** `low` … `high`, none negative, length by length; a point before the last `places` digits. */
function naturals(low: bigint, high: bigint, places: number): Rule {
  const options: Rule[] = [];
  const longest = Math.max(String(high).length, places + 1);
  for (let length = places + 1; length <= longest; length++) {
    const least = length === places + 1 ? 0n : 10n ** BigInt(length - 1);
    const most = 10n ** BigInt(length) - 1n;
    const from = low > least ? low : least;
    const to = high < most ? high : most;
    if (from > to) continue;
    options.push(digitsBetween(String(from).padStart(length, '0'), String(to).padStart(length, '0'), places));
  }
  return choice(...options);
}

/** Digit strings between two of the same length. */
function digitsBetween(from: string, to: string, places: number): Rule {
  const point = from.length === places && places > 0 ? literal('.') : literal('');
  if (from === '') return point;
  const [first = '0', last = '0'] = [from[0], to[0]];
  const rest = from.length - 1;
  if (first === last) return sequence(point, literal(first), digitsBetween(from.slice(1), to.slice(1), places));
  const nines = '9'.repeat(rest);
  const zeros = '0'.repeat(rest);
  const options: Rule[] = [];
  // Where every rest will do, it isn't looked into: each of its digits would double what there is.
  let [low, high] = [first.charCodeAt(0), last.charCodeAt(0)];
  if (from.slice(1) !== zeros) {
    options.push(sequence(literal(first), digitsBetween(from.slice(1), nines, places)));
    low++;
  }
  if (to.slice(1) !== nines) {
    options.push(sequence(literal(last), digitsBetween(zeros, to.slice(1), places)));
    high--;
  }
  if (low <= high) options.push(sequence(chars([[low, high]]), anyDigits(rest, places)));
  return sequence(point, choice(...options));
}

function anyDigits(count: number, places: number): Rule {
  if (places === 0 || count < places) return repeat(DIGIT, count, count);
  return sequence(repeat(DIGIT, count - places, count - places), literal('.'), repeat(DIGIT, places, places));
}
