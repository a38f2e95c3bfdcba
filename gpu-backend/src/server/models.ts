/**
 * `GET /v1/models`: the base, and the experts of the catalogue that were made for it.
 */
import {
  ApiError,
  type Catalogue,
  DEFAULT_CHANNEL,
  type Digest,
  type ModelCard,
  resolveExpert,
} from '@signpost/contracts';

const OWNER = 'signpost';

export function listModels(catalogue: Catalogue, base: Digest, startedAt: number): ModelCard[] {
  const baseName = catalogue.bases[base]?.name ?? 'base';
  const cards: ModelCard[] = [
    { id: 'base', object: 'model', created: startedAt, owned_by: OWNER, parent: null, root: base },
  ];
  for (const [name, expert] of Object.entries(catalogue.experts)) {
    for (const channel of Object.keys(expert.channels)) {
      const version = resolveExpert(catalogue, name, channel);
      if (version.base !== base) continue;
      const id = channel === DEFAULT_CHANNEL ? name : `${name}@${channel}`;
      const created = Math.floor(Date.parse(version.published) / 1000);
      cards.push({ id, object: 'model', created, owned_by: OWNER, parent: baseName, root: version.digest });
    }
  }
  return cards;
}

/** @throws ApiError (404) */
export function findModel(cards: readonly ModelCard[], id: string): ModelCard {
  const card = cards.find((candidate) => candidate.id === id);
  if (card === undefined) {
    throw new ApiError(
      'not_found_error',
      'model_not_found',
      `there is no model "${id}"; known: ${cards.map((known) => known.id).join(', ')}`,
      { param: 'model' },
    );
  }
  return card;
}
