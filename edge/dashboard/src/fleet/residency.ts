/**
 * The heat map's cells: where each region has each version of each expert. No I/O.
 */
import { residencyOf } from '../../../src/fleet/residency.ts';
import type { CatalogueView, RegionView, Residency } from '../api/types.ts';

/** Nearest first. */
export const RESIDENCIES: readonly Residency[] = ['device', 'loading', 'host', 'store'];

/** In words, and with a mark: never by colour alone. */
export const RESIDENCY_TEXT: Readonly<Record<Residency, { readonly mark: string; readonly text: string }>> = {
  device: { mark: '●', text: 'resident' },
  loading: { mark: '◐', text: 'loading' },
  host: { mark: '○', text: 'in memory' },
  store: { mark: '·', text: 'cold' },
};

export type Cell =
  /** Nothing was heard of the region. */
  | { readonly kind: 'silent' }
  /** A region that tells of no experts. */
  | { readonly kind: 'foreign' }
  | { readonly kind: 'known'; readonly nearest: Residency; readonly has: number; readonly of: number };

export interface Row {
  readonly expert: string;
  readonly digest: string;
  /** Those that point at it: `stable`, `next 10 %`. */
  readonly channels: readonly string[];
  readonly cells: readonly Cell[];
}

/** Versions that a channel points at, or that some region still has; without a catalogue, what the regions have. */
export function residencyRows(catalogue: CatalogueView | null, regions: readonly RegionView[]): Row[] {
  const held = new Set<string>(
    regions.flatMap(({ replicas }) => replicas.flatMap(({ experts }) => Object.values(experts).flat())),
  );
  const rows: Row[] = [];
  for (const expert of catalogue?.experts ?? []) {
    for (const { digest } of expert.versions) {
      const channels = channelsOf(expert.channels, digest);
      if (channels.length === 0 && !held.has(digest)) continue;
      rows.push({ expert: expert.name, digest, channels, cells: regions.map((region) => cellOf(region, digest)) });
      held.delete(digest);
    }
  }
  for (const digest of held)
    rows.push({
      expert: '(not in the catalogue)',
      digest,
      channels: [],
      cells: regions.map((region) => cellOf(region, digest)),
    });
  return rows;
}

function cellOf({ kind, replicas }: RegionView, digest: string): Cell {
  if (kind === 'openai') return { kind: 'foreign' };
  const there = replicas.map((replica) => residencyOf(replica, digest));
  const nearest = RESIDENCIES.find((one) => there.includes(one));
  if (nearest === undefined) return { kind: 'silent' };
  return { kind: 'known', nearest, has: there.filter((one) => one === nearest).length, of: there.length };
}

/** Channels that point at a version, with its share where it shares them. */
export function channelsOf(
  channels: Readonly<Record<string, readonly { readonly digest: string; readonly weight: number }[]>>,
  digest: string,
): string[] {
  return Object.entries(channels).flatMap(([channel, targets]) => {
    const total = targets.reduce((sum, { weight }) => sum + weight, 0);
    const own = targets.find((target) => target.digest === digest);
    if (own === undefined) return [];
    return own.weight === total ? channel : `${channel} ${Math.round((100 * own.weight) / total)} %`;
  });
}

export type Standing = 'up' | 'draining' | 'silent' | 'failing' | 'asleep';

/** How a region is, in one word: `silent` was not heard of for ten seconds, `failing` is not asked for now. A foreign one tells nothing of itself: only its breaker does. */
export function standingOf({ kind, breaker, asleep, replicas }: RegionView): Standing {
  if (breaker === 'open') return 'failing';
  if (asleep) return 'asleep';
  if (kind !== 'http') return breaker === 'closed' ? 'up' : 'failing';
  if (replicas.length === 0) return 'silent';
  return replicas.every(({ draining }) => draining) ? 'draining' : 'up';
}
