/**
 * The catalogue: what a store offers. Names and channels point at digests; everything else goes by digest.
 */
import { z } from 'zod';
import { type Digest, digestSchema } from './digest.ts';
import { Problem } from './problem.ts';

export const CATALOGUE_KEY = 'catalogue.json';
export const DEFAULT_CHANNEL = 'stable';

/** Bytes of header that a region reads and keeps for an expert with a tokenizer of its own. */
export const MAX_TOKENIZER_HEADER = 4 * 2 ** 20;

/** Bytes of a base's manifest: 67 a chunk of 8 MiB, so enough for two terabytes. */
const MAX_MANIFEST_BYTES = 16 * 2 ** 20;

/** A file's chunks are as many as this at most: of a longer file, they are larger. With 32 bytes each, they are the catalogue's longest part. */
export const MAX_CHUNKS = 256;
/** A layer of a small model has several. */
const MIN_CHUNK_BYTES = 2 ** 18;

/** Names on the list of what is brought in ahead. */
const MAX_PRELOAD = 256;

const MAX_LABEL_CHARS = 64;

const DIGEST_PREFIX = /^[0-9a-f]{8,64}$/;

/** Expert names: what may stand before `@`, `:` or `+` in a model name. `base` and `auto` are taken. */
export const expertNameSchema = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9._-]{0,63}$/,
    'expected lower-case letters, digits, ".", "_", "-" (1 to 64, starting with a letter or digit)',
  )
  .refine((name) => name !== 'base' && name !== 'auto', '"base" and "auto" are reserved names');

const qualitySchema = z.strictObject({
  /** Of the answers, the share that is right; or the likelihood's perplexity, the lower the better. */
  measure: z.enum(['accuracy', 'perplexity']),
  value: z.number().nonnegative(),
  /** The base's, by the same task. */
  base: z.number().nonnegative().optional(),
  /** Of the fine-tune's gain over the base, the share that is kept. */
  kept: z.number().optional(),
});
export type ExpertQuality = z.output<typeof qualitySchema>;

const versionSchema = z
  .strictObject({
    digest: digestSchema,
    base: digestSchema,
    /** Object key in the store. */
    key: z.string().min(1),
    bytes: z.number().int().positive(),
    method: z.string(),
    /**
     * Of an expert whose tokenizer isn't quite its base's: the delta file's header, which says how it differs and is needed before a prompt can be encoded.
     * A reference, not the thing: templates are long, and the catalogue is read every few seconds.
     */
    tokenizer: z
      .strictObject({ headerBytes: z.number().int().positive().max(MAX_TOKENIZER_HEADER), headerDigest: digestSchema })
      .optional(),
    /**
     * What each `bytes` of the file hash to, the last chunk maybe shorter: a region uses a file's first layers before it has the whole. Joined, in base64.
     * Versions that were published before there were any have none; they are used when they are whole.
     */
    chunks: z
      .strictObject({ bytes: z.number().int().positive(), sha256: z.string().regex(/^[A-Za-z0-9+/]+={0,2}$/) })
      .optional(),
    published: z.iso.datetime(),
    /** What an evaluation found, by task: for people, who choose between versions. */
    quality: z.record(z.string().min(1).max(64), qualitySchema).optional(),
  })
  .superRefine(({ bytes, chunks }, context) => {
    if (chunks === undefined) return;
    const count = chunkCount(bytes, chunks.bytes);
    const problem =
      count > MAX_CHUNKS
        ? `${count} chunks, more than ${MAX_CHUNKS}`
        : chunks.sha256.length === base64Length(count * 32)
          ? undefined
          : `expected the hashes of ${count} chunks, 32 bytes each, in base64`;
    if (problem !== undefined) context.addIssue({ code: 'custom', path: ['chunks'], message: problem });
  });
export type ExpertVersion = z.output<typeof versionSchema>;

/** Bytes of the chunks that a file of `bytes` is hashed in: a power of two, 256 KiB or more. */
export function chunkBytesFor(bytes: number): number {
  let size = MIN_CHUNK_BYTES;
  while (chunkCount(bytes, size) > MAX_CHUNKS) size *= 2;
  return size;
}

