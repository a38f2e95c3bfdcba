/**
 * Making a classifier's confidence mean what it says, and choosing below which it is to abstain.
 */
import { Problem } from '@signpost/contracts';
import type { ReliabilityBin } from '../report/chart.ts';
import { percent } from '../report/table.ts';
import type { RouterGraph } from './onnx.ts';

/** A prediction: whether it is right, and how sure it was. */
export interface Judged {
  readonly isRight: boolean;
  readonly confidence: number;
}

export interface Selection {
  readonly threshold: number;
  /** Share of rows at or above it. */
  readonly coverage: number;
  /** Share of those that is wrong, and what it stays below with the confidence asked for. */
  readonly risk: number;
  readonly bound: number;
}

/** How a threshold is come by: for a risk on the labelled prompts of a file, or by hand. */
export interface ThresholdWish {
  readonly risk: number;
  readonly threshold?: number;
  readonly valid: string;
}

export const DEFAULT_RISK = 0.05;
const BINS = 15;
const TEMPERATURE_RANGE = [1 / 32, 32] as const;
/** Halvings: to the last bits of a double. */
const BISECTIONS = 60;
/** Coverages tried when a threshold is chosen. */
const COVERAGE_STEPS = 100;
/** With which the risk stays below its bound. */
export const RISK_CONFIDENCE = 0.95;

/**
 * The temperature T by which logits are divided so that the mean negative log-likelihood of `targets` is least (Guo et al. 2017, arXiv 1706.04599).
 * It is convex in 1/T, with derivative mean(Σ p z − z of the target), so the root is bisected. Which label is likeliest doesn't change.
 *
 * @param probabilities (labels) each; their logarithms serve as logits, from which they differ by a constant.
 */
export function fitTemperature(probabilities: readonly Float32Array[], targets: readonly number[]): number {
  const logits = probabilities.map((row) => Float64Array.from(row, (p) => Math.log(Math.max(p, 1e-30))));
  const slope = (inverse: number) =>
    logits.reduce((sum, row, i) => {
      const powers = row.map((z) => Math.exp(z * inverse));
      const total = powers.reduce((all, power) => all + power, 0);
      const expected = row.reduce((all, z, l) => all + (z * (powers[l] ?? 0)) / total, 0);
      return sum + expected - (row[targets[i] ?? -1] ?? 0);
    }, 0);
  // On a scale of logarithms; the slope rises with 1/T.
  let [low, high] = TEMPERATURE_RANGE.map((temperature) => -Math.log(temperature)).sort((a, b) => a - b) as [
    number,
    number,
  ];
  for (let i = 0; i < BISECTIONS; i++) {
    const middle = (low + high) / 2;
    if (slope(Math.exp(middle)) < 0) low = middle;
    else high = middle;
  }
  return Math.exp(-(low + high) / 2);
}

/** The graph with its logits divided by `temperature`: folded into the last layer, so who runs it needn't know. */
export function withTemperature(graph: RouterGraph, temperature: number): RouterGraph {
  const cool = (values: Float32Array) => values.map((value) => value / temperature);
  return { ...graph, w2: cool(graph.w2), b2: cool(graph.b2) };
}

/** Equal-width bins of confidence that hold a row. */
export function reliabilityBins(rows: readonly Judged[]): ReliabilityBin[] {
  return Array.from({ length: BINS }, (_, bin) => {
    const own = rows.filter(({ confidence }) => Math.min(BINS - 1, Math.floor(confidence * BINS)) === bin);
    const confidence = own.reduce((sum, row) => sum + row.confidence, 0) / own.length;
    return { confidence, accuracy: own.filter(({ isRight }) => isRight).length / own.length, rows: own.length };
  }).filter((bin) => bin.rows > 0);
}

/** Expected calibration error: |accuracy − confidence| over bins, weighted by their rows (Guo et al. 2017, section 2). */
export function calibrationError(bins: readonly ReliabilityBin[]): number {
  const all = bins.reduce((sum, { rows }) => sum + rows, 0);
  return bins.reduce((sum, { confidence, accuracy, rows }) => sum + (rows / all) * Math.abs(accuracy - confidence), 0);
}

/** @throws Problem when no threshold keeps the risk. */
export function chooseThreshold(
  { risk: wanted, threshold, valid }: ThresholdWish,
  rows: readonly Judged[],
): { readonly threshold: number; readonly selection?: Selection & { readonly wanted: number } } {
  if (threshold !== undefined) return { threshold };
  const selection = selectThreshold(rows, wanted);
  if (selection === undefined)
    throw new Problem(
      `no threshold keeps the share of wrong decisions on ${valid} within ${percent(wanted)} with ${percent(RISK_CONFIDENCE)} confidence; allow more (--risk), give more rows, or set one (--threshold)`,
    );
  return { threshold: selection.threshold, selection: { ...selection, wanted } };
}

/**
 * The lowest threshold at which the share of wrong decisions stays within `risk`: of the rows' coverages in steps of 1 %, the largest whose
 * Clopper-Pearson bound is within it. The bounds share the 5 % of doubt (union bound, as in Geifman and El-Yaniv 2017, arXiv 1705.08500), so the one
 * that is chosen holds although it was chosen. It speaks of prompts like these rows, not of others. Undefined where no coverage will do.
 */
export function selectThreshold(rows: readonly Judged[], risk: number): Selection | undefined {
  const surest = rows.toSorted((a, b) => b.confidence - a.confidence);
  const doubt = (1 - RISK_CONFIDENCE) / COVERAGE_STEPS;
  for (let step = COVERAGE_STEPS; step > 0; step--) {
    const threshold = surest[Math.ceil((step / COVERAGE_STEPS) * surest.length) - 1]?.confidence ?? 1;
    const decided = surest.filter(({ confidence }) => confidence >= threshold);
    const wrong = decided.filter(({ isRight }) => !isRight).length;
    const bound = errorBound(wrong, decided.length, doubt);
    if (bound <= risk) {
      return { threshold, coverage: decided.length / surest.length, risk: wrong / decided.length, bound };
    }
  }
  return undefined;
}

/** One-sided Clopper-Pearson bound: the error rate at which as few as `wrong` of `rows` would come about with probability `doubt`. */
export function errorBound(wrong: number, rows: number, doubt: number): number {
  if (wrong >= rows) return 1;
  let [low, high] = [wrong / rows, 1];
  for (let i = 0; i < BISECTIONS; i++) {
    const middle = (low + high) / 2;
    if (binomialAtMost(wrong, rows, middle) > doubt) low = middle;
    else high = middle;
  }
  return high;
}

/** P(X ≤ k) of a binomial with n draws of probability p, 0 < p < 1. Summed by logarithms: (1 − p)^n alone would underflow. */
function binomialAtMost(k: number, n: number, p: number): number {
  let logTerm = n * Math.log1p(-p);
  let sum = Math.exp(logTerm);
  for (let i = 1; i <= k; i++) {
    logTerm += Math.log((n - i + 1) / i) + Math.log(p) - Math.log1p(-p);
    sum += Math.exp(logTerm);
  }
  return sum;
}
