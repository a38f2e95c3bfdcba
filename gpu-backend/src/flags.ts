/**
 * The flags that every command that runs a region has. Each with a value is also read from a variable: `--kv-tokens` from `SIGNPOST_KV_TOKENS`.
 */
import { Problem } from '@signpost/contracts';
import { keyFiles, STORE_URLS } from '@signpost/store';
import { Command, InvalidArgumentError, Option } from 'commander';
import manifest from '../package.json' with { type: 'json' };
import { BACKEND_DEFAULTS, type RegionOptions } from './options.ts';

export interface RegionFlags
  extends Omit<RegionOptions, 'secret' | 'metricsKey' | 'adminKey' | 'requestTimeoutMs' | 'edge' | 'onLog'> {
  /** Seconds. */
  readonly requestTimeout: number;
  readonly threads?: number;
}

export const count = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0) throw new InvalidArgumentError('expected a whole number');
  return value;
};

export const several = (text: string, before: readonly string[] = []): string[] => [...before, ...text.split(',')];

class RegionCommand extends Command {
  override addOption(option: Option): this {
    // One without a value would be on whatever its variable says, "false" included.
    if (option.envVar === undefined && !option.isBoolean())
      option.env(`SIGNPOST_${option.name().replaceAll('-', '_').toUpperCase()}`);
    return super.addOption(option);
  }
}

export function regionCommand(name: string, description: string): Command {
  return new RegionCommand(name)
    .description(description)
    .version(manifest.version)
    .requiredOption(
      '--base <dir>',
      'base checkpoint (Hugging Face folder with safetensors); or store:NAME, store:DIGEST or store: for one that was published in the store',
    )
    .option('--base-cache <dir>', 'folder where a base from the store is kept beyond a restart')
    .requiredOption('--store <url>', `store of the experts: ${STORE_URLS}`)
    .requiredOption('--region <name>', "this region's name, as the edge knows it")
    .addOption(
      new Option('--catalogue-key <file>', 'public key that the catalogue must be signed with; repeat for several')
        .env('SIGNPOST_TRUST_KEY')
        .argParser(keyFiles),
    )
    .addOption(
      new Option('--device <name>', 'where the model runs')
        .choices(['cpu', 'webgpu', 'reference'])
        .default(BACKEND_DEFAULTS.device),
    )
    .addOption(
      new Option('--weights <format>', "how the base's weights are held: as stored, or in 8 or 4 bits")
        .choices(['bf16', 'q8', 'q4'])
        .default(BACKEND_DEFAULTS.weights),
    )
    .option(
      '--allow-software-gpu',
      'take an adapter that computes on the CPU for --device webgpu, too',
      BACKEND_DEFAULTS.allowSoftwareGpu,
    )
    .option(
      '--gpu-memory-bytes <n>',
      "bytes of the GPU's memory that may be used (default: as many as it takes)",
      count,
    )
    .option('--gpu-tuning-file <file>', "what was measured on the GPU (default: in the user's cache folder)")
    .option('--slot-bytes <n>', 'bytes of an expert slot on the GPU (default: two planes a matrix)', count)
    .option('--slots <n>', 'experts resident at once', count, BACKEND_DEFAULTS.slots)
    .option('--host-cache-bytes <n>', 'bytes of delta files kept in memory', count, BACKEND_DEFAULTS.hostCacheBytes)
    .option('--disk-cache <dir>', 'folder where delta files are kept beyond a restart')
    .option('--disk-cache-bytes <n>', 'bytes of delta files kept there', count, BACKEND_DEFAULTS.diskCacheBytes)
    .option(
      '--pin <model>',
      'expert to keep in a slot: NAME, NAME@CHANNEL or NAME@DIGEST; repeat for several',
      several,
      [],
    )
    .option('--kv-tokens <n>', 'tokens that the KV cache holds', count, BACKEND_DEFAULTS.kvTokens)
    .option('--max-step-tokens <n>', 'most tokens computed in one step', count, BACKEND_DEFAULTS.maxStepTokens)
    .option('--max-sequences <n>', 'most sequences that run at once', count, BACKEND_DEFAULTS.maxSequences)
    .option(
      '--max-step-experts <n>',
      'most experts that one step reads; further ones take turns',
      count,
      BACKEND_DEFAULTS.maxStepExperts,
    )
    .option(
      '--decode-steps <n>',
      'most tokens that a GPU chooses before they are read back, where nothing else has work to do (up to 32)',
      count,
      BACKEND_DEFAULTS.decodeSteps,
    )
    .option('--block-tokens <n>', 'tokens of a block of the KV cache', count, BACKEND_DEFAULTS.blockTokens)
    .option(
      '--max-requests <n>',
      'requests in flight beyond which new ones get 429',
      count,
      BACKEND_DEFAULTS.maxRequests,
    )
    .option(
      '--max-queued-tokens <n>',
      'prompt tokens that wait beyond which new requests get 429',
      count,
      BACKEND_DEFAULTS.maxQueuedTokens,
    )
    .option(
      '--request-timeout <seconds>',
      'how long a request may take before it fails with 504',
      count,
      BACKEND_DEFAULTS.requestTimeoutMs / 1000,
    )
    .option(
      '--default-max-tokens <n>',
      "longest chat answer where the request doesn't say",
      count,
      BACKEND_DEFAULTS.defaultMaxTokens,
    )
    .addOption(
      new Option('--threads <n>', 'threads the model computes with (default: one a core)')
        .env('SIGNPOST_THREADS')
        .argParser(count),
    )
    .addOption(
      new Option('--log-level <level>')
        .choices(['silent', 'error', 'warn', 'info', 'debug'])
        .default(BACKEND_DEFAULTS.logLevel),
    )
    .option(
      '--open-metrics',
      'show metrics to everybody who reaches the server: for scrapers that have no key, inside of a network that is closed',
      BACKEND_DEFAULTS.openMetrics,
    )
    .option('--log-prompts', 'tell prompts in the log, too', BACKEND_DEFAULTS.logPrompts);
}

/** What the flags say, with the secrets, which only the environment holds. */
export function regionOptions({ requestTimeout, threads, ...flags }: RegionFlags): RegionOptions {
  // Where the kernels look when their pool starts, which is with the first op.
  if (threads !== undefined) process.env.SIGNPOST_THREADS = String(threads);
  const {
    SIGNPOST_REGION_SECRET: secret,
    SIGNPOST_METRICS_KEY: metricsKey,
    SIGNPOST_ADMIN_KEY: adminKey,
  } = process.env;
  return {
    ...flags,
    requestTimeoutMs: requestTimeout * 1000,
    ...(secret === undefined ? {} : { secret }),
    ...(metricsKey === undefined ? {} : { metricsKey }),
    ...(adminKey === undefined ? {} : { adminKey }),
  };
}

/** Runs a command to its end; what is wrong with how it was started is one line. */
export async function runCommand(program: Command): Promise<void> {
  try {
    await program.parseAsync();
  } catch (error) {
    console.error(error instanceof Problem ? `${program.name()}: ${error.message}` : error);
    process.exit(1);
  }
}
