/**
 * `signpost-lambda`: a region as an AWS Lambda function. It is the same app and engine as `signpost-backend`'s, started once an execution environment.
 */
import { Problem } from '@signpost/contracts';
import { createLog, openBackend } from './backend.ts';
import { type RegionFlags, regionCommand, regionOptions, runCommand } from './flags.ts';
import { runLambda } from './lambda/loop.ts';
import { RuntimeApi } from './lambda/runtime-api.ts';
import { BACKEND_DEFAULTS, checkSizes, edgeKeys } from './options.ts';

const program = regionCommand('signpost-lambda', 'Serve a region inside of an AWS Lambda function').action(
  async (flags: RegionFlags) => {
    const {
      AWS_LAMBDA_RUNTIME_API: address,
      AWS_LAMBDA_INITIALIZATION_TYPE: initialization = 'on-demand',
      AWS_LAMBDA_MAX_CONCURRENCY: concurrency = '1',
    } = process.env;
    if (address === undefined)
      throw new Problem('AWS_LAMBDA_RUNTIME_API is not set; elsewhere than in AWS Lambda, run signpost-backend');
    const { host: _, port: __, ...defaults } = BACKEND_DEFAULTS;
    const settings = { ...defaults, ...regionOptions(flags) };
    const log = createLog(settings);
    async function open() {
      checkSizes(settings);
      if (settings.secret === undefined)
        throw new Problem(
          'SIGNPOST_REGION_SECRET is not set; without it anyone who may invoke the function could use it',
        );
      return openBackend(settings, { keys: edgeKeys(settings.secret), log, upkeep: 'on demand' });
    }
    await runLambda({
      api: new RuntimeApi(address),
      open,
      // AWS ends a start on demand after ten seconds, and begins anew; others may take minutes.
      startLimitMs: initialization === 'on-demand' ? 8_000 : undefined,
      concurrency: Number(concurrency),
      log,
    });
  },
);

await runCommand(program);
