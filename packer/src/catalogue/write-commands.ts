/**
 * `signpost-packer` `keygen`, `sign`, `publish`, `publish-base`, `promote`, `rollback`, `preload`, `labels`, `gc`: what changes a catalogue.
 */
import { DEFAULT_CHANNEL, Problem } from '@signpost/contracts';
import { openStore, resignCatalogue, updateCatalogue, writeKeyPair } from '@signpost/store';
import { Command, InvalidArgumentError } from 'commander';
import { formatBytes, withProgress } from '../progress.ts';
import { labelling, preloading, promoted, rolledBack } from './changes.ts';
import { readQuality } from './evaluation.ts';
import { type Collected, GC_DEFAULTS, gc, planGc } from './gc.ts';
import { describeChannel } from './list.ts';
import { keysOf, print, type WriterFlags, withWriterOptions } from './options.ts';
import { publish } from './publish.ts';
import { publishBase } from './publish-base.ts';

const UNITS_MS = { m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

export function writeCommands(): Command[] {
  return [
    keygenCommand(),
    signCommand(),
    publishCommand(),
    publishBaseCommand(),
    promoteCommand(),
    rollbackCommand(),
    preloadCommand(),
    labelsCommand(),
    gcCommand(),
  ];
}

function keygenCommand(): Command {
  return new Command('keygen')
    .description('make a key pair to sign catalogues with: FILE, private, and FILE.pub')
    .requiredOption('--out <file>', 'file of the private key; neither may exist')
    .option('--json', 'print the result as JSON', false)
    .action(async (flags: { out: string; json: boolean }) => {
      print(
        flags,
        await writeKeyPair(flags.out),
        ({ id, privateKey, publicKey }) =>
          `key ${id}: ${privateKey} is for who publishes (--sign-key), ${publicKey} for who reads (--trust-key, signpost-backend --catalogue-key)`,
      );
    });
}

function signCommand(): Command {
  const command = new Command('sign').description(
    'sign the catalogue as it stands: the first time, or with a new key; look at it first (list)',
  );
  return withWriterOptions(command).action(async (flags: WriterFlags) => {
    const { sign, trust } = await keysOf(flags);
    if (sign === undefined) throw new Problem('there is nothing to sign with; give --sign-key or SIGNPOST_SIGN_KEY');
    const catalogue = await resignCatalogue(openStore(flags.store), sign, trust);
    const result = { key: sign.public.id, experts: Object.keys(catalogue.experts) };
    print(flags, result, ({ key, experts }) => `signed with key ${key}: ${experts.join(', ') || 'no experts'}`);
  });
}

function publishCommand(): Command {
  const command = new Command('publish')
    .description('copy a delta file into a store and name it in the catalogue')
    .argument('<file>', 'delta file')
    .option('--name <name>', 'expert name (the one in the file when left out)')
    .option('--channel <channel>', 'channel that shall point at this version', DEFAULT_CHANNEL)
    .option('--base-name <name>', "the base's name in model lists", 'base')
    .option('--evaluation <file>', 'eval.json of `eval`, whose figures for this file go into the catalogue')
    .option('--method <name>', "this file's name in the evaluation (by its path when left out)");
  interface PublishFlags extends WriterFlags {
    readonly name?: string;
    readonly channel: string;
    readonly baseName: string;
    readonly evaluation?: string;
    readonly method?: string;
  }
  return withWriterOptions(command).action(async (file: string, flags: PublishFlags) => {
    const { evaluation, method } = flags;
    if (method !== undefined && evaluation === undefined)
      throw new Problem('--method names a method of an evaluation; give --evaluation too');
    const keys = await keysOf(flags);
    const quality = evaluation === undefined ? {} : { quality: await readQuality(evaluation, file, method) };
    const published = await withProgress(
      `publishing ${file}`,
      (watch) => publish(openStore(flags.store), file, { ...flags, ...keys, ...quality, ...watch }),
      'interrupted; nothing was published, and the next run resumes a large upload',
    );
    print(
      flags,
      published,
      ({ name, version }) => `${name}@${flags.channel} is now ${version.digest} (${formatBytes(version.bytes)})`,
    );
  });
}

function publishBaseCommand(): Command {
  const command = new Command('publish-base')
    .description("copy a base's checkpoint into a store, for regions that fetch it when they start (--base store:NAME)")
    .argument('<dir>', 'base checkpoint (Hugging Face folder with safetensors)')
    .option('--name <name>', "the base's name (what it had, or the folder's, when left out)");
  interface PublishBaseFlags extends WriterFlags {
    readonly name?: string;
  }
  return withWriterOptions(command).action(async (dir: string, flags: PublishBaseFlags) => {
    const keys = await keysOf(flags);
    const published = await withProgress(
      `publishing ${dir}`,
      (watch) => publishBase(openStore(flags.store), dir, { ...flags, ...keys, ...watch }),
      'interrupted; nothing was published, and the next run sends no file again that is there',
    );
    print(
      flags,
      published,
      ({ name, digest, files, bytes }) =>
        `base ${name} is ${digest} (${files} files, ${formatBytes(bytes)}); regions take it with --base store:${name}`,
    );
  });
}

interface ChannelFlags extends WriterFlags {
  readonly channel: string;
}

function promoteCommand(): Command {
  const command = new Command('promote')
    .description('point a channel at a version, or give the version a share of its requests (canary)')
    .argument('<name>', 'expert')
    .argument('<version>', 'digest (8 characters or more), or a channel that points at one version')
    .option('--channel <channel>', 'channel to change', DEFAULT_CHANNEL)
    .option('--weight <share>', 'share of its requests, above 0 and at most 1; the rest stays where it is', share, 1);
  return withWriterOptions(command).action(
    async (name: string, selector: string, flags: ChannelFlags & { readonly weight: number }) => {
      const promotion = { selector, channel: flags.channel, share: flags.weight };
      await changeChannel(name, flags, (catalogue) => promoted(catalogue, name, promotion));
    },
  );
}

function rollbackCommand(): Command {
  const command = new Command('rollback')
    .description('point a channel at what it pointed at before; repeated, at what was before that')
    .argument('<name>', 'expert')
    .option('--channel <channel>', 'channel to change', DEFAULT_CHANNEL);
  return withWriterOptions(command).action(async (name: string, flags: ChannelFlags) => {
    await changeChannel(name, flags, (catalogue) => rolledBack(catalogue, name, flags.channel));
  });
}

function preloadCommand(): Command {
  const command = new Command('preload')
    .description('say which experts regions bring in before anybody asks for them, in place of those said before')
    .argument('[names...]', 'experts, the most wanted first: NAME, NAME@CHANNEL or NAME@DIGEST; none for no list');
  return withWriterOptions(command).action(async (names: string[], flags: WriterFlags) => {
    const { preload = [] } = await updateCatalogue(
      openStore(flags.store),
      (catalogue) => preloading(catalogue, names),
      await keysOf(flags),
    );
    print(flags, { preload }, () => `regions bring in ahead: ${preload.join(', ') || 'nothing'}`);
  });
}

function labelsCommand(): Command {
  const command = new Command('labels')
    .description("say which experts the prompt classifier's labels stand for, in place of what was said before")
    .argument('[labels...]', 'LABEL=NAME, LABEL=NAME@CHANNEL or LABEL=base; none for no map', labelPair, {});
  return withWriterOptions(command).action(async (labels: Record<string, string>, flags: WriterFlags) => {
    const { router } = await updateCatalogue(
      openStore(flags.store),
      (catalogue) => labelling(catalogue, labels),
      await keysOf(flags),
    );
    print(
      flags,
      { labels: router?.labels ?? {} },
      (result) =>
        Object.entries(result.labels)
          .map(([label, name]) => `${label} is answered by ${name}`)
          .join('\n') || 'each label stands for the expert of its name',
    );
  });
}

function labelPair(text: string, pairs: Readonly<Record<string, string>>): Record<string, string> {
  const { label, name } = /^(?<label>[^=]+)=(?<name>.+)$/.exec(text)?.groups ?? {};
  if (label === undefined || name === undefined) throw new InvalidArgumentError('expected LABEL=NAME');
  return { ...pairs, [label]: name };
}

async function changeChannel(
  name: string,
  flags: ChannelFlags,
  change: Parameters<typeof updateCatalogue>[1],
): Promise<void> {
  const catalogue = await updateCatalogue(openStore(flags.store), change, await keysOf(flags));
  const { channel } = flags;
  const result = { name, channel, targets: catalogue.experts[name]?.channels[channel] ?? [] };
  print(flags, result, () => `${name}@${channel} is now ${describeChannel(catalogue, name, channel)}`);
}

function gcCommand(): Command {
  const command = new Command('gc')
    .description('remove versions and objects that no channel, rollback or grace period needs')
    .option(
      '--grace <duration>',
      'keep versions, and objects of bases, younger than this: 30m, 12h, 7d',
      duration,
      GC_DEFAULTS.graceMs,
    )
    .option('--dry-run', 'say what would be removed, and remove nothing', false);
  interface GcFlags extends WriterFlags {
    readonly grace: number;
    readonly dryRun: boolean;
  }
  return withWriterOptions(command).action(async (flags: GcFlags) => {
    const options = { ...(await keysOf(flags)), graceMs: flags.grace };
    const store = openStore(flags.store);
    const collected = flags.dryRun ? await planGc(store, options) : await gc(store, options);
    print(flags, collected, (result) => describeCollected(result, flags.dryRun ? 'would remove' : 'removed'));
  });
}

function describeCollected({ versions, objects, unfinished }: Collected, did: string): string {
  const freed = objects.reduce((sum, { bytes }) => sum + bytes, 0);
  return [
    ...versions.map(({ name, digest }) => `version  ${name} ${digest}`),
    ...objects.map(({ key, bytes }) => `object   ${key} (${formatBytes(bytes)})`),
    ...unfinished.map((key) => `unfinished write of ${key}`),
    `${did} ${versions.length} versions and ${objects.length} objects (${formatBytes(freed)})`,
  ].join('\n');
}

function share(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value <= 1)) throw new InvalidArgumentError('expected a number above 0 and at most 1');
  return value;
}

function duration(text: string): number {
  const { value, unit } = /^(?<value>\d+)(?<unit>[mhd])$/.exec(text)?.groups ?? {};
  if (value === undefined || (unit !== 'm' && unit !== 'h' && unit !== 'd'))
    throw new InvalidArgumentError('expected a number of minutes, hours or days: 30m, 12h, 7d');
  return Number(value) * UNITS_MS[unit];
}
