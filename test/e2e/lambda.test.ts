/**
 * A region in AWS Lambda, whole: app, Worker, InvokeWithResponseStream, Runtime API, the function's own process, the engine. Only AWS is played.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { signingKey, signRequest } from '@signpost/contracts';
import { prepareDemoStore } from '@signpost/demo';
import { type EdgeHandle, startEdge } from '@signpost/edge';
import { LambdaServer } from '@signpost/edge/testing/lambda';
import { type BackendHandle, startBackend } from '@signpost/gpu-backend';
import { RuntimeApiServer } from '@signpost/gpu-backend/testing';
import { publish } from '@signpost/packer';
import { openStore } from '@signpost/store';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const BASE = join(import.meta.dirname, '../../models/demo/base');
const FUNCTION = join(import.meta.dirname, '../../gpu-backend/bin/signpost-lambda.mjs');
const SECRET = randomBytes(32).toString('hex');
const RULES = `
version: 1
rules:
  - { name: lambda, when: { header: { x-to: lambda } }, then: { model: requested, regions: [lambda] } }
  - { name: container, then: { model: requested, regions: [container] } }
`;

let state: string;
let store: string;
let aws: LambdaServer;
let runtime: RuntimeApiServer;
let container: BackendHandle;
let edge: EdgeHandle;
let functionProcess: ChildProcess;
/** What the function's process writes. */
const log: Record<string, unknown>[] = [];
const stderr: string[] = [];

