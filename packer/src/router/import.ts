/**
 * A transformer from elsewhere as a router: what Hugging Face's tools export of a sequence classifier, read and made a router folder.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Problem, parseWith, sha256 } from '@signpost/contracts';
import { assertRouterFits, MAX_SEQUENCE_TOKENS, type TransformerManifest } from '@signpost/contracts/router';
import { z } from 'zod';
import { folderOf } from '../source/open.ts';
import { chooseThreshold, fitTemperature } from './calibrate.ts';
import { readPrompts } from './data.ts';
import { type Evaluation, evaluate, judge, MODEL_FILE, predict, startRouter, TOKENIZER_FILE } from './evaluate.ts';

const CONFIG_FILE = 'config.json';
/** Where Optimum and the Hub's own conversion put a graph, the smallest kind first. */
const GRAPHS = [
  'onnx/model_quantized.onnx',
  'onnx/model_int8.onnx',
  'model_quantized.onnx',
  MODEL_FILE,
  'onnx/model.onnx',
];
const GRAPH = /^(\w[\w.-]*\/)*\w[\w.-]*\.onnx$/;

/** What a prompt is cut to unless something else is asked for: most of what it wants stands there, and time grows with it. */
export const DEFAULT_MAX_TOKENS = 128;
const DEFAULT_THRESHOLD = 0.5;

export interface ImportOptions {
  /** The graph's path in the folder, where it isn't the usual one. */
  readonly file?: string;
  readonly maxTokens?: number;
  /** Path of labelled prompts to calibrate the confidence by, choose the threshold by, and measure on. */
  readonly valid?: string;
  /** Share of decisions that may be wrong on those. */
  readonly risk: number;
  /** Confidence below which it abstains, in place of one chosen for the risk. */
  readonly threshold?: number;
}

/** A router as it is to be written. */
export interface ImportedRouter {
  readonly manifest: TransformerManifest;
  readonly model: Uint8Array;
  readonly tokenizer: Uint8Array;
  /** Where there were labelled prompts. */
  readonly figures?: Evaluation;
}

/**
 * Makes a router of a folder with `config.json`, `tokenizer.json` and an ONNX graph, or of `hf://ORG/NAME@REVISION` on the Hub.
 *
 * @throws Problem when it is no sequence classifier, its files don't fit together, it is too large for the edge, or no threshold keeps the risk.
 */
export async function importTransformer(location: string, options: ImportOptions): Promise<ImportedRouter> {
  const dir = await folderOf(location, (paths) => [
    CONFIG_FILE,
    TOKENIZER_FILE,
    graphOf(paths, options.file, location),
  ]);
  const read = async (file: string) => {
    try {
      return new Uint8Array(await readFile(join(dir, file)));
    } catch (cause) {
      throw new Problem(`${join(dir, file)} can't be read (${(cause as NodeJS.ErrnoException).code})`, { cause });
    }
  };
  const known = options.file === undefined ? GRAPHS : [options.file];
  const graph = graphOf(
    known.filter((file) => existsSync(join(dir, file))),
    options.file,
    location,
  );
  const config = parseWith(configSchema, parseJson(await read(CONFIG_FILE), CONFIG_FILE), join(dir, CONFIG_FILE));
  const [tokenizer, model] = [await read(TOKENIZER_FILE), await read(graph)];
  assertVocabulary(parseJson(tokenizer, TOKENIZER_FILE), config.vocab_size, dir);
  const manifest: TransformerManifest = {
    format: 1,
    kind: 'transformer',
    labels: labelsOf(config.id2label, join(dir, CONFIG_FILE)),
    threshold: options.threshold ?? DEFAULT_THRESHOLD,
    maxTokens: maxTokensOf(options.maxTokens, config.max_position_embeddings),
    temperature: 1,
    model: { digest: await sha256(model), bytes: model.byteLength },
    tokenizer: { digest: await sha256(tokenizer), bytes: tokenizer.byteLength },
    metrics: {},
  };
  assertRouterFits(manifest, 'model', model.byteLength, join(dir, graph));
  assertRouterFits(manifest, 'tokenizer', tokenizer.byteLength, join(dir, TOKENIZER_FILE));
  const files = { model, tokenizer };
  if (options.valid === undefined) {
    await startRouter({ manifest, ...files });
    return { manifest, ...files };
  }
  return calibrated({ manifest, ...files }, options, options.valid);
}

