/**
 * Training end to end on a language of three kinds of sentences, and the ONNX graph against plain arithmetic.
 */
import type { RouterFeatures } from '@signpost/contracts/router';
import { routerFeatures } from '@signpost/contracts/router';
import { describe, expect, it } from 'vitest';
import { type LabelledPrompt, prepare, type TokenEmbedding } from './data.ts';
import { createClassifier, createSession, evaluate, predict } from './evaluate.ts';
import { encodeRouter, type QuantisedTable, type RouterGraph } from './onnx.ts';
import { Random } from './random.ts';
import { ROUTER_DEFAULTS, trainRouter } from './train.ts';

const SEED = 7;
const VERBS = {
  chat: ['tell', 'explain', 'why'],
  code: ['implement', 'debug', 'compile'],
  math: ['add', 'solve', 'sum'],
};
const LABELS = Object.keys(VERBS) as (keyof typeof VERBS)[];
const FILLERS = ['the', 'a', 'please', 'now', 'of', 'me', 'it', 'big', 'small', 'red'];
const WORDS = [...Object.values(VERBS).flat(), ...FILLERS];

/** Random sentences; each has one word that gives its label away. */
function sentences(count: number, random: Random): LabelledPrompt[] {
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random.next() * from.length)] as T;
  return Array.from({ length: count }, (_, i) => {
    const label = LABELS[i % LABELS.length] ?? 'chat';
    const words = Array.from({ length: 3 + Math.floor(random.next() * 8) }, () => pick(FILLERS));
    words[Math.floor(random.next() * words.length)] = pick(VERBS[label]);
    return { text: words.join(' '), label, source: `source ${i % 2}` };
  });
}

const encode = (text: string) => text.split(' ').map((word) => WORDS.indexOf(word) + 1);

function randomTable(rows: number, dim: number, random: Random): QuantisedTable {
  return {
    rows,
    dim,
    weight: Int8Array.from({ length: rows * dim }, () => Math.floor(random.next() * 255) - 127),
    // Far from standardised, so that the mean and spread folded into the first layer matter.
    scale: Float32Array.from({ length: rows }, () => 0.5 + random.next()),
  };
}

const embedding: TokenEmbedding = randomTable(WORDS.length + 1, 8, new Random(SEED));
const options = {
  ...ROUTER_DEFAULTS,
  epochs: 12,
  members: 2,
  hashDim: 4,
  hidden: 16,
  learningRate: 1e-2,
  // One word of a sentence decides: drop it seldom.
  dropout: 0.1,
  wordDropout: 0.05,
  seed: SEED,
};
const train = () =>
  trainRouter(prepare(sentences(900, new Random(SEED)), embedding, encode), LABELS, embedding, options, () => {});

const classifierOf = async (graph: RouterGraph) => createClassifier(await createSession(encodeRouter(graph)), encode);

/** Mean and maximum over looked-up rows, one hidden layer, softmax: what the graph is to compute. */
function expected(graph: RouterGraph, { tokenIds, hashIds }: RouterFeatures): number[] {
  const rows = ({ dim, weight, scale }: QuantisedTable, ids: Int32Array) =>
    [...ids].map((id) => [...weight.subarray(id * dim, (id + 1) * dim)].map((value) => value * (scale[id] ?? 0)));
  const overRows = (list: number[][], reduce: (column: number[]) => number) =>
    (list[0] ?? []).map((_, i) => reduce(list.map((row) => row[i] ?? 0)));
  const mean = (column: number[]) => column.reduce((sum, value) => sum + value, 0) / column.length;
  const tokens = rows(graph.tokens, tokenIds);
  const pooled = [
    ...overRows(tokens, mean),
    ...overRows(tokens, (column) => Math.max(...column)),
    ...overRows(rows(graph.hashes, hashIds), mean),
  ];
  const dense = (x: number[], w: Float32Array, b: Float32Array) =>
    [...b].map((bias, o) => x.reduce((sum, value, i) => sum + value * (w[i * b.length + o] ?? 0), bias));
  const hidden = dense(pooled, graph.w1, graph.b1).map((value) => Math.max(0, value));
  const logits = dense(hidden, graph.w2, graph.b2);
  const powers = logits.map((logit) => Math.exp(logit - Math.max(...logits)));
  return powers.map((power) => power / powers.reduce((sum, value) => sum + value, 0));
}

describe(`a trained router (seed ${SEED})`, () => {
  const graph = train();

  it('tells sentences apart that it has not seen, in ONNX Runtime', async () => {
    const unseen = sentences(300, new Random(SEED + 1));
    const figures = evaluate(await predict(await classifierOf(graph), LABELS, unseen), LABELS, 0.5);
    expect(figures.rows).toBe(300);
    expect(figures.accuracy).toBeGreaterThan(0.95);
    expect(Object.keys(figures.sources)).toEqual(['source 0', 'source 1']);
    expect(figures.decided.share).toBeGreaterThan(0.9);
  });

  it('computes in ONNX Runtime what plain arithmetic gives', async () => {
    const classify = await classifierOf(graph);
    for (const { text } of sentences(50, new Random(SEED + 2))) {
      const want = expected(graph, routerFeatures(text, encode));
      const got = await classify(text);
      for (const [i, value] of want.entries()) expect(got[i]).toBeCloseTo(value, 4);
    }
  });

  it('is the same model for the same seed, to the byte', () => {
    expect(Buffer.compare(encodeRouter(train()), encodeRouter(graph))).toBe(0);
  });

  it('refuses to be judged by a label that it does not know', async () => {
    const classify = await classifierOf(graph);
    await expect(predict(classify, LABELS, [{ text: 'x', label: 'law', source: 's' }])).rejects.toThrow(
      'label "law" is not one of the model\'s: chat, code, math',
    );
  });
});
