/**
 * A router model at work in ONNX Runtime (the build the edge runs), and how well it does.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Problem, sha256 } from '@signpost/contracts';
import {
  parseRouterManifest,
  type RouterManifest,
  routerFeatures,
  type TransformerManifest,
  WordPiece,
} from '@signpost/contracts/router';
import { SequenceClassifier } from '@signpost/contracts/router/sequence-classifier';
import { env, InferenceSession, Tensor } from 'onnxruntime-web';
import type { ReliabilityBin } from '../report/chart.ts';
import { calibrationError, type Judged, reliabilityBins } from './calibrate.ts';
import type { LabelledPrompt } from './data.ts';

export const MODEL_FILE = 'model.onnx';
export const TOKENIZER_FILE = 'tokenizer.json';
export const MANIFEST_FILE = 'router.json';

export type Classify = (text: string) => Promise<Float32Array>; // (labels)

/** A session on one thread, as at the edge. @throws when the bytes are no ONNX model. */
export function createSession(model: Uint8Array): Promise<InferenceSession> {
  env.wasm.numThreads = 1;
  env.logLevel = 'error';
  return InferenceSession.create(model);
}

/** The function itself throws where the model's inputs or output aren't the contract's. */
export function createClassifier(session: InferenceSession, encode: (text: string) => number[]): Classify {
  const vector = (ids: Int32Array) => new Tensor('int32', ids, [ids.length]);
  return async (text) => {
    const { tokenIds, hashIds } = routerFeatures(text, encode);
    const { probabilities } = await session.run({ token_ids: vector(tokenIds), hash_ids: vector(hashIds) });
    if (!(probabilities?.data instanceof Float32Array))
      throw new Problem('the model has no float32 output "probabilities"');
    return probabilities.data;
  };
}

/** @throws Problem where inputs, output or tokenizer aren't a sequence classifier's. */
function createSequenceClassifier(
  session: InferenceSession,
  tokenizer: unknown,
  manifest: TransformerManifest,
): SequenceClassifier {
  const run = (inputs: Readonly<Record<string, BigInt64Array>>) =>
    session.run(
      Object.fromEntries(
        Object.entries(inputs).map(([name, ids]) => [name, new Tensor('int64', ids, [1, ids.length])]),
      ),
    );
  const { inputMetadata: inputs, outputMetadata: outputs } = session;
  return new SequenceClassifier({ inputs, outputs, run }, tokenizer, manifest);
}

/** A router folder's content. */
export interface RouterFolder {
  readonly manifest: RouterManifest;
  /** `router.json`, byte for byte. */
  readonly manifestFile: Uint8Array;
  readonly tokenizer: Uint8Array;
  readonly model: Uint8Array;
}

/** A router folder, started. */
export interface LoadedRouter {
  readonly manifest: RouterManifest;
  readonly session: InferenceSession;
  readonly classify: Classify;
}

/** @throws Problem when a file isn't what the manifest says. */
export async function readRouter(dir: string): Promise<RouterFolder> {
  const read = async (file: string) => new Uint8Array(await readFile(join(dir, file)));
  const path = join(dir, MANIFEST_FILE);
  const manifestFile = await read(MANIFEST_FILE);
  const manifest = parseRouterManifest(JSON.parse(new TextDecoder().decode(manifestFile)), path);
  const [model, tokenizer] = [await read(MODEL_FILE), await read(TOKENIZER_FILE)];
  for (const [file, bytes, want] of [
    [MODEL_FILE, model, manifest.model],
    [TOKENIZER_FILE, tokenizer, manifest.tokenizer],
  ] as const) {
    const digest = await sha256(bytes);
    if (digest !== want.digest)
      throw new Problem(`${join(dir, file)} has digest ${digest}, ${MANIFEST_FILE} says ${want.digest}`);
  }
  return { manifest, manifestFile, tokenizer, model };
}

/** @throws Problem when model, tokenizer and manifest don't fit together. */
export async function startRouter({
  manifest,
  tokenizer,
  model,
}: Omit<RouterFolder, 'manifestFile'>): Promise<LoadedRouter> {
  const json: unknown = JSON.parse(new TextDecoder().decode(tokenizer));
  const session = await createSession(model);
  switch (manifest.kind) {
    case 'transformer': {
      const classifier = createSequenceClassifier(session, json, manifest);
      await classifier.proveLength();
      return { manifest, session, classify: (text) => classifier.classify(text) };
    }
    case 'features':
    case undefined: {
      const wordPiece = new WordPiece(json);
      return { manifest, session, classify: createClassifier(session, (text) => wordPiece.encode(text)) };
    }
    default:
      return manifest satisfies never;
  }
}

