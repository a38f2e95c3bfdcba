/**
 * Token ids against those of `transformers` (test/golden/router/make.py), and what a graph must have; probabilities are ONNX Runtime's and so tested where that is.
 */
import { describe, expect, it } from 'vitest';
import { golden, goldenManifest as manifest, parseGoldenRouter } from '../../../test/golden/router/golden.ts';
import { parseRouterManifest } from './manifest.ts';
import { SequenceClassifier, type SequenceGraph } from './sequence-classifier.ts';

const int64 = (name: string) => ({ name, isTensor: true, type: 'int64' });
const inputs = ['input_ids', 'attention_mask', 'token_type_ids'].map(int64);
const outputs = [{ name: 'logits', isTensor: true, type: 'float32' }];

/** A graph that keeps what it was given, and says these logits. */
function graph(given: Partial<SequenceGraph> = {}, logits: readonly number[] = [0, 1, 2], dims = [1, logits.length]) {
  const fed: Record<string, BigInt64Array>[] = [];
  const whole: SequenceGraph = {
    inputs,
    outputs,
    run: async (tensors) => {
      fed.push(tensors);
      return { logits: { data: Float32Array.from(logits), dims } };
    },
    ...given,
  };
  return { ...whole, fed };
}

const numbers = (values: BigInt64Array | undefined) => Array.from(values ?? [], Number);

describe('a text’s token ids', () => {
  it.each([
    ['tokenizer.json', 'ids'],
    ['byte-level.json', 'byteLevelIds'],
  ] as const)('are those of transformers, by %s', async (tokenizer, key) => {
    const one = graph();
    const classifier = new SequenceClassifier(one, parseGoldenRouter(tokenizer), manifest);
    for (const { text } of golden.cases) await classifier.classify(text);
    expect(one.fed.map(({ input_ids }) => numbers(input_ids))).toEqual(golden.cases.map((each) => each[key]));
  });

  it('are all attended to, in one segment', async () => {
    const one = graph();
    await new SequenceClassifier(one, parseGoldenRouter('tokenizer.json'), manifest).classify('hello court');
    const [fed] = one.fed;
    const { length } = fed?.input_ids ?? [];
    expect(length).toBeGreaterThan(3);
    expect(numbers(fed?.attention_mask)).toEqual(new Array(length).fill(1));
    expect(numbers(fed?.token_type_ids)).toEqual(new Array(length).fill(0));
  });

  it('are all that is given to a graph that takes no more', async () => {
    const one = graph({ inputs: inputs.slice(0, 2) });
    await new SequenceClassifier(one, parseGoldenRouter('tokenizer.json'), manifest).classify('hello');
    expect(Object.keys(one.fed[0] ?? {})).toEqual(['input_ids', 'attention_mask']);
  });

  it('end with the last special token when they are cut, and are as many as there may be', async () => {
    const one = graph();
    const classifier = new SequenceClassifier(one, parseGoldenRouter('tokenizer.json'), manifest);
    await classifier.classify('court '.repeat(100_000));
    await classifier.proveLength();
    const [begin, end] = [golden.cases[0]?.ids[0], golden.cases[0]?.ids.at(-1)];
    for (const { input_ids } of one.fed) {
      const ids = numbers(input_ids);
      expect([ids.length, ids[0], ids.at(-1)]).toEqual([golden.maxTokens, begin, end]);
    }
  });
});

describe('probabilities', () => {
  it('are the softmax of the logits, divided by the temperature', async () => {
    const classify = (temperature: number) =>
      new SequenceClassifier(graph({}, [1, 2, 4]), parseGoldenRouter('tokenizer.json'), {
        ...manifest,
        temperature,
      }).classify('x');
    const powers = [1, 2, 4].map((logit) => Math.exp(logit / 2));
    const sum = powers.reduce((all, power) => all + power, 0);
    for (const [i, p] of (await classify(2)).entries()) expect(p).toBeCloseTo((powers[i] ?? 0) / sum, 6);
    // Where their powers are no numbers any more.
    const cold = await new SequenceClassifier(
      graph({}, [900, 0, 0]),
      parseGoldenRouter('tokenizer.json'),
      manifest,
    ).classify('x');
    expect([...cold]).toEqual([1, 0, 0]);
  });

  it.each([
    ['of another number of labels', [0, 1], [1, 2], /gives logits of the shape \[1, 2\]; router\.json has 3 labels/],
    ['of each token', [0, 1, 2, 3, 4, 5], [1, 2, 3], /gives logits of the shape \[1, 2, 3\]; .*\[1, 3\] is expected/],
    ['that are no numbers', [0, Number.NaN, 1], [1, 3], /logits \[0, NaN, 1\], not all of them finite/],
  ])('are not made of logits %s', async (_, logits, dims, message) => {
    const classifier = new SequenceClassifier(graph({}, logits, dims), parseGoldenRouter('tokenizer.json'), manifest);
    await expect(classifier.classify('x')).rejects.toThrow(message);
  });
});

describe('a graph', () => {
  it.each([
    ['without input_ids', { inputs: [int64('tokens')] }, /takes tokens \(int64\); expected input_ids/],
    ['with an input more', { inputs: [...inputs, int64('pixels')] }, /pixels \(int64\); expected input_ids/],
    ['of other integers', { inputs: [{ ...int64('input_ids'), type: 'int32' }] }, /input_ids \(int32\).*all int64/],
    [
      'without logits',
      { outputs: [{ name: 'last_hidden_state', isTensor: true, type: 'float32' }] },
      /gives last_hidden_state \(float32\); expected logits/,
    ],
  ])('%s is refused', (_, given, message) => {
    expect(() => new SequenceClassifier(graph(given), parseGoldenRouter('tokenizer.json'), manifest)).toThrow(message);
  });

  it.each([
    [null, /tokenizer\.json holds no object/],
    [{ model: {} }, /tokenizer\.json can't be used: /],
  ])('is refused with the tokenizer %j', (tokenizer, message) => {
    expect(() => new SequenceClassifier(graph(), tokenizer, manifest)).toThrow(message);
  });
});

describe('a manifest', () => {
  it('of before there were kinds is of the packer’s own', () => {
    const { kind: _, maxTokens: __, temperature: ___, ...rest } = manifest;
    expect(parseRouterManifest({ ...rest, features: 1 })).not.toHaveProperty('kind');
    expect(() => parseRouterManifest(rest)).toThrow(/features: made for other features/);
  });

  it.each([
    [{ kind: 'tree' }, /kind/],
    [{ maxTokens: 513 }, /maxTokens/],
    [{ temperature: 0 }, /temperature/],
    [{ labels: ['a', 'a'] }, /labels: two of them are the same/],
  ])('is refused with %j', (change, message) => {
    expect(() => parseRouterManifest({ ...manifest, ...change })).toThrow(message);
  });
});
