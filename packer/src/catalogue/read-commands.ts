/**
 * `signpost-packer` `list`, `inspect`, `verify`: what looks at a catalogue or a delta.
 */
import { type Digest, digestSchema } from '@signpost/contracts';
import { openStore, readCatalogue } from '@signpost/store';
import { Command, InvalidArgumentError } from 'commander';
import { formatBytes, withProgress } from '../progress.ts';
import { openSource } from '../source/open.ts';
import { openDeltaSource } from './delta-source.ts';
import { describeInspection, inspect } from './inspect.ts';
import { describeCatalogue } from './list.ts';
import { deltaStoreOf, print, type ReaderFlags, STORE_HELP, trustOf, withReaderOptions } from './options.ts';
import { type Verified, verify } from './verify.ts';

export function readCommands(): Command[] {
  return [listCommand(), inspectCommand(), verifyCommand()];
}

function listCommand(): Command {
  const command = new Command('list')
    .description('print the experts of a store, their versions and channels')
    .requiredOption('--store <url>', STORE_HELP);
  return withReaderOptions(command).action(async (flags: ReaderFlags & { readonly store: string }) => {
    const { catalogue, signedBy } = await readCatalogue(openStore(flags.store), await trustOf(flags));
    print(flags, { signedBy, ...catalogue }, () => {
      const signature = signedBy === undefined ? 'not signed' : `signed with key ${signedBy}`;
      const isChecked = (flags.trustKey ?? []).length > 0;
      return `${describeCatalogue(catalogue)}\n${signature}${isChecked || signedBy === undefined ? '' : ' (not checked: no --trust-key)'}`;
    });
  });
}

interface DeltaFlags extends ReaderFlags {
  readonly store?: string;
}

/** For a command that takes a delta. */
function withDelta(command: Command): Command {
  return withReaderOptions(
    command
      .argument('<delta>', 'file; with --store: NAME, NAME@CHANNEL or NAME@DIGEST')
      .option('--store <url>', STORE_HELP),
  );
}

function inspectCommand(): Command {
  const command = new Command('inspect').description("print a delta's metadata, bytes by group and errors by matrix");
  return withDelta(command).action(async (what: string, flags: DeltaFlags) => {
    const { source } = await openDeltaSource(what, await deltaStoreOf(flags));
    try {
      print(flags, await inspect(source), describeInspection);
    } finally {
      await source.close();
    }
  });
}

interface VerifyFlags extends DeltaFlags {
  readonly base: string;
  readonly tuned?: string;
  readonly digest?: Digest;
}

function verifyCommand(): Command {
  const command = new Command('verify')
    .description("check a delta's bytes, its base and, with the fine-tune, the errors it states")
    .requiredOption('--base <dir>', 'base checkpoint')
    .option('--tuned <dir>', "the fine-tune it was packed from: each matrix's error is computed again")
    .option('--digest <sha256>', 'what the bytes should be; for a NAME the catalogue says so', digest);
  return withDelta(command).action(async (what: string, flags: VerifyFlags) => {
    const { source, version } = await openDeltaSource(what, await deltaStoreOf(flags));
    try {
      const expected = flags.digest ?? version?.digest;
      const base = await openSource(flags.base);
      const tuned = flags.tuned === undefined ? {} : { tuned: await openSource(flags.tuned, { base }) };
      const digest = expected === undefined ? {} : { digest: expected };
      const chunks = version?.chunks === undefined ? {} : { chunks: version.chunks };
      const verified = await withProgress(
        `verifying ${what}`,
        (watch) => verify(source, { base, ...tuned, ...digest, ...chunks, ...watch }),
        'interrupted; nothing was verified',
      );
      print(flags, verified, describeVerified);
    } finally {
      await source.close();
    }
  });
}

function describeVerified({ where, bytes, digest: found, isDigestExpected, base, params, errors }: Verified): string {
  return [
    `${where}: ${formatBytes(bytes)}, ${found}${isDigestExpected ? ', as expected' : ' (nothing to compare with: give --digest, or a NAME and --store)'}`,
    `fits base ${base}: ${params} parameters`,
    errors === undefined
      ? 'errors not checked: no --tuned'
      : `${Object.keys(errors).length} matrices have the errors they state`,
  ].join('\n');
}

function digest(text: string): Digest {
  const parsed = digestSchema.safeParse(text);
  if (!parsed.success) throw new InvalidArgumentError('expected a sha256: 64 lower-case hex characters');
  return parsed.data;
}
