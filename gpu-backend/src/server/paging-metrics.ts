/**
 * What is measured of the experts' tiers: device slots, host cache, disk cache. Counted by the engine; a scrape sets the counters to what it says.
 */
import { Counter, Gauge, type Registry } from 'prom-client';
import type { PagingState, Tier } from '../experts/paging.ts';

interface TierState {
  readonly bytes: number;
  readonly experts: number;
  readonly lookups: number;
  readonly hits: number;
  readonly evictions: number;
}

export function pagingMetrics(registry: Registry): { set(state: PagingState): void } {
  const registers = [registry];
  const gauge = (name: string, help: string) => new Gauge({ name, help, registers });
  const byTier = (name: string, help: string) => ({ name, help, labelNames: ['tier'] as const, registers });
  const storeUp = gauge('signpost_store_up', '0 while nothing comes from the store though it is waited for');
  const slots = gauge('signpost_expert_slots', 'Expert slots of the device');
  const slotsFree = gauge('signpost_expert_slots_free', 'Expert slots that could be given to another expert now');
  const waiting = gauge('signpost_expert_slot_waiting', 'Requests that wait for a slot');
  const loading = gauge('signpost_experts_loading', 'Experts on their way into a slot');
  const pinned = gauge('signpost_experts_pinned', 'Experts in a slot that they are pinned to');
  const resident = new Gauge({
    name: 'signpost_expert_resident',
    help: '1 for each expert in a slot',
    labelNames: ['expert'],
    registers,
  });
  const tierBytes = new Gauge(byTier('signpost_tier_bytes', 'Bytes of the delta files that a tier holds'));
  const tierExperts = new Gauge(
    byTier('signpost_tier_experts', 'Experts that a tier holds, those on their way included'),
  );
  const lookups = new Counter(byTier('signpost_tier_lookups_total', 'Experts looked up in a tier'));
  const hits = new Counter(byTier('signpost_tier_hits_total', 'Experts found in a tier'));
  const evictions = new Counter(byTier('signpost_tier_evictions_total', 'Experts that a tier gave up for others'));
  const loads = new Counter({
    name: 'signpost_expert_loads_total',
    help: 'Loads of experts into slots (device), and into memory before anybody asked for them (host), by how they ended',
    labelNames: ['tier', 'outcome'],
    registers,
  });
  const integrityFailures = new Counter({
    name: 'signpost_integrity_failures_total',
    help: 'Times that bytes of a delta file were not those that the catalogue says, by where they came from and what was checked; the next reading may have been right',
    labelNames: ['from', 'check'],
    registers,
  });
  const bySource = (name: string, help: string) => new Counter({ name, help, labelNames: ['from'], registers });
  const pageIns = bySource(
    'signpost_page_ins_total',
    'Loads into slots that succeeded, by the nearest place that had the file',
  );
  const pageInBytes = bySource('signpost_page_in_bytes_total', 'Their bytes');
  const pageInSeconds = bySource('signpost_page_in_seconds_total', 'The time they took');
  const rate = new Gauge({
    name: 'signpost_page_in_bytes_per_second',
    help: 'Mean rate of recent loads; none before the first',
    labelNames: ['from'],
    registers,
  });
  return {
    set({ residency, host, disk, pageIns: counts, integrityFailures: failures, isStoreDown, bytesPerSecond }): void {
      const { content } = residency;
      storeUp.set(isStoreDown ? 0 : 1);
      slots.set(residency.slots);
      slotsFree.set(residency.slotsFree);
      waiting.set(residency.waiting);
      loading.set(residency.loading.length);
      pinned.set(content.filter(({ isPinned }) => isPinned).length);
      resident.reset();
      for (const expert of residency.resident) resident.set({ expert }, 1);
      const tiers: Partial<Record<Tier, TierState>> = {
        device: { ...residency, bytes: content.reduce((sum, { bytes }) => sum + bytes, 0), experts: content.length },
        host: { ...host, experts: host.files.length },
        ...(disk === undefined ? {} : { disk: { ...disk, experts: disk.files.length } }),
      };
      for (const [tier, state] of Object.entries(tiers)) {
        tierBytes.set({ tier }, state.bytes);
        tierExperts.set({ tier }, state.experts);
      }
      setTo(lookups, 'tier', tiers, ({ lookups: total }) => total);
      setTo(hits, 'tier', tiers, ({ hits: total }) => total);
      setTo(evictions, 'tier', tiers, ({ evictions: total }) => total);
      setToTable(loads, ['tier', 'outcome'], { device: { ...residency.loads }, host: { ...host.loads } });
      setToTable(integrityFailures, ['from', 'check'], failures);
      setTo(pageIns, 'from', counts, ({ count }) => count);
      setTo(pageInBytes, 'from', counts, ({ bytes }) => bytes);
      setTo(pageInSeconds, 'from', counts, ({ seconds }) => seconds);
      for (const [from, value] of Object.entries(bytesPerSecond)) if (value !== null) rate.set({ from }, value);
    },
  };
}

/** A counter's totals by two labels. */
function setToTable<Outer extends string, Inner extends string>(
  counter: Counter<Outer | Inner>,
  [outer, inner]: readonly [Outer, Inner],
  table: Readonly<Record<string, Readonly<Record<string, number>>>>,
): void {
  counter.reset();
  for (const [one, totals] of Object.entries(table))
    for (const [other, total] of Object.entries(totals))
      counter.inc({ [outer]: one, [inner]: other } as Record<Outer | Inner, string>, total);
}

/** A counter's totals by one label. */
function setTo<Label extends string, State>(
  counter: Counter<Label>,
  label: Label,
  states: Readonly<Record<string, State>>,
  total: (state: State) => number,
): void {
  counter.reset();
  for (const [value, state] of Object.entries(states))
    counter.inc({ [label]: value } as Record<Label, string>, total(state));
}
