/**
 * Transformers made routers, against what `transformers` and ONNX Runtime in Python say (test/golden/router/make.py).
 */
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openStore } from '@signpost/store';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkRouter } from './check.ts';
import { routerCommand } from './command.ts';
import { loadRouter, startRouter } from './evaluate.ts';
import { type ImportOptions, importTransformer } from './import.ts';
import { publishRouter } from './publish.ts';

const GOLDEN = join(import.meta.dirname, '../../../test/golden/router');
const TOLERANCE = 1e-4;
/** Roundings of int8 that go the other way in another build of ONNX Runtime. */
const INT8_TOLERANCE = 5e-3;

interface Golden {
  readonly labels: readonly string[];
  readonly maxTokens: number;
  readonly cases: readonly {
    readonly text: string;
    readonly probabilities: readonly number[];
    readonly quantised: readonly number[];
  }[];
}

let dir: string;
let golden: Golden;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-import-'));
  golden = JSON.parse(await readFile(join(GOLDEN, 'golden.json'), 'utf8')) as Golden;
});
afterAll(() => rm(dir, { recursive: true }));

const imported = (options: Partial<ImportOptions> = {}, location = GOLDEN) =>
  importTransformer(location, { risk: 0.05, ...options });

/** The golden model with some files other. */
async function altered(name: string, files: Readonly<Record<string, string>>): Promise<string> {
  const folder = join(dir, name);
  await cp(GOLDEN, folder, { recursive: true });
  for (const [file, text] of Object.entries(files)) await writeFile(join(folder, file), text);
  return folder;
}

const json = async (file: string) =>
  JSON.parse(await readFile(join(GOLDEN, file), 'utf8')) as Record<string, Record<string, unknown>>;

/** Prompts of the golden model's labels. */
async function labelled(name: string, repeat: number): Promise<string> {
  const texts = { chat: 'hello friend, coffee?', legal: 'my lease and the court', medical: 'fever and vaccine dosage' };
  const rows = Object.entries(texts).flatMap(([label, text]) =>
    Array.from({ length: repeat }, (_, i) => JSON.stringify({ text: `${text} ${i}`, label })),
  );
  const path = join(dir, name);
  await writeFile(path, rows.join('\n'));
  return path;
}

