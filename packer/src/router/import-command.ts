/**
 * `signpost-packer router` `import` and `publish`: a transformer from elsewhere, and any router's way to the edge.
 */
import { join } from 'node:path';
import { openStore, STORE_URLS } from '@signpost/store';
import { Command, Option } from 'commander';
import { share, wholeNumber } from '../arguments.ts';
import { formatBytes } from '../progress.ts';
import { DEFAULT_RISK } from './calibrate.ts';
import { MANIFEST_FILE, MODEL_FILE, TOKENIZER_FILE } from './evaluate.ts';
import { DEFAULT_MAX_TOKENS, type ImportOptions, importTransformer } from './import.ts';
import { publishRouter } from './publish.ts';
import { describeEvaluation } from './report.ts';

export function importCommand(): Command {
  return new Command('import')
    .description("make a router of a transformer: Hugging Face's config.json, tokenizer.json and ONNX graph")
    .argument('<model>', 'folder, or hf://ORG/NAME@REVISION')
    .requiredOption('--out <dir>', 'folder for model.onnx, tokenizer.json and router.json')
    .option('--file <path>', 'the graph in it, where it is not the usual one: onnx/model_int8.onnx')
    .option('--max-tokens <n>', `tokens of a prompt looked at (${DEFAULT_MAX_TOKENS} when left out)`, wholeNumber)
    .option('--valid <file>', 'JSON lines {"text", "label", "source"}: to calibrate the confidence by and measure on')
    .addOption(
      new Option('--risk <share>', 'share of its decisions that may be wrong, on prompts like those of --valid')
        .argParser(share)
        .default(DEFAULT_RISK)
        .conflicts('threshold'),
    )
    .option('--threshold <share>', 'confidence below which it abstains (0.5 without --valid)', share)
    .option('--json', 'print the result as JSON', false)
    .action(async (location: string, flags: ImportOptions & { readonly out: string; readonly json: boolean }) => {
      const { manifest, model, tokenizer, figures } = await importTransformer(location, flags);
      const out = openStore(flags.out);
      await out.write(MODEL_FILE, model);
      await out.write(TOKENIZER_FILE, tokenizer);
      // Last: it names the others by digest.
      await out.write(MANIFEST_FILE, new TextEncoder().encode(`${JSON.stringify(manifest, null, 2)}\n`));
      if (flags.json) return console.log(JSON.stringify({ manifest, figures }));
      const { labels, maxTokens, temperature, threshold } = manifest;
      console.log(
        `${join(flags.out, MODEL_FILE)}: ${formatBytes(model.byteLength)}, labels ${labels.join(', ')}, ${maxTokens} tokens, temperature ${temperature.toFixed(3)}, abstains below ${threshold.toFixed(3)}`,
      );
      if (figures !== undefined) console.log(describeEvaluation(flags.valid ?? '', labels, figures));
    });
}

export function publishCommand(): Command {
  return new Command('publish')
    .description("put a router where the edge looks for one: its bucket's router/current.json")
    .requiredOption('--model <dir>', 'folder with model.onnx, tokenizer.json and router.json')
    .requiredOption('--store <url>', `the edge's bucket: ${STORE_URLS}`)
    .option('--json', 'print the result as JSON', false)
    .action(async ({ model, store, json }: { model: string; store: string; json: boolean }) => {
      const pointer = await publishRouter(openStore(store), model);
      console.log(
        json
          ? JSON.stringify(pointer)
          : `${store} now has the router ${pointer.model.slice(0, 12)}; edges take it up within half a minute of their next request`,
      );
    });
}
