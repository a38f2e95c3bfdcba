/**
 * `terraform/prices.json`: what things cost, where that stands, and when it was looked up.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Problem, parseWith } from '@signpost/contracts';
import { z } from 'zod';

const FILE = join(import.meta.dirname, '../../../terraform/prices.json');

const schema = z.strictObject({
  currency: z.literal('USD'),
  checked: z.iso.date(),
  note: z.string(),
  prices: z.record(
    z.string(),
    z.strictObject({
      usd: z.number().nonnegative(),
      what: z.string(),
      source: z.url(),
      /** No price list was at hand. */
      estimated: z.boolean().optional(),
    }),
  ),
});

export interface Prices {
  /** Date of the look-up. */
  readonly checked: string;
  /** @throws Problem for one that isn't in the list. */
  price(name: string): number;
  /** Sources of those that were asked for, as lines. */
  sources(): string[];
}

export function readPrices(text = readFileSync(FILE, 'utf8')): Prices {
  const { checked, prices } = parseWith(schema, JSON.parse(text), FILE);
  const used = new Set<string>();
  return {
    checked,
    price(name) {
      const found = Object.hasOwn(prices, name) ? prices[name] : undefined;
      if (found === undefined)
        throw new Problem(`${FILE} has no price "${name}"; known: ${Object.keys(prices).join(', ')}`);
      used.add(name);
      return found.usd;
    },
    sources: () =>
      [...used].map((name) => {
        const { usd, what = '', source = '', estimated } = prices[name] ?? {};
        return `${name} ${estimated === true ? '~' : ''}${usd} (${what}): ${source}`;
      }),
  };
}
