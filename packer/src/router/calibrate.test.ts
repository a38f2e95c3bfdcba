import { describe, expect, it } from 'vitest';
import { calibrationError, errorBound, fitTemperature, reliabilityBins, selectThreshold } from './calibrate.ts';
import { Random } from './random.ts';

const SEED = 5;

function softmax(logits: readonly number[]): Float32Array {
  const powers = logits.map((logit) => Math.exp(logit - Math.max(...logits)));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return Float32Array.from(powers, (power) => power / total);
}

/** Labels drawn by the probabilities that logits give at temperature 1, and what a model would say that divided them by `temperature`. */
function predictions(count: number, temperature: number, random: Random) {
  return Array.from({ length: count }, () => {
    const logits = [0, 1, 2].map(() => 2 * random.normal());
    const truth = softmax(logits);
    const drawn = random.next();
    const target = drawn < (truth[0] ?? 0) ? 0 : drawn < (truth[0] ?? 0) + (truth[1] ?? 0) ? 1 : 2;
    const said = softmax(logits.map((logit) => logit / temperature));
    return { said, target };
  });
}

function judged(rows: readonly { said: Float32Array; target: number }[]) {
  return rows.map(({ said, target }) => {
    const confidence = Math.max(...said);
    return { confidence, isRight: said.indexOf(confidence) === target };
  });
}

describe(`temperature (seed ${SEED})`, () => {
  it.each([0.25, 1, 3])('undoes that logits were divided by %d', (temperature) => {
    const rows = predictions(20_000, temperature, new Random(SEED));
    const fitted = fitTemperature(
      rows.map(({ said }) => said),
      rows.map(({ target }) => target),
    );
    expect(fitted * temperature).toBeGreaterThan(0.95);
    expect(fitted * temperature).toBeLessThan(1.05);
  });

  it('of a model that is never wrong ends at the edge of its range', () => {
    expect(fitTemperature([softmax([1, 0]), softmax([0, 2])], [0, 1])).toBeCloseTo(1 / 32, 6);
  });
});

describe('calibration error', () => {
  it('is next to nothing when confidence is probability, and large when it is not', () => {
    const errorAt = (temperature: number) =>
      calibrationError(reliabilityBins(judged(predictions(20_000, temperature, new Random(SEED)))));
    expect(errorAt(1)).toBeLessThan(0.015);
    expect(errorAt(0.25)).toBeGreaterThan(0.1);
    expect(errorAt(3)).toBeGreaterThan(0.1);
  });

  it('is the gap between accuracy and confidence, weighted by rows', () => {
    const rows = [
      { confidence: 0.5, isRight: true },
      { confidence: 0.5, isRight: false },
      { confidence: 1, isRight: false },
      { confidence: 1, isRight: true },
    ];
    expect(reliabilityBins(rows)).toEqual([
      { confidence: 0.5, accuracy: 0.5, rows: 2 },
      { confidence: 1, accuracy: 0.5, rows: 2 },
    ]);
    expect(calibrationError(reliabilityBins(rows))).toBe(0.25);
  });
});

describe('the bound on an error rate', () => {
  it.each([
    // Without an error it is 1 − doubt^(1/n); the others are by scipy.stats.beta.ppf(1 - doubt, wrong + 1, rows - wrong).
    [0, 100, 0.05, 1 - 0.05 ** (1 / 100)],
    [0, 5_000, 1e-3, 1 - 1e-3 ** (1 / 5_000)],
    [5, 100, 0.05, 0.10225337764327454],
    [1, 10, 0.05, 0.39416],
    [10, 10, 0.05, 1],
  ])('for %d wrong of %d at doubt %d is %d', (wrong, rows, doubt, bound) => {
    expect(errorBound(wrong, rows, doubt)).toBeCloseTo(bound, 5);
  });
});

describe('a threshold for a risk', () => {
  const random = new Random(SEED);
  /** Right with the probability that it claims. */
  const rows = Array.from({ length: 4_000 }, () => {
    const confidence = 0.5 + random.next() / 2;
    return { confidence, isRight: random.next() < confidence };
  });

  it('keeps the share of wrong decisions within it, and falls as more is allowed', () => {
    const [strict, loose] = [selectThreshold(rows, 0.05), selectThreshold(rows, 0.15)];
    for (const [selection, risk] of [
      [strict, 0.05],
      [loose, 0.15],
    ] as const) {
      const decided = rows.filter(({ confidence }) => confidence >= (selection?.threshold ?? 2));
      const wrong = decided.filter(({ isRight }) => !isRight).length / decided.length;
      expect(wrong).toBe(selection?.risk);
      expect(wrong).toBeLessThan(selection?.bound ?? 0);
      expect(selection?.bound).toBeLessThanOrEqual(risk);
    }
    expect(loose?.threshold).toBeLessThan(strict?.threshold ?? 0);
    expect(loose?.coverage).toBeGreaterThan(strict?.coverage ?? 1);
  });

  it('is that of the least sure row where all are within it', () => {
    expect(selectThreshold(rows, 0.5)?.threshold).toBe(Math.min(...rows.map(({ confidence }) => confidence)));
  });

  it('is not there where too few rows show too little', () => {
    expect(selectThreshold(rows.slice(0, 20), 0.01)).toBeUndefined();
    expect(selectThreshold([{ confidence: 0.9, isRight: false }], 0.5)).toBeUndefined();
  });
});
