/**
 * What the commands do to a catalogue, as functions from one catalogue to the next. No I/O: a conditional write that lost is applied again.
 */
import {
  type Catalogue,
  type CatalogueExpert,
  CHANNEL_HISTORY,
  type ChannelTargets,
  channelNameSchema,
  type Digest,
  type ExpertVersion,
  Problem,
  parseExpertReference,
  parseWith,
  resolveExpert,
  resolveTargets,
} from '@signpost/contracts';

/** The catalogue with a new version of an expert, to which a channel points from now on. */
export function withVersion(
  catalogue: Catalogue,
  name: string,
  version: ExpertVersion,
  channel: string,
  baseName: string,
): Catalogue {
  const before: CatalogueExpert = expertOf(catalogue, name) ?? { versions: [], channels: {} };
  const known = before.versions.some(({ digest }) => digest === version.digest);
  // One that was published before files were hashed in chunks gets their hashes now; what was found of it since takes the place of what was found before.
  const newest = (one: ExpertVersion) => ({ ...version, ...one, ...(version.quality && { quality: version.quality }) });
  const versions = before.versions.map((one) => (one.digest === version.digest ? newest(one) : one));
  const expert = { ...before, versions: known ? versions : [...versions, version] };
  return {
    ...catalogue,
    bases: { ...catalogue.bases, [version.base]: catalogue.bases[version.base] ?? { name: baseName } },
    experts: {
      ...catalogue.experts,
      [name]: pointed(expert, channel, [{ digest: version.digest, weight: 1 }]),
    },
  };
}

export interface Promotion {
  /** A digest, its beginning, or a channel that points at one version. */
  readonly selector: string;
  /** The channel to change. */
  readonly channel: string;
  /** Share of the channel's requests, above 0 and at most 1; what it points at already shares the rest as before. */
  readonly share: number;
}

/**
 * The catalogue with a channel that points at a version, or gives it a share.
 *
 * @throws Problem when the expert or version isn't there, the selector stands for several, or there is nothing to share with.
 */
export function promoted(catalogue: Catalogue, name: string, { selector, channel, share }: Promotion): Catalogue {
  const { digest } = resolveExpert(catalogue, name, selector);
  const expert = requireExpert(catalogue, name);
  const source = Object.hasOwn(expert.channels, selector) ? (expert.channels[selector] ?? []) : [];
  if (source.length > 1)
    throw new Problem(
      `channel ${selector} of ${name} points at ${source.map((target) => target.digest.slice(0, 12)).join(' and ')}; say which by digest`,
    );
  const others = (channelOf(expert, channel) ?? []).filter((target) => target.digest !== digest);
  if (share < 1 && others.length === 0)
    throw new Problem(
      `channel ${channel} of ${name} points at no other version that could take the rest; promote it whole, without --weight`,
    );
  const total = others.reduce((sum, { weight }) => sum + weight, 0);
  const rest =
    share < 1 ? others.map((other) => ({ ...other, weight: rounded(((1 - share) * other.weight) / total) })) : [];
  return withExpert(catalogue, name, pointed(expert, channel, [...rest, { digest, weight: share }]));
}

/**
 * The catalogue with a channel back at what it pointed at before; repeated, at what it pointed at before that.
 *
 * @throws Problem when there is no such expert, or nothing was before.
 */
export function rolledBack(catalogue: Catalogue, name: string, channel: string): Catalogue {
  const expert = requireExpert(catalogue, name);
  const states = historyOf(expert, channel);
  const last = states.at(-1);
  if (last === undefined)
    throw new Problem(
      `channel ${channel} of ${name} has pointed at nothing else (the last ${CHANNEL_HISTORY} states are kept); channels: ${Object.keys(expert.channels).join(', ')}`,
    );
  return withExpert(catalogue, name, {
    ...expert,
    channels: { ...expert.channels, [channel]: last.targets },
    history: { ...expert.history, [channel]: states.slice(0, -1) },
  });
}

/**
 * The catalogue with another list of experts that regions bring in ahead; none for no names.
 *
 * @throws Problem for a name that stands for no version.
 */
export function preloading({ preload: _, ...catalogue }: Catalogue, names: readonly string[]): Catalogue {
  for (const name of names) {
    const { expert, selector } = parseExpertReference(name);
    resolveTargets(catalogue, expert, selector);
  }
  return names.length === 0 ? catalogue : { ...catalogue, preload: [...new Set(names)] };
}

/**
 * The catalogue with another map from the prompt classifier's labels to experts; none for no labels.
 *
 * @throws Problem for a name that stands for no version.
 */
export function labelling({ router: _, ...catalogue }: Catalogue, labels: Readonly<Record<string, string>>): Catalogue {
  for (const name of Object.values(labels)) {
    if (name === 'base') continue;
    const { expert, selector } = parseExpertReference(name);
    resolveTargets(catalogue, expert, selector);
  }
  return Object.keys(labels).length === 0 ? catalogue : { ...catalogue, router: { labels } };
}

/** @throws Problem when there is none. */
function requireExpert(catalogue: Catalogue, name: string): CatalogueExpert {
  const expert = expertOf(catalogue, name);
  if (expert === undefined)
    throw new Problem(`there is no expert "${name}"; known: ${Object.keys(catalogue.experts).join(', ') || 'none'}`);
  return expert;
}

function expertOf(catalogue: Catalogue, name: string): CatalogueExpert | undefined {
  return Object.hasOwn(catalogue.experts, name) ? catalogue.experts[name] : undefined;
}

/** Digests that a channel, or a state that one could be rolled back to, points at. */
export function neededDigests({ channels, history = {} }: CatalogueExpert): Set<Digest> {
  const targets = [
    ...Object.values(channels),
    ...Object.values(history).flatMap((states) => states.map((s) => s.targets)),
  ];
  return new Set(targets.flat().map(({ digest }) => digest));
}

/** The expert with a channel that points at `targets`; what it pointed at goes into its history, unless it is the same. */
function pointed(expert: CatalogueExpert, channel: string, targets: ChannelTargets): CatalogueExpert {
  parseWith(channelNameSchema, channel, `channel "${channel}"`);
  const before = channelOf(expert, channel);
  if (JSON.stringify(before) === JSON.stringify(targets)) return expert;
  const channels = { ...expert.channels, [channel]: targets };
  if (before === undefined) return { ...expert, channels };
  const states = [...historyOf(expert, channel), { targets: before, until: new Date().toISOString() }];
  return { ...expert, channels, history: { ...expert.history, [channel]: states.slice(-CHANNEL_HISTORY) } };
}

function channelOf({ channels }: CatalogueExpert, channel: string): ChannelTargets | undefined {
  return Object.hasOwn(channels, channel) ? channels[channel] : undefined;
}

function historyOf({ history = {} }: CatalogueExpert, channel: string) {
  return Object.hasOwn(history, channel) ? (history[channel] ?? []) : [];
}

function withExpert(catalogue: Catalogue, name: string, expert: CatalogueExpert): Catalogue {
  return { ...catalogue, experts: { ...catalogue.experts, [name]: expert } };
}

/** 0.9 rather than 0.9000000000000001. */
function rounded(weight: number): number {
  return Number(weight.toPrecision(12));
}
