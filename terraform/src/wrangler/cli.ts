/**
 * `terraform output -json | node terraform/bin/wrangler-config.mjs`: from Terraform to wrangler. Prints secrets only where it is asked for them.
 */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { Problem } from '@signpost/contracts';
import { Command } from 'commander';
import { wranglerConfig } from './config.ts';
import { parseOutputs } from './outputs.ts';

const REPOSITORY = path.resolve(import.meta.dirname, '../../..');
/** Beside wrangler.toml, whose paths are its own folder's. */
const CONFIG_FILE = 'wrangler.deploy.json';

const program = new Command('wrangler-config')
  .description('Tell wrangler what Terraform made; reads `terraform output -json` from standard input')
  .addHelpText(
    'after',
    `
  terraform output -json | node terraform/bin/wrangler-config.mjs write
  terraform output -json | node terraform/bin/wrangler-config.mjs secrets | npx wrangler secret bulk --config ${CONFIG_FILE}
  npx wrangler deploy --config ${CONFIG_FILE}`,
  );

program
  .command('write')
  .description(`write ${CONFIG_FILE}, for \`npx wrangler deploy --config ${CONFIG_FILE}\``)
  .option('--out <file>', 'another file, beside wrangler.toml', path.join(REPOSITORY, CONFIG_FILE))
  .action(async ({ out }: { readonly out: string }) => {
    const { wrangler } = parseOutputs(await text(process.stdin));
    const config = wranglerConfig(await readFile(path.join(REPOSITORY, 'wrangler.toml'), 'utf8'), wrangler);
    await writeFile(out, `${JSON.stringify(config, null, 2)}\n`);
    console.error(
      `${path.relative(process.cwd(), out)}: ${wrangler.name}, ${wrangler.regions.map(({ name }) => name).join(', ')}`,
    );
  });

program
  .command('secrets')
  .description("print the Worker's secrets, for `npx wrangler secret bulk`")
  .action(async () => {
    const { secrets } = parseOutputs(await text(process.stdin));
    // Nobody reads them off a screen by mistake.
    if (process.stdout.isTTY)
      throw new Problem('secrets go to `npx wrangler secret bulk`, not to a screen: pipe them there');
    console.log(JSON.stringify(secrets));
  });

try {
  await program.parseAsync();
} catch (error) {
  console.error(error instanceof Problem ? `${program.name()}: ${error.message}` : error);
  process.exitCode = 1;
}
