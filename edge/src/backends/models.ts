/**
 * What strangers' models are called, here and there.
 */
import { formatModelName, type ModelCard, Problem, parseModelName } from '@signpost/contracts';
import type { OpenaiRegion, Region } from '../plan/regions.ts';

/** What a server calls a model of ours; undefined where it has none. It knows no versions: an entry for `math` stands for every one of them. */
export function nameThere({ models }: OpenaiRegion, model: string): string | undefined {
  if (Object.hasOwn(models, model)) return models[model];
  const plain = withoutVersions(model);
  return plain !== undefined && Object.hasOwn(models, plain) ? models[plain] : undefined;
}

/** Whether a request for `model` can go there. */
export function serves(region: Region, model: string): boolean {
  return region.kind !== 'openai' || nameThere(region, model) !== undefined;
}

function withoutVersions(name: string): string | undefined {
  if (!name.includes('@')) return undefined;
  try {
    const model = parseModelName(name);
    if (model.kind === 'auto') return undefined;
    return formatModelName({ ...model, terms: model.terms.map(({ expert, weight }) => ({ expert, weight })) });
  } catch (error) {
    if (error instanceof Problem) return undefined;
    throw error;
  }
}

/** Strangers' models that `cards` lacks. Whether their servers are up isn't asked. */
export function strangersModels(regions: readonly Region[], cards: readonly ModelCard[]): ModelCard[] {
  const known = new Set(cards.map(({ id }) => id));
  const added = new Map<string, ModelCard>();
  for (const region of regions) {
    if (region.kind !== 'openai') continue;
    for (const [id, root] of Object.entries(region.models)) {
      if (known.has(id) || added.has(id)) continue;
      added.set(id, { id, object: 'model', created: 0, owned_by: region.name, parent: null, root });
    }
  }
  return [...added.values()];
}
