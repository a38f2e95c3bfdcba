/**
 * `/admin/fleet`: what regions last said of themselves, what this isolate knows of them, and the catalogue they serve from.
 */
import type { Catalogue } from '@signpost/contracts';
import type { Known } from '../fleet/knowledge.ts';
import { regionStatus, type StatusParts } from '../fleet/status.ts';
import type { AdminCall, AdminRoute } from './routes.ts';

export type FleetAdminParts = Pick<StatusParts, 'settings' | 'health' | 'knowledge'>;

export function fleetRoutes(parts: FleetAdminParts): AdminRoute[] {
  return [{ path: '/admin/fleet', methods: { GET: (call) => show(parts, call) } }];
}

async function show(parts: FleetAdminParts, { waitUntil }: AdminCall): Promise<Response> {
  return Response.json(fleetView(parts, await parts.knowledge.recent(waitUntil), Date.now()));
}

function fleetView(
  { settings, health }: Pick<FleetAdminParts, 'settings' | 'health'>,
  { beats, catalogue, isAsleep }: Known,
  now: number,
) {
  return {
    object: 'fleet',
    at: new Date(now).toISOString(),
    regions: settings.regions.map((region) => ({
      ...regionStatus(region, health, now),
      latitude: region.latitude ?? null,
      longitude: region.longitude ?? null,
      continent: region.continent ?? null,
      asleep: isAsleep?.(region) ?? false,
      replicas: beats
        .filter(({ beat }) => beat.region === region.name)
        .map(({ beat, heardAt }) => ({
          replica: beat.replica,
          heard_ms_ago: now - heardAt,
          base: beat.base,
          draining: beat.draining,
          running: beat.running,
          waiting: beat.waiting,
          queued_tokens: beat.queuedTokens,
          prefill_tokens_per_second: beat.prefillTokensPerSecond,
          kv_blocks: beat.kvBlocks,
          kv_blocks_free: beat.kvBlocksFree,
          slots: beat.slots,
          slots_free: beat.slotsFree,
          experts: beat.experts,
          page_in_bytes_per_second: beat.pageInBytesPerSecond,
        })),
    })),
    catalogue: catalogue === undefined ? null : catalogueView(catalogue),
  };
}
export type FleetView = ReturnType<typeof fleetView>;

/** What people look for in it: chunks' hashes, keys and tombstones are for machines. */
function catalogueView({ revision, bases, experts, router }: Catalogue) {
  const labels = Object.entries(router?.labels ?? {});
  return {
    revision,
    bases: Object.entries(bases).map(([digest, { name }]) => ({ digest, name })),
    experts: Object.entries(experts).map(([name, { versions, channels }]) => ({
      name,
      /** Of the classifier: those that stand for it by the catalogue. One that isn't there stands for the expert of its name. */
      labels: labels.filter(([, model]) => model.split('@')[0] === name).map(([label]) => label),
      channels,
      versions: versions.map(({ digest, base, bytes, method, published, quality }) => ({
        digest,
        base,
        bytes,
        method,
        published,
        quality: quality ?? null,
      })),
    })),
  };
}
