/**
 * A router model at work in ONNX Runtime (the build the edge runs), and how well it does.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Problem, sha256 } from '@signpost/contracts';
import { parseRouterManifest, type RouterManifest, routerFeatures } from '@signpost/contracts/router';
import { env, InferenceSession, Tensor } from 'onnxruntime-web';
import { type LabelledPrompt, readTokenizer } from './data.ts';

export const MODEL_FILE = 'model.onnx';
export const TOKENIZER_FILE = 'tokenizer.json';
export const MANIFEST_FILE = 'router.json';

export type Classify = (text: string) => Promise<Float32Array>; // (labels)

/** @throws when the bytes are no ONNX model, or one with other inputs. */
export async function createClassifier(model: Uint8Array, encode: (text: string) => number[]): Promise<Classify> {
  env.wasm.numThreads = 1;
  env.logLevel = 'error';
  const session = await InferenceSession.create(model);
  const vector = (ids: Int32Array) => new Tensor('int32', ids, [ids.length]);
  return async (text) => {
    const { tokenIds, hashIds } = routerFeatures(text, encode);
    const { probabilities } = await session.run({ token_ids: vector(tokenIds), hash_ids: vector(hashIds) });
    if (!(probabilities?.data instanceof Float32Array))
      throw new Problem('the model has no float32 output "probabilities"');
    return probabilities.data;
  };
}

/**
 * Loads a router folder.
 *
 * @throws Problem when a file isn't what the manifest says.
 */
export async function loadRouter(dir: string): Promise<{ manifest: RouterManifest; classify: Classify }> {
  const path = join(dir, MANIFEST_FILE);
  const manifest = parseRouterManifest(JSON.parse(await readFile(path, 'utf8')), path);
  const model = new Uint8Array(await readFile(join(dir, MODEL_FILE)));
  for (const [file, bytes, want] of [
    [MODEL_FILE, model, manifest.model],
    [TOKENIZER_FILE, new Uint8Array(await readFile(join(dir, TOKENIZER_FILE))), manifest.tokenizer],
  ] as const) {
    const digest = await sha256(bytes);
    if (digest !== want.digest)
      throw new Problem(`${join(dir, file)} has digest ${digest}, ${MANIFEST_FILE} says ${want.digest}`);
  }
  return { manifest, classify: await createClassifier(model, await readTokenizer(join(dir, TOKENIZER_FILE))) };
}

interface Judged {
  readonly isRight: boolean;
  readonly confidence: number;
}

export interface Evaluation {
  readonly rows: number;
  readonly accuracy: number;
  /** Of each source: rows and accuracy. */
  readonly sources: Readonly<Record<string, { readonly rows: number; readonly accuracy: number }>>;
  /** Of the surest share of rows: accuracy, and the confidence it goes down to. */
  readonly coverage: readonly { readonly share: number; readonly accuracy: number; readonly confidence: number }[];
  /** Rows at or above the model's threshold. */
  readonly decided: { readonly share: number; readonly accuracy: number };
  /** Median time of one classification, in milliseconds. */
  readonly medianMs: number;
}

const COVERAGE_SHARES = [1, 0.9, 0.75, 0.5];

/** @throws Problem when a row has a label that the model doesn't know. */
export async function evaluate(
  classify: Classify,
  labels: readonly string[],
  threshold: number,
  prompts: readonly LabelledPrompt[],
): Promise<Evaluation> {
  const judged: Judged[] = [];
  const times: number[] = [];
  const bySource = new Map<string, Judged[]>();
  for (const { text, label, source } of prompts) {
    const expected = labels.indexOf(label);
    if (expected === -1) throw new Problem(`label "${label}" is not one of the model's: ${labels.join(', ')}`);
    const started = performance.now();
    const probabilities = await classify(text);
    times.push(performance.now() - started);
    const confidence = Math.max(...probabilities);
    const row = { isRight: probabilities.indexOf(confidence) === expected, confidence };
    judged.push(row);
    bySource.set(source, [...(bySource.get(source) ?? []), row]);
  }
  const surest = [...judged].sort((a, b) => b.confidence - a.confidence);
  const decided = judged.filter(({ confidence }) => confidence >= threshold);
  return {
    rows: judged.length,
    accuracy: accuracyOf(judged),
    sources: Object.fromEntries(
      [...bySource].sort().map(([source, rows]) => [source, { rows: rows.length, accuracy: accuracyOf(rows) }]),
    ),
    coverage: COVERAGE_SHARES.map((share) => {
      const part = surest.slice(0, Math.ceil(share * surest.length));
      return { share, accuracy: accuracyOf(part), confidence: part.at(-1)?.confidence ?? 0 };
    }),
    decided: { share: decided.length / judged.length, accuracy: accuracyOf(decided) },
    medianMs: times.sort((a, b) => a - b)[times.length >> 1] ?? 0,
  };
}

function accuracyOf(rows: readonly Judged[]): number {
  return rows.length === 0 ? 1 : rows.filter(({ isRight }) => isRight).length / rows.length;
}
