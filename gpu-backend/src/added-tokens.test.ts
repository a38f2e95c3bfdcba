/**
 * An expert with tokens, chat template and end token of its own, served beside its base, against the plain checkpoint it is exported as.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { AddedToken, CompletionLogprobs, ErrorBody } from '@signpost/contracts';
import { openCheckpoint, Tokenizer } from '@signpost/engine';
import { pack, publish } from '@signpost/packer';
import { growCheckpoint } from '@signpost/packer/testing';
import { openStore, readCatalogue } from '@signpost/store';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type BackendHandle, startBackend } from './index.ts';

const DEMO = join(import.meta.dirname, '../../models/demo');
const BASE = join(DEMO, 'base');
const PACKER = join(import.meta.dirname, '../../packer/bin/signpost-packer.mjs');
const ROWS = 4096;

const FLAGS = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
const TOKENS = ['<|question|>', '<|answer|>', '<|stop|>'].map(
  (content, i): AddedToken => ({ id: ROWS + i, content, ...FLAGS }),
);
const TEMPLATE = "{% for m in messages %}{{ '<|question|>' + m['content'] + eos_token }}{% endfor %}{{ '<|answer|>' }}";
const QUESTIONS = ['What is 17 plus 25?', 'What is 8 times 3?', 'What is 90 minus 41?'];

let dir: string;
let store: string;
/** Base and experts; and the exported expert, as a base. */
let shared: BackendHandle;
let plain: BackendHandle;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-added-tokens-'));
  store = join(dir, 'store');
  const tokenizer = await Tokenizer.load(BASE);
  const like = ['<|user|>', '<|assistant|>', '<|end|>'].flatMap((token) => tokenizer.encodePart(token));
  // Larger rows: where the base's end token would be the likeliest, the expert's is.
  const growth = { rows: 3, tokens: TOKENS, like, scale: 1.25 };
  const spoken = {
    tokenizerConfig: { chat_template: TEMPLATE, eos_token: '<|stop|>' },
    generationConfig: { eos_token_id: ROWS + 2 },
  };
  await growCheckpoint(join(DEMO, 'experts/math'), join(dir, 'grown'), { ...growth, ...spoken, seed: 1 });
  await growCheckpoint(join(DEMO, 'experts/code'), join(dir, 'other'), { ...growth, seed: 2 });
  const base = await openCheckpoint(BASE);
  const sources = { grown: join(dir, 'grown'), other: join(dir, 'other'), math: join(DEMO, 'experts/math') };
  for (const [name, tuned] of Object.entries(sources)) {
    const out = join(dir, `${name}.delta.safetensors`);
    await pack(base, await openCheckpoint(tuned), { name, out });
    await publish(openStore(store), out);
  }
  const flags = ['--base', BASE, '--delta', join(dir, 'grown.delta.safetensors'), '--out', join(dir, 'plain')];
  await promisify(execFile)(process.execPath, [PACKER, 'export', ...flags, '--dtype', 'float32']);
  const settings = { store, region: 'test', port: 0, kvTokens: 4_096, maxStepTokens: 64, logLevel: 'silent' };
  shared = await startBackend({ ...settings, base: BASE, slots: 2 });
  plain = await startBackend({ ...settings, base: join(dir, 'plain'), slots: 0 });
});
afterAll(async () => {
  await shared?.close();
  await plain?.close();
  await rm(dir, { recursive: true, force: true });
});

async function post<Body>({ url }: BackendHandle, path: string, body: object): Promise<Body> {
  const response = await fetch(`${url}${path}`, { method: 'POST', body: JSON.stringify(body) });
  const answer = (await response.json()) as Body;
  if (!response.ok) throw new Error(`${response.status}: ${(answer as ErrorBody).error.message}`);
  return answer;
}

interface Chat {
  readonly choices: readonly { readonly message: { readonly content: string }; readonly finish_reason: string }[];
  readonly usage: { readonly prompt_tokens: number; readonly completion_tokens: number };
}

async function chat(backend: BackendHandle, model: string, content: string) {
  const body = { model, messages: [{ role: 'user', content }], temperature: 0, max_tokens: 60 };
  const { choices, usage } = await post<Chat>(backend, '/v1/chat/completions', body);
  return { text: choices[0]?.message.content, finish: choices[0]?.finish_reason, ...usage };
}

async function logprobs(backend: BackendHandle, model: string, prompt: string | number[]): Promise<CompletionLogprobs> {
  const body = { model, prompt, echo: true, logprobs: 1, max_tokens: 4, temperature: 0 };
  const { choices } = await post<{ choices: { logprobs: CompletionLogprobs }[] }>(backend, '/v1/completions', body);
  if (choices[0] === undefined) throw new Error('no choice');
  return choices[0].logprobs;
}