/** With the temperature and the threshold that labelled prompts ask for, and how well it does on them. */
async function calibrated(router: ImportedRouter, options: ImportOptions, valid: string): Promise<ImportedRouter> {
  const { manifest } = router;
  const prompts = await readPrompts(valid);
  const predictWith = async (temperature: number) => {
    const { session, classify } = await startRouter({ ...router, manifest: { ...manifest, temperature } });
    try {
      return await predict(classify, manifest.labels, prompts);
    } finally {
      await session.release();
    }
  };
  const before = await predictWith(1);
  const temperature = fitTemperature(
    before.map(({ probabilities }) => probabilities),
    before.map(({ target }) => target),
  );
  const predictions = await predictWith(temperature);
  const { threshold } = chooseThreshold({ ...options, valid }, predictions.map(judge));
  const figures = evaluate(predictions, manifest.labels, threshold);
  const { rows, accuracy } = figures;
  return {
    ...router,
    manifest: { ...manifest, temperature, threshold, metrics: { valid: { rows, accuracy } } },
    figures,
  };
}

const configSchema = z.looseObject({
  id2label: z.record(z.string(), z.string().min(1)),
  vocab_size: z.number().int().positive(),
  max_position_embeddings: z.number().int().positive().optional(),
  problem_type: z
    .literal('single_label_classification', { error: 'expected a classifier that gives each text one label' })
    .nullish(),
});

/** In the order of the logits. */
function labelsOf(id2label: Readonly<Record<string, string>>, where: string): string[] {
  const labels = Object.keys(id2label).map((_, id) => id2label[id]);
  const named = labels.filter((label) => label !== undefined);
  if (named.length < 2 || named.length < labels.length)
    throw new Problem(
      `${where}: id2label names the labels ${JSON.stringify(id2label)}; expected two or more, from "0" on`,
    );
  return named;
}

/** @throws Problem when more are asked for than there are positions. */
function maxTokensOf(wanted: number | undefined, positions = MAX_SEQUENCE_TOKENS): number {
  const most = Math.min(positions, MAX_SEQUENCE_TOKENS);
  if (wanted !== undefined && wanted > most)
    throw new Problem(`--max-tokens ${wanted} is more than the model has positions for, or the edge takes: ${most}`);
  return wanted ?? Math.min(DEFAULT_MAX_TOKENS, most);
}

const tokenizerSchema = z.looseObject({
  added_tokens: z.array(z.looseObject({ id: z.number().int() })).default([]),
  model: z.looseObject({ vocab: z.union([z.record(z.string(), z.number().int()), z.array(z.unknown())]) }),
});

/** An id that the embedding has no row for would break the model at the first prompt with that word. */
function assertVocabulary(json: unknown, rows: number, dir: string): void {
  const { added_tokens: added, model } = parseWith(tokenizerSchema, json, join(dir, TOKENIZER_FILE));
  const { vocab } = model;
  let most = Array.isArray(vocab) ? vocab.length - 1 : -1;
  for (const id of Array.isArray(vocab) ? [] : Object.values(vocab)) most = Math.max(most, id);
  for (const { id } of added) most = Math.max(most, id);
  if (most >= rows)
    throw new Problem(
      `${join(dir, TOKENIZER_FILE)} has tokens up to number ${most}, ${CONFIG_FILE} a vocab_size of ${rows}: they are of different models`,
    );
}

function graphOf(paths: readonly string[], wanted: string | undefined, location: string): string {
  if (wanted !== undefined && !GRAPH.test(wanted))
    throw new Problem(`--file ${wanted} is no path of an ONNX file in ${location}, such as onnx/model_int8.onnx`);
  const graph =
    wanted === undefined ? GRAPHS.find((file) => paths.includes(file)) : paths.find((file) => file === wanted);
  if (graph !== undefined) return graph;
  throw new Problem(
    `${location} holds no ${wanted ?? GRAPHS.join(', ')}; export the model to ONNX (optimum-cli export onnx) and quantise it to int8 first`,
  );
}

function parseJson(bytes: Uint8Array, file: string): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw new Problem(`${file} is not JSON`);
  }
}