export function chunkCount(bytes: number, chunkBytes: number): number {
  return Math.ceil(bytes / chunkBytes);
}

function base64Length(bytes: number): number {
  return Math.ceil(bytes / 3) * 4;
}

/** Channel names: what may stand after `@` in a model name and isn't the beginning of a digest. */
export const channelNameSchema = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._-]{0,63}$/, 'expected lower-case letters, digits, ".", "_", "-" (1 to 64)')
  .refine((name) => !DIGEST_PREFIX.test(name), 'reads like the beginning of a digest');

/** The versions a channel points at; each gets its weight's share of the requests. */
const targetsSchema = z.array(z.strictObject({ digest: digestSchema, weight: z.number().positive() })).min(1);
export type ChannelTargets = z.output<typeof targetsSchema>;

/** How many of a channel's earlier states are kept, and so how often `rollback` can be repeated. */
export const CHANNEL_HISTORY = 10;

const expertSchema = z.strictObject({
  /** Newest last. */
  versions: z.array(versionSchema).min(1),
  channels: z.record(z.string(), targetsSchema),
  /** What each channel pointed at before, latest last. */
  history: z
    .record(
      z.string(),
      z.array(z.strictObject({ targets: targetsSchema, until: z.iso.datetime() })).max(CHANNEL_HISTORY),
    )
    .optional(),
});
export type CatalogueExpert = z.output<typeof expertSchema>;

export const catalogueSchema = z
  .strictObject({
    format: z.literal(1),
    /** Grows by one with each change: a reader that has seen it refuses an older one. Catalogues from before it was kept have 0. */
    revision: z.number().int().nonnegative().default(0),
    bases: z.record(
      digestSchema,
      z.strictObject({
        name: z.string().min(1),
        /** Where the list of its files is, if they are in the store, too (base-manifest.ts). A reference: it is long, and the catalogue is read every few seconds. */
        manifest: z
          .strictObject({
            key: z.string().min(1),
            bytes: z.number().int().positive().max(MAX_MANIFEST_BYTES),
            digest: digestSchema,
          })
          .optional(),
      }),
    ),
    experts: z.record(expertNameSchema, expertSchema),
    /**
     * Experts that regions bring in before they are asked for, as far as there is room; the most wanted first. `NAME` or `NAME@SELECTOR`; one that stands for
     * nothing (any more) is passed over.
     */
    preload: z.array(z.string().min(1)).max(MAX_PRELOAD).optional(),
    /**
     * What the edge's prompt classifier means by its labels, for rules that answer by label: `NAME`, `NAME@SELECTOR` or `base`. A label that isn't here stands
     * for the expert of its name.
     */
    router: z.strictObject({ labels: z.record(z.string().min(1).max(MAX_LABEL_CHARS), z.string().min(1)) }).optional(),
    /**
     * Objects that garbage collection has removed lately or is about to, by key, with the time it was decided. Who publishes the same
     * bytes again takes another key, so that no object is removed under a version that just came to need it.
     */
    tombstones: z.record(z.string(), z.iso.datetime()).optional(),
  })
  .superRefine((catalogue, context) => {
    for (const [name, expert] of Object.entries(catalogue.experts)) {
      const known = new Set(expert.versions.map((version) => version.digest));
      const check = (targets: ChannelTargets, ...path: string[]) => {
        for (const { digest } of targets) {
          if (known.has(digest)) continue;
          const message = `points at ${digest}, which is no version of ${name}`;
          context.addIssue({ code: 'custom', path: ['experts', name, ...path], message });
        }
      };
      for (const [channel, targets] of Object.entries(expert.channels)) check(targets, 'channels', channel);
      for (const [channel, states] of Object.entries(expert.history ?? {}))
        for (const { targets } of states) check(targets, 'history', channel);
    }
  });
export type Catalogue = z.output<typeof catalogueSchema>;

export const EMPTY_CATALOGUE: Catalogue = { format: 1, revision: 0, bases: {}, experts: {} };

/**
 * The version that `name` or `name@selector` stands for. A selector is a channel or at least 8 hex characters of a digest; none is
 * the channel `stable`. A channel with several versions (a canary) is resolved by `point` in [0, 1).
 *
 * @throws Problem when the expert, channel or digest is not in the catalogue.
 */
