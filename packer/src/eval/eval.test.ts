/**
 * The batched evaluation against one sequence at a time, on the demo family.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { logProbability, Model, openCheckpoint, openDelta, Session, Tokenizer } from '@signpost/engine';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pack } from '../pack/pack.ts';
import { growCheckpoint } from '../testing/index.ts';
import { evaluate } from './evaluate.ts';
import { evalMarkdown, evalReport, evalTable, retention, retentionChart } from './report.ts';
import { BatchRunner } from './runner.ts';
import { lastWord, scoreTask } from './score.ts';
import { type AnswerRow, readTasks } from './tasks.ts';

const DEMO = join(import.meta.dirname, '../../../models/demo');
const BASE = join(DEMO, 'base');
const BLOCKS = 64;
const LIMIT = 6;
const MAX_TOKENS = 100;

let dir: string;
let delta: string;
let tokenizer: Tokenizer;
let alone: Model;
let runner: BatchRunner;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-eval-'));
  delta = join(dir, 'math.delta.safetensors');
  tokenizer = await Tokenizer.load(BASE);
  const base = await openCheckpoint(BASE);
  const tuned = await openCheckpoint(join(DEMO, 'experts/math'));
  await pack(base, tuned, { name: 'math', out: delta, scale: 'row', planes: 1 });
  const rows = BLOCKS * 16;
  const sizes = { slots: 1, kvBlocks: BLOCKS, blockTokens: 16, maxRows: rows, maxLogitRows: rows };
  alone = await Model.load(base, { device: 'cpu', ...sizes });
  runner = await BatchRunner.load(base, 1);
  const file = openDelta(new Uint8Array(await readFile(delta)), delta);
  for (const model of [alone, runner.model]) model.loadExpert(0, file);
});
afterAll(async () => {
  alone?.close();
  runner?.close();
  await rm(dir, { recursive: true });
});

const session = (slot?: number) => new Session(alone, BLOCKS, slot === undefined ? [] : [{ slot, weight: 1 }]);

async function scoresAlone(slot: number | undefined, context: number[], continuation: number[]): Promise<number[]> {
  const { vocabSize } = alone.config;
  const logits = await session(slot).append([...context, ...continuation], 'all');
  return continuation.map((id, i) => {
    const row = context.length - 1 + i;
    return logProbability(logits.subarray(row * vocabSize, (row + 1) * vocabSize), id);
  });
}

async function generatedAlone(slot: number | undefined, prompt: number[], count: number): Promise<number[]> {
  const made = await session(slot).greedy(prompt, count, tokenizer.eosIds);
  return made.filter((id) => !tokenizer.eosIds.has(id));
}

async function readRows(task: string): Promise<AnswerRow[]> {
  const text = await readFile(join(DEMO, 'eval', `${task}.jsonl`), 'utf8');
  return text
    .split('\n')
    .slice(0, 12)
    .map((line) => JSON.parse(line) as AnswerRow);
}

describe('the batched runner', () => {
  it('gives each sequence what it gets alone, whichever experts share its steps', async () => {
    const rows = (await Promise.all(['chat', 'math', 'code'].map(readRows))).flat();
    const work = rows.map(({ prompt, answer }, i) => ({
      slot: i % 2 === 0 ? undefined : 0,
      context: tokenizer.encodeChat([{ role: 'user', content: prompt }]),
      answer: tokenizer.encodePart(answer),
    }));
    const together = await Promise.all(
      work.map(async ({ slot, context, answer }) => ({
        scores: await runner.score(slot, context, answer),
        made: await runner.generate(slot, context, 30, tokenizer.eosIds),
      })),
    );
    for (const [i, { slot, context, answer }] of work.entries()) {
      expect(together[i]?.scores).toEqual(await scoresAlone(slot, context, answer));
      expect(together[i]?.made).toEqual(await generatedAlone(slot, context, 30));
    }
  });

  it('computes a sequence longer than a step in parts', async () => {
    const text = tokenizer.encode('Once upon a time there was a bear. '.repeat(200)).slice(0, 900);
    expect(await runner.score(0, text.slice(0, 100), text.slice(100))).toEqual(
      await scoresAlone(0, text.slice(0, 100), text.slice(100)),
    );
  });

  it('ends an answer at the end of the context', async () => {
    const text = tokenizer.encode('Once upon a time there was a bear. '.repeat(300)).slice(0, runner.maxTokens - 5);
    expect(await runner.generate(undefined, text, 50, new Set())).toHaveLength(5);
  });

  it('refuses what has no tokens, or too many', async () => {
    await expect(runner.score(undefined, [], [1])).rejects.toThrow(/the prompt has no tokens/);
    await expect(runner.generate(undefined, new Array(1_024).fill(5), 1, new Set())).rejects.toThrow(
      /1024 tokens are too long; here a sequence may have 1024/,
    );
    expect(await runner.score(undefined, [5], [])).toEqual([]);
  });

  it('stops when it is told to, for good', async () => {
    const controller = new AbortController();
    const own = await BatchRunner.load(await openCheckpoint(BASE), 0, controller.signal);
    const work = own.generate(undefined, [5, 6, 7], 500, new Set());
    controller.abort(new Error('enough'));
    await expect(work).rejects.toThrow('enough');
    await expect(own.score(undefined, [5], [6])).rejects.toThrow('enough');
    own.close();
  });
});

describe('an evaluation of the demo', () => {
  it('speaks to each expert as it was trained, unless it is told to speak to all alike', async () => {
    const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
    const tokens = ['<|ask|>', '<|done|>'].map((content, i) => ({ id: 4096 + i, content, ...flags }));
    const like = ['<|user|>', '<|end|>'].flatMap((token) => tokenizer.encodePart(token));
    const chat_template =
      "{% for m in messages %}{{ '<|ask|>' + m['content'] + eos_token }}{% endfor %}{{ '<|assistant|>' }}";
    const grown = join(dir, 'grown');
    await growCheckpoint(join(DEMO, 'experts/math'), grown, {
      seed: 1,
      rows: 2,
      tokens,
      like,
      scale: 1.25,
      tokenizerConfig: { chat_template, eos_token: '<|done|>' },
      generationConfig: { eos_token_id: 4097 },
    });
    const path = join(dir, 'grown.delta.safetensors');
    const linear = ['*.self_attn.*', '*.mlp.*'].map((match) => ({ match, as: 'exact' as const }));
    await pack(await openCheckpoint(BASE), await openCheckpoint(grown), { name: 'grown', out: path, policy: linear });
    const tasks = (await readTasks(join(DEMO, 'tasks.yaml'), LIMIT)).filter(({ name }) => name.startsWith('math'));
    const methods = [
      { name: 'grown', path: grown },
      { name: 'exact', path },
    ];
    const figures = async (options: { tokenizer?: string }) => {
      const scores = await evaluate(BASE, methods, tasks, options);
      return scores.slice(1).map((method) => Object.values(method.scores).map(({ value }) => value));
    };
    const [plain = [], packed = []] = await figures({});
    for (const [i, value] of plain.entries()) expect(packed[i]).toBeCloseTo(value, 2);
    // By the base's template nothing it was trained for ends an answer.
    const [alike = []] = await figures({ tokenizer: BASE });
    expect(alike).not.toEqual(plain);
  });

  it('finds what one sequence at a time gives, and what the delta keeps of it', async () => {
    const tasks = await readTasks(join(DEMO, 'tasks.yaml'), LIMIT);
    const methods = [
      { name: 'math', path: join(DEMO, 'experts/math') },
      { name: 'math 1-bit', path: delta },
    ];
    const heard: [number, number][] = [];
    const scores = await evaluate(BASE, methods, tasks, {
      tokenizer: BASE,
      onProgress: (done, total) => heard.push([done, total]),
    });
    expect(scores.map(({ name, kind }) => [name, kind])).toEqual([
      ['base', 'base'],
      ['math', 'checkpoint'],
      ['math 1-bit', 'delta'],
    ]);
    expect(heard).toHaveLength(3 * 5 * LIMIT);
    expect(heard.at(-1)).toEqual([90, 90]);

    const [math, likelihood] = [
      tasks.find(({ name }) => name === 'math'),
      tasks.find(({ name }) => name === 'math-likelihood'),
    ];
    if (math?.kind !== 'last-word' || likelihood?.kind !== 'likelihood') throw new Error('the tasks have changed');
    let right = 0;
    const logLikelihoods: number[] = [];
    for (const [i, { prompt, answer }] of math.rows.entries()) {
      const context = tokenizer.encodeChat([{ role: 'user', content: prompt }]);
      if (lastWord(tokenizer.decode(await generatedAlone(0, context, MAX_TOKENS)).trim()) === answer) right++;
      const full = [...tokenizer.encode(likelihood.rows[i]?.answer ?? ''), ...tokenizer.eosIds];
      logLikelihoods.push(...(await scoresAlone(0, context, full)));
    }
    const packed = scores.at(-1)?.scores;
    expect(packed?.math).toMatchObject({ measure: 'accuracy', value: right / LIMIT, rows: LIMIT });
    const mean = logLikelihoods.reduce((sum, value) => sum + value, 0) / logLikelihoods.length;
    expect(packed?.['math-likelihood']?.value).toBeCloseTo(mean, 10);
    expect(packed?.['math-likelihood']?.tokens).toBe(logLikelihoods.length);

    const report = evalReport(tasks, scores);
    const kept = report.methods.map((method) => method.scores['math-likelihood']?.retention);
    expect(kept[0]).toBe(0);
    expect(kept[1]).toBe(1);
    expect(kept[2]).toBeGreaterThan(0.8);
    expect(kept[2]).toBeLessThan(1);
    // The chat task's fine-tune isn't among the methods.
    expect(report.methods[1]?.scores.chat?.retention).toBeUndefined();
    expect(evalTable(report)).toMatch(/^math 1-bit +541\.\d KiB .* \d+\.\d %/m);
    expect(evalMarkdown(report, ['score.svg'])).toContain('| math 1-bit | 541.8 KiB |');
    expect(await retentionChart(report)).toContain('math-likelihood');
  });

  it('compares a capture with a field, and choices by likelihood a character', async () => {
    const rows = [
      { prompt: 'What is 17 plus 25?', n: 42, choices: ['17 + 25 = 42. The answer is 42.', 'Once'], gold: 0 },
      { prompt: 'What is 3 plus 4?', n: 8, choices: ['a bear', '3 + 4 = 7. The answer is 7.'], gold: 1 },
      { prompt: 'What is 5 plus 4?', n: 9, choices: ['5 + 4 = 9. The answer is 9.', 'xq'], gold: 1 },
    ];
    await writeFile(join(dir, 'rows.jsonl'), rows.map((row) => JSON.stringify(row)).join('\n'));
    await writeFile(
      join(dir, 'tasks.yaml'),
      `version: 1
tasks:
  sum: { kind: regex, data: rows.jsonl, pattern: '= (\\d+)\\.', field: n, maxTokens: 40 }
  choice: { kind: multiple-choice, data: rows.jsonl }
`,
    );
    const [sum, choice] = await readTasks(join(dir, 'tasks.yaml'));
    if (sum === undefined || choice === undefined) throw new Error('two tasks expected');
    const answerer = { runner, slot: 0, tokenizer };
    let right = 0;
    for (const { prompt, n } of rows) {
      const said = await generatedAlone(0, tokenizer.encodeChat([{ role: 'user', content: prompt }]), 40);
      if (tokenizer.decode(said).includes(`= ${n}.`)) right++;
    }
    expect(right).toBeGreaterThan(0);
    expect(right).toBeLessThan(3);
    expect(await scoreTask(answerer, sum)).toMatchObject({ measure: 'accuracy', value: right / 3, rows: 3 });
    expect(await scoreTask(answerer, choice)).toMatchObject({ measure: 'accuracy', value: 2 / 3, rows: 3 });
  });

  it('names the task and row that does not fit', async () => {
    const rows = [
      { prompt: 'a', answer: 'b' },
      { prompt: 'word '.repeat(3_000), answer: 'b' },
    ];
    const task = { name: 'long', kind: 'likelihood', format: 'text', rows } as const;
    await expect(scoreTask({ runner, slot: undefined, tokenizer }, task)).rejects.toThrow(
      /^task long, row 2: \d+ tokens are too long/,
    );
  });
});

describe('retention', () => {
  it('is the share of the gain, and nothing where there was none', () => {
    expect(retention(0.75, 0.5, 1)).toBe(0.5);
    expect(retention(-1, -2, -1.5)).toBe(2);
    expect(retention(0.5, 0.5, 0.5)).toBeUndefined();
    expect(retention(0.5, 0.6, 0.5)).toBeUndefined();
    expect(retention(0.5, 0.6, undefined)).toBeUndefined();
  });
});
