/**
 * `signpost-backend`: the command line of a region.
 */
import { Option } from 'commander';
import { count, type RegionFlags, regionCommand, regionOptions, runCommand, several } from './flags.ts';
import { BACKEND_DEFAULTS, type BackendHandle, startBackend } from './index.ts';

interface Flags extends RegionFlags {
  readonly host: string;
  readonly port: number;
  readonly edge: readonly string[];
  /** Seconds. */
  readonly drainLimit: number;
}

const program = regionCommand('signpost-backend', 'Serve a base model and its 1-bit experts as one region')
  .option(
    '--host <address>',
    'address to listen on; others than loopback need SIGNPOST_REGION_SECRET',
    BACKEND_DEFAULTS.host,
  )
  .option('--port <port>', 'port to listen on, 0 for any', count, BACKEND_DEFAULTS.port)
  .addOption(
    new Option('--edge <url>', 'edge to tell how this region is; repeat for several')
      .env('SIGNPOST_EDGE_URL')
      .argParser(several)
      .default([]),
  )
  .option('--drain-limit <seconds>', 'how long requests in flight may take to end after SIGTERM', count, 30)
  .action(async ({ drainLimit, host, port, edge, ...flags }: Flags) => {
    let backend: BackendHandle | undefined;
    let isStopping = false;
    const stop = () => {
      // A second signal ends it at once, and so does the first while there is nothing to drain: as a container's first process it would not be ended by it.
      if (isStopping || backend === undefined) process.exit(1);
      isStopping = true;
      void backend.close(drainLimit * 1000).then(() => process.exit(0));
    };
    process.on('SIGINT', stop);
    process.on('SIGTERM', stop);
    backend = await startBackend({ ...regionOptions(flags), host, port, edge });
  });

await runCommand(program);
