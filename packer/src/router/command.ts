/**
 * `signpost-packer router`: train and evaluate the edge's prompt classifier.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Problem, sha256 } from '@signpost/contracts';
import { FEATURES_VERSION, type RouterManifest } from '@signpost/contracts/router';
import { openStore } from '@signpost/store';
import { Command, Option } from 'commander';
import { share, wholeNumber } from '../arguments.ts';
import { formatBytes } from '../progress.ts';
import { type Column, formatTable } from '../report/table.ts';
import { chooseThreshold, DEFAULT_RISK, fitTemperature, withTemperature } from './calibrate.ts';
import { checkRouter, type Finding, requireUsable } from './check.ts';
import { type LabelledPrompt, prepare, readEmbedding, readPrompts, readTokenizer } from './data.ts';
import {
  createClassifier,
  createSession,
  evaluate,
  judge,
  loadRouter,
  MANIFEST_FILE,
  MODEL_FILE,
  type Prediction,
  predict,
  TOKENIZER_FILE,
} from './evaluate.ts';
import { readFeedback } from './feedback.ts';
import { importCommand, publishCommand } from './import-command.ts';
import { encodeRouter, type RouterGraph } from './onnx.ts';
import { describeEvaluation, type Figures, routerCharts, routerReport } from './report.ts';
import { ROUTER_DEFAULTS, trainRouter } from './train.ts';

const REPORT_FILE = 'README.md';

interface TrainFlags {
  readonly train: string;
  readonly valid: string;
  readonly test?: string;
  readonly feedback?: string;
  readonly embedding: string;
  readonly tokenizer: string;
  readonly out: string;
  readonly seed: number;
  readonly epochs: number;
  readonly risk: number;
  readonly threshold?: number;
  readonly json: boolean;
}

export function routerCommand(): Command {
  return new Command('router')
    .description("train and evaluate the edge's prompt classifier")
    .addCommand(trainCommand())
    .addCommand(evalCommand())
    .addCommand(checkCommand())
    .addCommand(importCommand())
    .addCommand(publishCommand());
}

function trainCommand(): Command {
  return new Command('train')
    .description('train a classifier on labelled prompts and write it as ONNX with its manifest')
    .requiredOption('--train <file>', 'JSON lines {"text", "label", "source"}')
    .requiredOption('--valid <file>', 'the same, to measure on, and to calibrate the confidence by')
    .option('--test <file>', 'the same, from other sources: measured at the end, never trained on')
    .option('--feedback <file>', "an edge's users' (signpost feedback export), to train on as well")
    .requiredOption('--embedding <file>', 'token embeddings: safetensors with "weight" I8 [n, d] and "scale" F32 [n]')
    .requiredOption('--tokenizer <file>', "the embeddings' tokenizer.json")
    .requiredOption('--out <dir>', 'folder for model.onnx, tokenizer.json, router.json, a README and charts')
    .option('--seed <n>', 'the same seed gives the same model', wholeNumber, ROUTER_DEFAULTS.seed)
    .option('--epochs <n>', 'passes over the training set', wholeNumber, ROUTER_DEFAULTS.epochs)
    .addOption(
      new Option('--risk <share>', 'share of its decisions that may be wrong, on prompts like the validation set')
        .argParser(share)
        .default(DEFAULT_RISK)
        .conflicts('threshold'),
    )
    .option('--threshold <share>', 'confidence below which it abstains, in place of one chosen for --risk', share)
    .option('--json', 'print the figures as JSON', false)
    .action(train);
}

function evalCommand(): Command {
  return new Command('eval')
    .description('measure a trained classifier on labelled prompts')
    .requiredOption('--model <dir>', 'folder that router train wrote')
    .requiredOption('--data <file>', 'JSON lines {"text", "label", "source"}')
    .option('--json', 'print the figures as JSON', false)
    .action(async ({ model, data, json }: { model: string; data: string; json: boolean }) => {
      const { manifest, classify } = await loadRouter(model);
      const { labels, threshold } = manifest;
      const figures = evaluate(await predict(classify, labels, await readPrompts(data)), labels, threshold);
      console.log(json ? JSON.stringify(figures) : describeEvaluation(data, labels, figures));
    });
}

const FINDING_COLUMNS: readonly Column<Finding>[] = [
  { title: 'check', value: ({ what }) => what },
  { title: 'verdict', value: ({ verdict }) => verdict },
  { title: 'found', value: ({ detail }) => detail },
];

function checkCommand(): Command {
  return new Command('check')
    .description('check that the edge can run a model: files, size, inputs, output, probabilities, speed')
    .requiredOption('--model <dir>', 'folder with model.onnx, tokenizer.json and router.json')
    .option('--json', 'print what was found as JSON', false)
    .action(async ({ model, json }: { model: string; json: boolean }) => {
      const findings = await checkRouter(model);
      console.log(json ? JSON.stringify(findings) : formatTable(FINDING_COLUMNS, findings, Number.POSITIVE_INFINITY));
      requireUsable(model, findings);
    });
}

async function train(flags: TrainFlags): Promise<void> {
  const [embedding, encode, prompts] = [
    await readEmbedding(flags.embedding),
    await readTokenizer(flags.tokenizer),
    await readPrompts(flags.train),
  ];
  const labels = [...new Set(prompts.map(({ label }) => label))].sort();
  if (labels.length < 2)
    throw new Problem(`${flags.train} has only the label "${labels[0]}"; a classifier needs two or more`);
  const options = { ...ROUTER_DEFAULTS, seed: flags.seed, epochs: flags.epochs };
  const valid = await readPrompts(flags.valid);
  const test = flags.test === undefined ? undefined : await readPrompts(flags.test);
  const lessons = await lessonsOf(flags, labels, [...valid, ...(test ?? [])]);
  const taught = [...prompts, ...lessons];
  const prepared = prepare(taught, embedding, encode);
  const trained = trainRouter(prepared, labels, embedding, options, (member, epoch, loss) => {
    process.stderr.write(
      `network ${member} of ${options.members}, epoch ${epoch} of ${options.epochs}: loss ${loss.toFixed(4)}\n`,
    );
  });
  const predictWith = async (graph: RouterGraph, rows: readonly LabelledPrompt[]) =>
    predict(createClassifier(await createSession(encodeRouter(graph)), encode), labels, rows);
  const uncalibrated = await predictWith(trained, valid);
  const temperature = fitTemperature(
    uncalibrated.map(({ probabilities }) => probabilities),
    uncalibrated.map(({ target }) => target),
  );
  const graph = withTemperature(trained, temperature);
  const predictions: Record<string, Prediction[]> = { valid: await predictWith(graph, valid) };
  if (test !== undefined) predictions.test = await predictWith(graph, test);
  const { threshold, ...selection } = chooseThreshold(flags, (predictions.valid ?? []).map(judge));
  const figures: Figures = Object.fromEntries(
    Object.entries(predictions).map(([name, rows]) => [name, evaluate(rows, labels, threshold)]),
  );
  const model = encodeRouter(graph);
  const tokenizer = new Uint8Array(await readFile(flags.tokenizer));
  const manifest: RouterManifest = {
    format: 1,
    features: FEATURES_VERSION,
    labels,
    threshold,
    model: { digest: await sha256(model), bytes: model.byteLength },
    tokenizer: { digest: await sha256(tokenizer), bytes: tokenizer.byteLength },
    metrics: Object.fromEntries(
      Object.entries(figures).map(([name, { rows, accuracy }]) => [name, { rows, accuracy }]),
    ),
  };
  const text = new TextEncoder();
  const report = routerReport(manifest, options, { temperature, ...selection }, taught.length, figures);
  const out = openStore(flags.out);
  await out.write(MODEL_FILE, model);
  await out.write(TOKENIZER_FILE, tokenizer);
  for (const [name, svg] of await routerCharts(labels, figures)) await out.write(name, text.encode(svg));
  await out.write(REPORT_FILE, text.encode(report));
  // Last: it names the others by digest.
  await out.write(MANIFEST_FILE, text.encode(`${JSON.stringify(manifest, null, 2)}\n`));
  if (flags.json) console.log(JSON.stringify({ manifest, temperature, ...selection, figures }));
  else {
    console.log(
      `${join(flags.out, MODEL_FILE)}: ${formatBytes(model.byteLength)}, temperature ${temperature.toFixed(3)}, abstains below ${threshold.toFixed(3)}`,
    );
    for (const [name, one] of Object.entries(figures)) console.log(describeEvaluation(name, labels, one));
  }
}

/** What feedback teaches; what it doesn't is told. */
async function lessonsOf(
  { feedback }: TrainFlags,
  labels: readonly string[],
  held: readonly LabelledPrompt[],
): Promise<readonly LabelledPrompt[]> {
  if (feedback === undefined) return [];
  const { prompts, left } = await readFeedback(feedback, labels, new Set(held.map(({ text }) => text)));
  const more = left.length === 0 ? '' : `; not used: ${left.join(', ')}`;
  process.stderr.write(`${feedback}: ${prompts.length} prompts to train on${more}\n`);
  return prompts;
}
