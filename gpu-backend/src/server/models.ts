/**
 * `GET /v1/models`: the base, and the experts of the catalogue that were made for it.
 */
import {
  ApiError,
  type Catalogue,
  DEFAULT_CHANNEL,
  type Digest,
  type ExpertVersion,
  type ModelCard,
  Problem,
  parseExpertReference,
  resolveExpert,
} from '@signpost/contracts';

const OWNER = 'signpost';

/** The base, then each expert's channels; `startedAt` (seconds since the epoch) is when the base came to be here. */
export function listModels(catalogue: Catalogue, base: Digest, startedAt: number): ModelCard[] {
  const cards: ModelCard[] = [
    { id: 'base', object: 'model', created: startedAt, owned_by: OWNER, parent: null, root: base },
  ];
  for (const [name, expert] of Object.entries(catalogue.experts)) {
    for (const channel of Object.keys(expert.channels)) {
      const version = resolveExpert(catalogue, name, channel);
      if (version.base === base) cards.push(expertCard(catalogue, modelId(name, channel), version));
    }
  }
  return cards;
}

/** Model names that stand for an expert version now: `NAME` and `NAME@CHANNEL`. */
export function modelNames({ experts }: Catalogue, digest: Digest): string[] {
  return Object.entries(experts).flatMap(([name, { channels }]) =>
    Object.entries(channels).flatMap(([channel, targets]) =>
      targets.some((target) => target.digest === digest) ? modelId(name, channel) : [],
    ),
  );
}

/**
 * The card of one model: of the list, or an expert by `NAME@CHANNEL` or `NAME@DIGEST`.
 *
 * @throws ApiError (404) naming the models there are.
 */
export function findModel(catalogue: Catalogue, base: Digest, startedAt: number, id: string): ModelCard {
  const cards = listModels(catalogue, base, startedAt);
  const card = cards.find((candidate) => candidate.id === id) ?? selectedCard(catalogue, base, id);
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

function modelId(name: string, channel: string): string {
  return channel === DEFAULT_CHANNEL ? name : `${name}@${channel}`;
}

function selectedCard(catalogue: Catalogue, base: Digest, id: string): ModelCard | undefined {
  try {
    // A mixture is no model of its own.
    const { expert, selector } = parseExpertReference(id);
    const version = resolveExpert(catalogue, expert, selector);
    return version.base === base ? expertCard(catalogue, id, version) : undefined;
  } catch (error) {
    if (error instanceof Problem) return undefined;
    throw error;
  }
}

function expertCard(catalogue: Catalogue, id: string, version: ExpertVersion): ModelCard {
  return {
    id,
    object: 'model',
    created: Math.floor(Date.parse(version.published) / 1000),
    owned_by: OWNER,
    parent: catalogue.bases[version.base]?.name ?? 'base',
    root: version.digest,
  };
}