/** Loads a router folder. @throws Problem */
export async function loadRouter(dir: string): Promise<LoadedRouter> {
  return startRouter(await readRouter(dir));
}

/** What a model said of one labelled prompt. */
export interface Prediction {
  readonly probabilities: Float32Array; // (labels)
  /** Index of the right label. */
  readonly target: number;
  readonly source: string;
  readonly ms: number;
}

export interface Evaluation {
  readonly rows: number;
  readonly accuracy: number;
  /** Of each source: rows and accuracy. */
  readonly sources: Readonly<Record<string, { readonly rows: number; readonly accuracy: number }>>;
  /** Of the surest share of rows: accuracy, and the confidence it goes down to. */
  readonly coverage: readonly { readonly share: number; readonly accuracy: number; readonly confidence: number }[];
  /** Rows at or above the threshold. */
  readonly decided: { readonly share: number; readonly accuracy: number };
  /** Rows by right label, then by what was said: each label, and last nothing, below the threshold. (labels, labels + 1) */
  readonly confusion: readonly (readonly number[])[];
  /** Expected calibration error, and the bins it is over. */
  readonly calibrationError: number;
  readonly reliability: readonly ReliabilityBin[];
  /** Median time of one classification, in milliseconds. */
  readonly medianMs: number;
}

const COVERAGE_SHARES = [1, 0.9, 0.75, 0.5];

/** @throws Problem when a row has a label that the model doesn't know. */
export async function predict(
  classify: Classify,
  labels: readonly string[],
  prompts: readonly LabelledPrompt[],
): Promise<Prediction[]> {
  const predictions: Prediction[] = [];
  for (const { text, label, source } of prompts) {
    const target = labels.indexOf(label);
    if (target === -1) throw new Problem(`label "${label}" is not one of the model's: ${labels.join(', ')}`);
    const started = performance.now();
    const probabilities = await classify(text);
    predictions.push({ probabilities, target, source, ms: performance.now() - started });
  }
  return predictions;
}

/** The likeliest label, its probability, and whether it is right. */
export function judge({ probabilities, target }: Prediction): Judged & { readonly said: number } {
  const confidence = Math.max(...probabilities);
  const said = probabilities.indexOf(confidence);
  return { said, confidence, isRight: said === target };
}

/** @param threshold confidence below which the model abstains. */
export function evaluate(predictions: readonly Prediction[], labels: readonly string[], threshold: number): Evaluation {
  const judged = predictions.map((prediction) => ({ ...prediction, ...judge(prediction) }));
  const sources = [...new Set(judged.map(({ source }) => source))].sort();
  const surest = judged.toSorted((a, b) => b.confidence - a.confidence);
  const decided = judged.filter(({ confidence }) => confidence >= threshold);
  const confusion = labels.map(() => new Array<number>(labels.length + 1).fill(0));
  for (const { target, said, confidence } of judged) {
    const row = confusion[target] ?? [];
    const column = confidence >= threshold ? said : labels.length;
    row[column] = (row[column] ?? 0) + 1;
  }
  const reliability = reliabilityBins(judged);
  return {
    rows: judged.length,
    accuracy: accuracyOf(judged),
    sources: Object.fromEntries(
      sources.map((name) => {
        const rows = judged.filter(({ source }) => source === name);
        return [name, { rows: rows.length, accuracy: accuracyOf(rows) }];
      }),
    ),
    coverage: COVERAGE_SHARES.map((share) => {
      const part = surest.slice(0, Math.ceil(share * surest.length));
      return { share, accuracy: accuracyOf(part), confidence: part.at(-1)?.confidence ?? 0 };
    }),
    decided: { share: decided.length / judged.length, accuracy: accuracyOf(decided) },
    confusion,
    calibrationError: calibrationError(reliability),
    reliability,
    medianMs: judged.map(({ ms }) => ms).sort((a, b) => a - b)[judged.length >> 1] ?? 0,
  };
}

function accuracyOf(rows: readonly Judged[]): number {
  return rows.length === 0 ? 1 : rows.filter(({ isRight }) => isRight).length / rows.length;
}