export function resolveExpert(
  catalogue: Catalogue,
  name: string,
  selector: string | undefined,
  point = 0,
): ExpertVersion {
  const targets = resolveTargets(catalogue, name, selector);
  let left = point * targets.reduce((sum, { weight }) => sum + weight, 0);
  const picked = targets.find(({ weight }) => {
    left -= weight;
    return left < 0;
  });
  const { version } = picked ?? targets.at(-1) ?? {};
  if (version === undefined) throw new Problem(`expert "${name}": the channel points at nothing`);
  return version;
}

/**
 * All the versions that `name` or `name@selector` stands for, with their shares of its requests.
 *
 * @throws Problem when the expert, channel or digest is not in the catalogue.
 */
export function resolveTargets(
  catalogue: Catalogue,
  name: string,
  selector: string | undefined,
): { readonly version: ExpertVersion; readonly weight: number }[] {
  const expert = Object.hasOwn(catalogue.experts, name) ? catalogue.experts[name] : undefined;
  if (expert === undefined)
    throw new Problem(`there is no expert "${name}"; known: ${Object.keys(catalogue.experts).join(', ') || 'none'}`);
  const channel = selector ?? DEFAULT_CHANNEL;
  const targets = Object.hasOwn(expert.channels, channel) ? expert.channels[channel] : undefined;
  return (targets ?? [{ digest: uniqueVersion(expert, name, channel), weight: 1 }]).map(({ digest, weight }) => {
    const version = expert.versions.find((candidate) => candidate.digest === digest);
    if (version === undefined) throw new Problem(`expert "${name}" has no version ${digest}`);
    return { version, weight };
  });
}

export type CatalogueBase = Catalogue['bases'][Digest];

/**
 * The base that `selector` stands for: its name, or at least 8 hex characters of its digest; the only one there is where it is empty.
 *
 * @throws Problem when there is none, or more than one.
 */
export function resolveBase(
  { bases }: Catalogue,
  selector: string,
): { readonly digest: Digest; readonly base: CatalogueBase } {
  const all = Object.entries(bases).map(([digest, base]) => ({ digest: digest as Digest, base }));
  const named = all.filter(({ base }) => base.name === selector);
  const matches =
    selector === ''
      ? all
      : named.length > 0 || !DIGEST_PREFIX.test(selector)
        ? named
        : all.filter(({ digest }) => digest.startsWith(selector));
  const [only] = matches;
  if (only !== undefined && matches.length === 1) return only;
  const known = all.map(({ digest, base }) => `${base.name} (${digest.slice(0, 12)})`).join(', ') || 'none';
  throw new Problem(
    matches.length > 1
      ? `${selector === '' ? 'the catalogue has several bases' : `several bases are meant by "${selector}"`}: ${known}; say which by digest`
      : `the catalogue has no base${selector === '' ? '' : ` "${selector}"`}; known: ${known}; publish one with signpost-packer publish-base`,
  );
}

/** The expert that a label of the prompt classifier stands for, as a model is named; undefined where that is none of the catalogue's. */
export function expertOfLabel(catalogue: Catalogue, label: string): string | undefined {
  const { labels = {} } = catalogue.router ?? {};
  const name = Object.hasOwn(labels, label) ? (labels[label] ?? label) : label;
  if (name === 'base') return name;
  const [expert = '', selector] = name.split('@', 2);
  try {
    resolveTargets(catalogue, expert, selector);
    return name;
  } catch (error) {
    if (error instanceof Problem) return undefined;
    throw error;
  }
}

function uniqueVersion(expert: CatalogueExpert, name: string, prefix: string): Digest {
  const matches = DIGEST_PREFIX.test(prefix) ? expert.versions.filter(({ digest }) => digest.startsWith(prefix)) : [];
  const [only] = matches;
  if (only !== undefined && matches.length === 1) return only.digest;
  const why =
    matches.length > 1
      ? 'is the beginning of several digests'
      : 'is neither a channel nor a digest (8 hex characters or more)';
  throw new Problem(`expert "${name}": "${prefix}" ${why}; channels: ${Object.keys(expert.channels).join(', ')}`);
}