describe('a transformer made a router', () => {
  it.each([
    ['onnx/model.onnx', 'probabilities', TOLERANCE],
    ['onnx/model_quantized.onnx', 'quantised', INT8_TOLERANCE],
  ] as const)('gives the probabilities that %s gives in Python', async (file, key, tolerance) => {
    const { classify } = await startRouter(await imported({ file, maxTokens: golden.maxTokens }));
    for (const { text, [key]: wanted } of golden.cases) {
      const got = await classify(text);
      expect(got).toHaveLength(wanted.length);
      for (const [i, p] of got.entries())
        expect(Math.abs(p - (wanted[i] ?? Number.NaN)), `${JSON.stringify(text)}, ${i}`).toBeLessThan(tolerance);
    }
  });

  it('has the labels of config.json in their order, its int8 graph, and as many tokens as there are positions', async () => {
    const { manifest, model } = await imported();
    expect(manifest).toMatchObject({ kind: 'transformer', labels: golden.labels, maxTokens: 32, threshold: 0.5 });
    expect(Buffer.from(model)).toEqual(await readFile(join(GOLDEN, 'onnx/model_quantized.onnx')));
  });

  it('is calibrated by labelled prompts, and abstains where they ask for it', async () => {
    const { manifest, figures } = await imported({ valid: await labelled('valid.jsonl', 40), risk: 0.2 });
    expect(manifest.temperature).not.toBe(1);
    expect(manifest.metrics).toEqual({ valid: { rows: 120, accuracy: figures?.accuracy } });
    expect(manifest.threshold).toBeLessThanOrEqual(1);
    const valid = await labelled('few.jsonl', 2);
    await expect(imported({ valid, risk: 0.01 })).rejects.toThrow(/no threshold keeps .*few\.jsonl within 1\.0 %/);
    expect((await imported({ valid, threshold: 0.25 })).manifest.threshold).toBe(0.25);
  });

  it.each([
    [
      'no labels',
      { id2label: { 0: 'one' } },
      /config\.json: id2label names the labels \{"0":"one"\}; expected two or more/,
    ],
    [
      'several labels at once',
      { problem_type: 'multi_label_classification' },
      /problem_type: expected a classifier that/,
    ],
    [
      'a smaller vocabulary',
      { vocab_size: 100 },
      /tokens up to number \d+, config\.json a vocab_size of 100: they are of/,
    ],
    ['more labels', { id2label: { 0: 'a', 1: 'b', 2: 'c', 3: 'd' } }, /logits of the shape \[1, 3\]; .* 4 labels/],
  ])('is refused with %s', async (name, change, message) => {
    const folder = await altered(name, {
      'config.json': JSON.stringify({ ...(await json('config.json')), ...change }),
    });
    await expect(imported({}, folder)).rejects.toThrow(message);
  });

  it('is refused where the graph has fewer positions than config.json says', async () => {
    const config = { ...(await json('config.json')), max_position_embeddings: 512 };
    const folder = await altered('positions', { 'config.json': JSON.stringify(config) });
    await expect(imported({}, folder)).rejects.toThrow(/the router model can't take the 128 tokens .* fewer of them/);
    expect((await imported({ maxTokens: 32 }, folder)).manifest.maxTokens).toBe(32);
  });

  it('is refused where it is too large for the edge, which says how large it may be', async () => {
    const tokenizer = JSON.stringify(await json('tokenizer.json')).padEnd(3e6);
    const folder = await altered('large', { 'tokenizer.json': tokenizer });
    await expect(imported({}, folder)).rejects.toThrow(
      /tokenizer\.json has 300\d+ bytes, and this router's tokenizer may have 1500000/,
    );
  });

  it('is refused where it isn’t there, or asked for by what is no path', async () => {
    await expect(imported({}, join(dir, 'nowhere'))).rejects.toThrow(
      /nowhere holds no onnx\/model_quantized\.onnx, .*optimum-cli/,
    );
    await expect(imported({ file: 'onnx/model_q4.onnx' })).rejects.toThrow(/holds no onnx\/model_q4\.onnx; export/);
    await expect(imported({ file: '../model.onnx' })).rejects.toThrow(/--file \.\.\/model\.onnx is no path/);
    await expect(imported({ maxTokens: 33 })).rejects.toThrow(/--max-tokens 33 is more than .*: 32/);
  });
});

describe('router import', () => {
  it('writes a folder that check passes and publish puts into a store, its pointer last', async () => {
    const [folder, bucket] = [join(dir, 'mine'), join(dir, 'bucket')];
    const run = (...args: string[]) => routerCommand().parseAsync(args, { from: 'user' });
    await run('import', GOLDEN, '--out', folder, '--max-tokens', '24', '--json');
    const findings = await checkRouter(folder);
    expect(findings.map(({ what, verdict }) => `${what} ${verdict === 'slow' ? 'ok' : verdict}`)).toEqual(
      ['files', 'size', 'inputs', 'output', 'probabilities', 'speed'].map((what) => `${what} ok`),
    );
    expect(findings[2]?.detail).toMatch(/input_ids: int64 \[batch_size, sequence_length\]/);
    await run('publish', '--model', folder, '--store', bucket, '--json');
    const pointer = JSON.parse(await readFile(join(bucket, 'router/current.json'), 'utf8')) as Record<string, string>;
    expect(Object.keys(pointer)).toEqual(['manifest', 'tokenizer', 'model']);
    for (const [part, file] of [
      ['manifest', 'router.json'],
      ['tokenizer', 'tokenizer.json'],
      ['model', 'model.onnx'],
    ] as const)
      expect(await readFile(join(bucket, 'router', pointer[part] ?? ''))).toEqual(await readFile(join(folder, file)));
    expect((await loadRouter(folder)).manifest.labels).toEqual(golden.labels);
  });

  it('publishes nothing that the edge can’t run', async () => {
    const folder = join(dir, 'cut short');
    await cp(join(import.meta.dirname, '../../../models/router'), folder, { recursive: true });
    await writeFile(join(folder, 'model.onnx'), 'none');
    const store = openStore(join(dir, 'empty'));
    await expect(publishRouter(store, folder)).rejects.toThrow(/the edge can't run this model: files/);
    expect(await store.list('router/')).toEqual([]);
  });
});