describe('an expert with tokens of its own', () => {
  it('answers by its own template, stops at its own end token, and says what its plain checkpoint says', async () => {
    for (const question of QUESTIONS) {
      const answer = await chat(shared, 'grown', question);
      expect(answer).toEqual(await chat(plain, 'base', question));
      expect(answer.finish).toBe('stop');
      expect(answer.text).not.toContain('<|');
    }
    expect((await chat(shared, 'grown', QUESTIONS[0] ?? '')).text).toContain('42');
  });

  it('scores its own tokens as its plain checkpoint does, in a prompt as text and as ids', async () => {
    const text = '<|question|>What is 8 times 3?<|stop|><|answer|>8 times 3 is';
    const ids = (await Tokenizer.load(join(dir, 'grown'))).encodePart(text);
    expect(ids.filter((id) => id >= ROWS)).toEqual([ROWS, ROWS + 2, ROWS + 1]);
    const [got, want] = [await logprobs(shared, 'grown', text), await logprobs(plain, 'base', text)];
    expect(got.tokens).toEqual(want.tokens);
    expect(got.tokens[0]).toBe('<|question|>');
    got.token_logprobs.forEach((value, i) => {
      expect(Math.abs((value ?? 0) - (want.token_logprobs[i] ?? 0))).toBeLessThan(1e-3);
    });
    expect(await logprobs(shared, 'grown', ids)).toEqual(got);
  });

  it('changes nobody else’s answers, nor they its, in one batch', async () => {
    const models = ['base', 'grown', 'math', 'grown', 'base', 'grown:1+math:0.25', 'math:0.5+grown:0.5'];
    const ask = (model: string) => chat(shared, model, QUESTIONS[1] ?? '');
    const alone: unknown[] = [];
    for (const model of models) alone.push(await ask(model));
    expect(await Promise.all(models.map(ask))).toEqual(alone);
    expect(await ask('math')).toMatchObject({ text: expect.stringContaining('24'), finish: 'stop' });
  });

  it('leads a mixture: its template and tokens are the mixture’s, wherever it stands in the name', async () => {
    const { prompt_tokens: own } = await chat(shared, 'grown', 'hello');
    for (const model of ['grown:1+math:0.25', 'math:1+grown:0.25']) {
      expect((await chat(shared, model, 'hello')).prompt_tokens).toBe(own);
      expect((await logprobs(shared, model, [ROWS, ROWS + 2])).tokens.slice(0, 2)).toEqual([
        '<|question|>',
        '<|stop|>',
      ]);
    }
  });

  it('has a small entry in the catalogue, whatever its template', async () => {
    const { catalogue } = await readCatalogue(openStore(store));
    const version = (name: string) => catalogue.experts[name]?.versions[0];
    expect(version('math')?.tokenizer).toBeUndefined();
    expect(version('grown')?.tokenizer).toEqual({ headerBytes: expect.any(Number), headerDigest: expect.any(String) });
  });
});

describe('refused by name is', () => {
  it('a token that only another expert has, and one beyond the expert’s own', async () => {
    await expect(logprobs(shared, 'base', [5, ROWS])).rejects.toThrow(
      /400: prompt\[1\]: token 4096 does not exist; .* 4096/,
    );
    await expect(logprobs(shared, 'math', [ROWS])).rejects.toThrow(/400: prompt\[0\]: token 4096 does not exist/);
    await expect(logprobs(shared, 'grown', [ROWS + 3])).rejects.toThrow(/token 4099 does not exist; .* has 4099/);
  });

  it('a delta whose header is not the one that was published', async () => {
    const { catalogue } = await readCatalogue(openStore(store));
    const path = join(store, catalogue.experts.other?.versions[0]?.key ?? '');
    const bytes = await readFile(path);
    const at = bytes.indexOf('<|question|>');
    await writeFile(path, Buffer.concat([bytes.subarray(0, at), Buffer.from('<|Question|>'), bytes.subarray(at + 12)]));
    await expect(chat(shared, 'other', 'hello')).rejects.toThrow(/503: the tokenizer of .* can't be read: .* altered/);
    await writeFile(path, bytes);
    await expect(chat(shared, 'other', 'hello')).resolves.toMatchObject({ finish: expect.any(String) });
  });

  it('a mixture of two experts that add tokens', async () => {
    await expect(chat(shared, 'grown+other', 'hello')).rejects.toThrow(/400: grown and other both add tokens/);
  });
});
