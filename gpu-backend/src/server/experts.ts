/**
 * `GET /v1/experts`: every expert version that a channel points at or that this region keeps, with where it is and how it is used.
 */
import { type Catalogue, type Digest, EXPERT_TIERS, type ExpertCard, type ExpertList } from '@signpost/contracts';
import type { StandingOrders } from '../experts/standing.ts';
import type { EngineClient } from '../runner/engine-client.ts';
import { modelNames } from './models.ts';

export interface ExpertListDeps {
  readonly engine: Pick<EngineClient, 'stats' | 'usage' | 'facts'>;
  readonly standing: Pick<StandingOrders, 'pinsOf'>;
}

/** Those in slots first, then by how near they are. */
export async function listExperts({ engine, standing }: ExpertListDeps, catalogue: Catalogue): Promise<ExpertList> {
  const { residency, host, disk } = await engine.stats();
  const published = Object.values(catalogue.experts).flatMap(({ versions }) => versions);
  const bytesOf = new Map<Digest, number>();
  for (const { digest, bytes, base } of published)
    if (base === engine.facts.base && modelNames(catalogue, digest).length > 0) bytesOf.set(digest, bytes);
  // What no channel points at any more may still be here.
  for (const { digest, bytes } of residency.content) bytesOf.set(digest, bytes);
  for (const digest of [...host.files, ...(disk?.files ?? [])]) {
    const version = published.find((candidate) => candidate.digest === digest);
    if (version !== undefined) bytesOf.set(digest, version.bytes);
  }
  const digests = [...bytesOf.keys()];
  const usage = await engine.usage(digests);
  const cards = digests.map((digest, i): ExpertCard => {
    const models = modelNames(catalogue, digest);
    const place = residency.content.find((slot) => slot.digest === digest);
    const isIn = {
      device: place !== undefined,
      host: host.files.includes(digest),
      disk: disk?.files.includes(digest) === true,
      store: published.some((version) => version.digest === digest),
    };
    const tiers = EXPERT_TIERS.filter((tier) => isIn[tier]);
    const { requests = 0, hits = 0, lastUse } = usage[i] ?? {};
    return {
      object: 'expert',
      id: models[0] ?? digest,
      models,
      digest,
      bytes: bytesOf.get(digest) ?? 0,
      tier: tiers[0] ?? 'store',
      tiers,
      slot: place?.slot ?? null,
      loading: residency.loading.includes(digest),
      users: place?.users ?? 0,
      pinned_by: standing.pinsOf(digest),
      requests,
      hits,
      last_use: lastUse === undefined ? null : new Date(lastUse).toISOString(),
    };
  });
  const rank = ({ tier, slot }: ExpertCard) => EXPERT_TIERS.indexOf(tier) * 1e6 + (slot ?? 0);
  return {
    object: 'list',
    catalogue_revision: catalogue.revision,
    data: cards.sort((a, b) => rank(a) - rank(b)),
  };
}
