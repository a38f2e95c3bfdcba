/**
 * `signpost-backend`: the command line of a region.
 */
import { Problem } from '@signpost/contracts';
import { keyFiles, STORE_URLS } from '@signpost/store';
import { Command, InvalidArgumentError, Option } from 'commander';
import manifest from '../package.json' with { type: 'json' };
import { BACKEND_DEFAULTS, type BackendOptions, startBackend } from './index.ts';

interface Flags extends BackendOptions {
  /** Seconds. */
  readonly drainLimit: number;
  /** Seconds. */
  readonly requestTimeout: number;
  readonly threads?: number;
}

const count = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0) throw new InvalidArgumentError('expected a whole number');
  return value;
};

const several = (text: string, before: readonly string[] = []): string[] => [...before, ...text.split(',')];

const program = new Command('signpost-backend')
  .description('Serve a base model and its 1-bit experts as one region')
  .version(manifest.version)
  .requiredOption('--base <dir>', 'base checkpoint (Hugging Face folder with safetensors)')
  .requiredOption('--store <url>', `store of the experts: ${STORE_URLS}`)
  .requiredOption('--region <name>', "this region's name, as the edge knows it")
  .addOption(
    new Option('--catalogue-key <file>', 'public key that the catalogue must be signed with; repeat for several')
      .env('SIGNPOST_TRUST_KEY')
      .argParser(keyFiles),
  )
  .option(
    '--host <address>',
    'address to listen on; others than loopback need SIGNPOST_REGION_SECRET',
    BACKEND_DEFAULTS.host,
  )
  .option('--port <port>', 'port to listen on, 0 for any', count, BACKEND_DEFAULTS.port)
  .addOption(
    new Option('--device <name>', 'where the model runs')
      .choices(['cpu', 'reference'])
      .default(BACKEND_DEFAULTS.device),
  )
  .addOption(
    new Option('--weights <format>', "how the base's weights are held: as stored, or in 8 or 4 bits")
      .choices(['bf16', 'q8', 'q4'])
      .default(BACKEND_DEFAULTS.weights),
  )
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
  .addOption(
    new Option('--edge <url>', 'edge to tell how this region is; repeat for several')
      .env('SIGNPOST_EDGE_URL')
      .argParser(several),
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
  .option('--block-tokens <n>', 'tokens of a block of the KV cache', count, BACKEND_DEFAULTS.blockTokens)
  .option('--max-requests <n>', 'requests in flight beyond which new ones get 429', count, BACKEND_DEFAULTS.maxRequests)
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
  .option('--drain-limit <seconds>', 'how long requests in flight may take to end after SIGTERM', count, 30)
  .addOption(
    new Option('--log-level <level>')
      .choices(['silent', 'error', 'warn', 'info', 'debug'])
      .default(BACKEND_DEFAULTS.logLevel),
  )
  .option('--log-prompts', 'tell prompts in the log, too', BACKEND_DEFAULTS.logPrompts)
  .action(async ({ drainLimit, requestTimeout, threads, ...options }: Flags) => {
    // Where the kernels look when their pool starts, which is with the first op.
    if (threads !== undefined) process.env.SIGNPOST_THREADS = String(threads);
    const {
      SIGNPOST_REGION_SECRET: secret,
      SIGNPOST_METRICS_KEY: metricsKey,
      SIGNPOST_ADMIN_KEY: adminKey,
    } = process.env;
    const requestTimeoutMs = requestTimeout * 1000;
    const backend = await startBackend({
      ...options,
      requestTimeoutMs,
      ...(secret === undefined ? {} : { secret }),
      ...(metricsKey === undefined ? {} : { metricsKey }),
      ...(adminKey === undefined ? {} : { adminKey }),
    });
    let isStopping = false;
    const stop = () => {
      // A second signal ends it at once.
      if (isStopping) process.exit(1);
      isStopping = true;
      void backend.close(drainLimit * 1000).then(() => process.exit(0));
    };
    process.on('SIGINT', stop);
    process.on('SIGTERM', stop);
  });

try {
  await program.parseAsync();
} catch (error) {
  console.error(error instanceof Problem ? `signpost-backend: ${error.message}` : error);
  process.exit(1);
}
