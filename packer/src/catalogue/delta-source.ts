/**
 * A delta by file name, or by name in a store: its header at once, its bytes when asked for.
 */
import {
  type DeltaLayout,
  deltaLayout,
  type ExpertVersion,
  headerLength,
  Problem,
  parseHeader,
  parseModelName,
  resolveExpert,
  type TrustedKey,
} from '@signpost/contracts';
import { type ByteSource, type ObjectStore, openFile, openObject, readCatalogue } from '@signpost/store';

export interface DeltaSource {
  readonly source: ByteSource;
  /** As the catalogue has it; undefined for a file. */
  readonly version: ExpertVersion | undefined;
}

export interface DeltaStore {
  readonly store: ObjectStore;
  readonly trust: readonly TrustedKey[];
}

/**
 * Opens what `NAME`, `NAME@CHANNEL` or `NAME@DIGEST` stands for in a store; without a store, a file.
 *
 * @throws Problem when it isn't there.
 */
export async function openDeltaSource(what: string, where: DeltaStore | undefined): Promise<DeltaSource> {
  if (where === undefined) return { source: await openFile(what), version: undefined };
  const model = parseModelName(what);
  const [term, ...others] = model.kind === 'mixture' ? model.terms : [];
  if (term === undefined || others.length > 0)
    throw new Problem(
      `"${what}" is not one expert; with --store write NAME, NAME@CHANNEL or NAME@DIGEST, without it a file`,
    );
  const { catalogue } = await readCatalogue(where.store, where.trust);
  const version = resolveExpert(catalogue, term.expert, term.selector);
  return { source: await openObject(where.store, version.key), version };
}

/** @throws Problem when it is no whole, well-formed delta file. */
export async function readDeltaLayout({ where, bytes, read }: ByteSource): Promise<DeltaLayout> {
  const length = headerLength(await read(0, Math.min(8, bytes)), bytes, where);
  return deltaLayout(parseHeader(await read(8, 8 + length), bytes, where), where);
}
