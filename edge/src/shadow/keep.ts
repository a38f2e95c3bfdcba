/**
 * Where comparisons are kept.
 */
import type { KeptRecord } from '../accounts/outbox.ts';
import { pagesOf, type ReadPage } from '../accounts/pages.ts';
import { type Comparison, comparisonSchema } from './compare.ts';

/** The Durable Object, or what stands for it. */
interface Comparisons {
  compared(record: KeptRecord, counted: { readonly rule: string; readonly result: string }): Promise<void>;
}

export async function keepComparison(kept: Comparisons, comparison: Comparison): Promise<void> {
  const { decision_id: id, tenant, time, rule, result } = comparison;
  const record = { id, tenant: tenant ?? undefined, at: Date.parse(time), json: JSON.stringify(comparison) };
  await kept.compared(record, { rule, result });
}

/** The latest `limit`. @param read pages of them as JSON */
export async function readComparisons(read: ReadPage, limit: number): Promise<Comparison[]> {
  const found: Comparison[] = [];
  for await (const items of pagesOf(read)) {
    found.push(...items.map((json) => comparisonSchema.parse(JSON.parse(json))));
    if (found.length >= limit) break;
  }
  return found.slice(0, limit);
}
