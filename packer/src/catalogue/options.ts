/**
 * Options that the catalogue's commands share.
 */
import type { TrustedKey } from '@signpost/contracts';
import { type CatalogueKeys, keyFiles, openStore, readSigningKey, readTrustedKeys, STORE_URLS } from '@signpost/store';
import { type Command, Option } from 'commander';
import type { DeltaStore } from './delta-source.ts';

export interface ReaderFlags {
  readonly trustKey?: readonly string[];
  readonly json: boolean;
}

export interface WriterFlags extends ReaderFlags {
  readonly store: string;
  readonly signKey?: string;
}

export const STORE_HELP = `store: ${STORE_URLS}`;

/** For a command that reads the catalogue. */
export function withReaderOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--trust-key <file>', 'public key that the catalogue must be signed with; repeat for several')
        .env('SIGNPOST_TRUST_KEY')
        .argParser(keyFiles),
    )
    .option('--json', 'print the result as JSON', false);
}

/** For a command that changes the catalogue. */
export function withWriterOptions(command: Command): Command {
  return withReaderOptions(command.requiredOption('--store <url>', STORE_HELP)).addOption(
    new Option('--sign-key <file>', 'private key to sign the changed catalogue with').env('SIGNPOST_SIGN_KEY'),
  );
}

export function trustOf({ trustKey = [] }: ReaderFlags): Promise<readonly TrustedKey[]> {
  return readTrustedKeys(trustKey);
}

export async function keysOf({ signKey, ...flags }: WriterFlags): Promise<CatalogueKeys> {
  const trust = await trustOf(flags);
  return signKey === undefined ? { trust } : { trust, sign: await readSigningKey(signKey) };
}

export async function deltaStoreOf(flags: ReaderFlags & { readonly store?: string }): Promise<DeltaStore | undefined> {
  return flags.store === undefined ? undefined : { store: openStore(flags.store), trust: await trustOf(flags) };
}

/** Prints a command's result: for machines where asked, otherwise as lines for a person. */
export function print<T>({ json }: { readonly json: boolean }, result: T, describe: (result: T) => string): void {
  console.log(json ? JSON.stringify(result) : describe(result));
}
