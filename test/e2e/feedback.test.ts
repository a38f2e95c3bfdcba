/**
 * What apps say of past decisions, all the way: to the Worker, out of it by the command line, and into the classifier that is trained next.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { encodeHeader } from '@signpost/contracts';
import { type EdgeHandle, startEdge } from '@signpost/edge';
import { afterAll, beforeAll, expect, it } from 'vitest';

const REPOSITORY = join(import.meta.dirname, '../..');
const TOKENIZER = join(REPOSITORY, 'models/router/tokenizer.json');
const VOCABULARY = 30_522;
const DIM = 4;
const KEY = 'sk-feedback';

let dir: string;
let edge: EdgeHandle;
const region = createServer((request, response) => {
  request.resume().on('end', () => {
    response.writeHead(200, { 'content-type': 'application/json' }).end('{"choices":[]}');
  });
});

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-feedback-'));
  await new Promise<void>((resolve) => region.listen(0, '127.0.0.1', resolve));
  edge = await startEdge({
    regions: [{ name: 'here', url: `http://127.0.0.1:${(region.address() as AddressInfo).port}` }],
    keys: { [KEY]: 'acme' },
    onLog: () => undefined,
  });
});
afterAll(async () => {
  await edge?.close();
  region.close();
  await rm(dir, { recursive: true });
});

async function run(bin: string, args: readonly string[]): Promise<{ out: string; err: string }> {
  const env = { ...process.env, SIGNPOST_API_KEY: KEY };
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [join(REPOSITORY, bin), ...args], { env });
  return { out: stdout, err: stderr };
}

const post = (path: string, body: object) =>
  fetch(edge.url + path, {
    method: 'POST',
    body: JSON.stringify(body),
    headers: { authorization: `Bearer ${KEY}` },
  });

/** Sentences that one word tells apart. */
function sentences(
  words: readonly [string, string][],
  count: number,
): { text: string; label: string; source: string }[] {
  const fillers = ['the', 'a', 'please', 'now', 'of', 'me'];
  return Array.from({ length: count }, (_, i) => {
    const [word, label] = words[i % words.length] ?? ['', ''];
    const filler = (step: number) => fillers[(i * step + step) % fillers.length];
    return { text: `${filler(1)} ${word} ${filler(5)} ${filler(7)} ${i}`, label, source: 'made' };
  });
}

async function file(name: string, rows: readonly object[]): Promise<string> {
  await writeFile(join(dir, name), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  return join(dir, name);
}

/** No token has a meaning: only the hashed words tell. */
async function embedding(): Promise<string> {
  const header = encodeHeader(
    [
      { name: 'weight', dtype: 'I8', shape: [VOCABULARY, DIM] },
      { name: 'scale', dtype: 'F32', shape: [VOCABULARY] },
    ],
    {},
  );
  const path = join(dir, 'embedding.safetensors');
  await writeFile(path, Buffer.concat([header, new Uint8Array(VOCABULARY * (DIM + 4))]));
  return path;
}

it('a word that users say was taken for the wrong thing is taken for the right one by the next classifier', async () => {
  // Of "zorp" the training set knows nothing.
  const taught = sentences([['zorp', 'code']], 24);
  for (const { text } of taught) {
    const answer = await post('/v1/chat/completions', { model: 'auto', messages: [{ role: 'user', content: text }] });
    expect(answer.status).toBe(200);
    const said = { decision_id: answer.headers.get('x-request-id'), verdict: 'wrong', expected: 'code', prompt: text };
    expect((await post('/v1/feedback', said)).status).toBe(200);
  }
  const exported = await run('edge/bin/signpost.mjs', ['feedback', 'export', '--edge', edge.url]);
  expect(exported.err).toBe('24 lines, 24 with a prompt and its label\n');
  const feedback = join(dir, 'feedback.jsonl');
  await writeFile(feedback, exported.out);

  const known: [string, string][] = [
    ['solve', 'math'],
    ['tell', 'chat'],
    ['debug', 'code'],
  ];
  const files = [
    ['--train', await file('train.jsonl', sentences(known, 450))],
    ['--valid', await file('valid.jsonl', sentences(known, 31))],
    ['--test', await file('test.jsonl', sentences([['zorp', 'code']], 60).slice(24))],
    ['--embedding', await embedding()],
    ['--tokenizer', TOKENIZER],
    ['--epochs', '15'],
    ['--threshold', '0.1'],
  ].flat();
  const train = async (name: string, more: readonly string[]) => {
    const { out, err } = await run('packer/bin/signpost-packer.mjs', [
      'router',
      'train',
      ...files,
      '--out',
      join(dir, name),
      '--json',
      ...more,
    ]);
    return { err, accuracy: (JSON.parse(out) as { figures: { test: { accuracy: number } } }).figures.test.accuracy };
  };
  const without = await train('without', []);
  const withIt = await train('with', ['--feedback', feedback]);
  expect(withIt.err).toContain('feedback.jsonl: 24 prompts to train on\n');
  expect(withIt.accuracy).toBeGreaterThan(0.9);
  expect(without.accuracy).toBeLessThan(0.7);
});