function startFunction(api: RuntimeApiServer, environment: Readonly<Record<string, string>>): ChildProcess {
  const child = spawn(process.execPath, [FUNCTION], {
    env: { PATH: process.env.PATH, AWS_LAMBDA_RUNTIME_API: api.address, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  createInterface(child.stdout).on('line', (line) => log.push(JSON.parse(line)));
  child.stderr.on('data', (chunk) => stderr.push(String(chunk)));
  return child;
}

beforeAll(async () => {
  state = await mkdtemp(join(tmpdir(), 'signpost-lambda-'));
  ({ url: store } = await prepareDemoStore(state));
  [aws, runtime] = await Promise.all([LambdaServer.start(), RuntimeApiServer.start()]);
  // AWS's part: an invocation goes to the function's process, and what that writes to the caller.
  aws.handler = async ({ event, aborted }, write) => {
    const { chunks, leave } = runtime.invoke(event);
    void aborted.then(leave);
    for await (const chunk of chunks) await write(chunk);
  };
  functionProcess = startFunction(runtime, {
    SIGNPOST_BASE: BASE,
    SIGNPOST_STORE: store,
    SIGNPOST_REGION: 'lambda',
    SIGNPOST_REGION_SECRET: SECRET,
    SIGNPOST_KV_TOKENS: '4096',
    SIGNPOST_THREADS: '1',
  });
  container = await startBackend({
    base: BASE,
    store,
    region: 'container',
    port: 0,
    secret: SECRET,
    kvTokens: 4_096,
    logLevel: 'silent',
  });
  edge = await startEdge({
    regions: [
      {
        name: 'lambda',
        kind: 'lambda',
        function: 'signpost',
        awsRegion: 'eu-central-1',
        accessKeyIdSecret: 'AWS_KEY_ID',
        secretAccessKeySecret: 'AWS_SECRET',
        endpoint: aws.url,
      },
      { name: 'container', url: container.url },
    ],
    regionSecret: SECRET,
    routing: RULES,
    variables: { AWS_KEY_ID: 'AKIAEXAMPLE', AWS_SECRET: 'wJalrXUtnFEMI' },
    onLog: () => undefined,
  });
});
afterAll(async () => {
  functionProcess?.kill('SIGKILL');
  await edge?.close();
  await Promise.all([container?.close(), aws?.close(), runtime?.close()]);
  await rm(state, { recursive: true, force: true });
  expect(stderr).toEqual([]);
});

function clientOf(region: 'lambda' | 'container'): OpenAI {
  return new OpenAI({
    baseURL: `${edge.url}/v1`,
    apiKey: 'none',
    maxRetries: 0,
    timeout: 60_000,
    defaultHeaders: { 'x-to': region },
  });
}

const asked = (model: string, content: string) => ({
  model,
  messages: [{ role: 'user' as const, content }],
  temperature: 0,
  max_tokens: 60,
  seed: 1,
});

async function streamed(region: 'lambda' | 'container', model: string, content: string): Promise<string> {
  const { data, response } = await clientOf(region)
    .chat.completions.create({ ...asked(model, content), stream: true })
    .withResponse();
  expect(response.headers.get('x-signpost-region')).toBe(region);
  let text = '';
  for await (const { choices } of data) text += choices[0]?.delta.content ?? '';
  return text;
}

async function whole(region: 'lambda' | 'container', model: string, content: string): Promise<string> {
  const { choices } = await clientOf(region).chat.completions.create(asked(model, content));
  return choices[0]?.message.content ?? '';
}

describe('a region in AWS Lambda', () => {
  it.each([
    ['base', 'Tell me about a red house.'],
    ['math', 'What is 17 plus 25?'],
    ['math:1+chat:0.3', 'Tell me about a green door.'],
  ])('answers for %s as a container does, streamed and whole', async (model, content) => {
    const answer = await streamed('lambda', model, content);
    expect(answer).toBe(await streamed('container', model, content));
    expect(answer).not.toBe('');
    expect(await whole('lambda', model, content)).toBe(answer);
    expect(runtime.violations).toEqual([]);
  });

  it('streams: its pieces are sent one by one', async () => {
    const pieces: string[] = [];
    const { handler } = aws;
    aws.handler = (invocation, write) =>
      handler(invocation, async (chunk) => {
        pieces.push(Buffer.from(chunk).toString());
        await write(chunk);
      });
    try {
      await streamed('lambda', 'base', 'Tell me about a blue house.');
    } finally {
      aws.handler = handler;
    }
    expect(pieces.filter((piece) => piece.startsWith('data: ')).length).toBeGreaterThan(5);
  });

  it('tells the app its own errors, in the same words', async () => {
    for (const region of ['lambda', 'container'] as const) {
      const unknown = clientOf(region).chat.completions.create(asked('nobody', 'hi'));
      await expect(unknown).rejects.toMatchObject({ status: 404, code: 'model_not_found' });
    }
  });

  it('is started once, and sends nobody anything between two invocations', () => {
    expect(log.filter(({ msg }) => msg === 'ready')).toHaveLength(1);
    expect(runtime.idle).toBe(1);
  });

  it('refuses what isn’t signed by its edge, for it, for this body, once', async () => {
    const path = '/v1/chat/completions';
    const body = JSON.stringify(asked('base', 'hi'));
    const tokenFor = (region: string, secret = SECRET) =>
      signRequest(signingKey(secret), { region, method: 'POST', path, body }, { tenant: undefined });
    const invoke = async (token: string | undefined, sent = body) => {
      const { chunks } = runtime.invoke({
        version: '2.0',
        rawPath: path,
        headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
        requestContext: { http: { method: 'POST' } },
        body: sent,
      });
      let text = '';
      for await (const chunk of chunks) text += Buffer.from(chunk).toString();
      return text;
    };
    const refused = /^\{"statusCode":401,.*invalid_region_token/s;
    expect(await invoke(undefined)).toMatch(refused);
    expect(await invoke(await tokenFor('container'))).toMatch(refused);
    expect(await invoke(await tokenFor('lambda', randomBytes(32).toString('hex')))).toMatch(refused);
    const token = await tokenFor('lambda');
    expect(await invoke(token, body.replace('hi', 'ho'))).toMatch(refused);
    expect(await invoke(token)).toMatch(/^\{"statusCode":200,/);
    expect(await invoke(token)).toMatch(refused);
  });

  it('works no more for an app that has left', async () => {
    const app = new AbortController();
    const long = { ...asked('base', 'Tell me everything.'), max_tokens: 900, ignore_eos: true };
    const stream = await clientOf('lambda').chat.completions.create(
      { ...long, stream: true },
      { signal: app.signal, headers: { 'x-request-id': 'leaves' } },
    );
    let seen = 0;
    for await (const _ of stream) {
      if (++seen === 3) break;
    }
    app.abort();
    const outcome = () => log.find(({ requestId, msg }) => requestId === 'leaves' && msg === 'request ended')?.outcome;
    await expect.poll(outcome, { timeout: 30_000 }).toBe('client gone');
    expect(await whole('lambda', 'math', 'What is 17 plus 25?')).toContain('The answer is 42.');
  });

  it('goes on after it was frozen, with what has been published since', async () => {
    await expect.poll(() => runtime.idle).toBe(1);
    functionProcess.kill('SIGSTOP');
    const frozenAt = Date.now();
    await publish(openStore(store), join(state, 'math.delta.safetensors'), {
      name: 'numbers',
      baseName: 'signpost-demo',
    });
    // Until what it knows is too old to go by.
    await expect.poll(() => Date.now() - frozenAt, { timeout: 10_000 }).toBeGreaterThan(2_500);
    const answer = streamed('lambda', 'numbers', 'What is 8 times 3?');
    await expect.poll(() => runtime.idle).toBe(0);
    functionProcess.kill('SIGCONT');
    expect(await answer).toBe(await streamed('container', 'math', 'What is 8 times 3?'));
  });
});

it('a function that is set up wrongly tells AWS why, in one line', async () => {
  const api = await RuntimeApiServer.start();
  const before = stderr.length;
  const child = startFunction(api, { SIGNPOST_BASE: BASE, SIGNPOST_STORE: state, SIGNPOST_REGION: 'lambda' });
  const code = await new Promise((resolve) => child.once('close', resolve));
  const why = /SIGNPOST_REGION_SECRET is not set/;
  expect([code, api.asked, api.violations]).toEqual([1, 0, []]);
  expect(api.startErrors).toEqual([expect.objectContaining({ errorMessage: expect.stringMatching(why) })]);
  expect(stderr.splice(before).join('')).toMatch(/^signpost-lambda: SIGNPOST_REGION_SECRET is not set.*\n$/);
  await api.close();
});
