/**
 * Catalogues to test the edge with.
 */
import { CATALOGUE_KEY } from '@signpost/contracts';

const BASE = '0'.repeat(64);

/** The digest of a test's version: one hex digit, over and over. */
export const digestOf = (digit: string): string => digit.repeat(64);

/** Experts with a channel `stable` of these weights, by the digit of their versions' digests. */
export function catalogueObject(
  experts: Readonly<Record<string, Readonly<Record<string, number>>>>,
  more: Readonly<Record<string, unknown>> = {},
): Record<string, string> {
  const catalogue = {
    format: 1,
    bases: { [BASE]: { name: 'demo' } },
    experts: Object.fromEntries(
      Object.entries(experts).map(([name, weights]) => [
        name,
        {
          versions: Object.keys(weights).map((digit) => ({
            digest: digestOf(digit),
            base: BASE,
            key: `experts/${name}-${digit}`,
            bytes: 1_000,
            method: 'sign',
            published: '2026-01-01T00:00:00.000Z',
          })),
          channels: {
            stable: Object.entries(weights).map(([digit, weight]) => ({ digest: digestOf(digit), weight })),
          },
        },
      ]),
    ),
    ...more,
  };
  return { [CATALOGUE_KEY]: JSON.stringify(catalogue) };
}
