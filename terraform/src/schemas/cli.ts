/**
 * `npm run schemas -w @signpost/terraform`: draws schemas/*.json anew; with `--check` says whether they are what they would be. Downloads 45 MB.
 */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Command } from 'commander';
import { readTree } from '../checks/tree.ts';
import { drawSchemas } from './draw.ts';
import { SCHEMAS_FOLDER } from './schema.ts';

await new Command('schemas')
  .description("Draw the providers' schemas of what modules use")
  .option('--check', 'change nothing, and fail where something would change')
  .action(async ({ check = false }: { readonly check?: boolean }) => {
    for (const [provider, schema] of await drawSchemas(await readTree())) {
      const file = path.join(SCHEMAS_FOLDER, `${provider}.json`);
      const text = `${JSON.stringify(schema, null, 1)}\n`;
      if (!check) await writeFile(file, text);
      else if ((await readFile(file, 'utf8').catch(() => '')) !== text) {
        console.error(`${file} is not what ${schema.from} has: npm run schemas -w @signpost/terraform`);
        process.exitCode = 1;
      }
    }
  })
  .parseAsync();
