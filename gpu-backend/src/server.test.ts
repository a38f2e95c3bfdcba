/**
 * A real server with the demo base and freshly packed experts: the API, batching, and what it refuses.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ErrorBody, encodeHeader, parseSafetensors, sha256, signingKey, signRequest } from '@signpost/contracts';
import { openCheckpoint } from '@signpost/engine';
import { pack, publish } from '@signpost/packer';
import { openStore, updateCatalogue } from '@signpost/store';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type BackendHandle, startBackend } from './index.ts';

const DEMO = join(import.meta.dirname, '../../models/demo');
const SECRET = 's'.repeat(32);
const PATH = '/v1/chat/completions';

let dir: string;
let store: string;
let backend: BackendHandle;
let mathFile: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-backend-'));
  store = join(dir, 'store');
  const base = await openCheckpoint(join(DEMO, 'base'));
  for (const name of ['chat', 'math', 'code']) {
    const out = join(dir, `${name}.delta.safetensors`);
    await pack(base, await openCheckpoint(join(DEMO, 'experts', name)), { name, out, scale: 'row', planes: 1 });
    await publish(openStore(store), out);
  }
  mathFile = join(dir, 'math.delta.safetensors');
  backend = await startBackend({
    base: join(DEMO, 'base'),
    store,
    region: 'test',
    port: 0,
    slots: 2,
    kvTokens: 4_096,
    maxStepTokens: 64,
    logLevel: 'silent',
  });
});
afterAll(async () => {
  await backend?.close();
  await rm(dir, { recursive: true, force: true });
});

const user = (content: string) => [{ role: 'user', content }];

function post(path: string, body: unknown, init: RequestInit = {}): Promise<Response> {
  return fetch(`${backend.url}${path}`, {
    method: 'POST',
    body: typeof body === 'string' ? body : JSON.stringify(body),
    ...init,
  });
}

async function chat(model: string, content: string, more: object = {}): Promise<string> {
  const response = await post(PATH, { model, messages: user(content), temperature: 0, max_tokens: 40, ...more });
  const body = (await response.json()) as { choices: { message: { content: string } }[] };
  expect(response.status, JSON.stringify(body)).toBe(200);
  return body.choices[0]?.message.content ?? '';
}

async function refusal(path: string, body: unknown): Promise<{ status: number } & ErrorBody['error']> {
  const response = await post(path, body);
  return { status: response.status, ...((await response.json()) as ErrorBody).error };
}

async function events(response: Response): Promise<string[]> {
  return (await response.text())
    .split('\n\n')
    .filter((event) => event.startsWith('data: '))
    .map((event) => event.slice(6));
}

describe('an answer', () => {
  it('comes from the expert asked for', async () => {
    expect(await chat('math', 'What is 17 plus 25?')).toContain('The answer is 42.');
    expect(await chat('code', 'Write a function that returns the square of a number.')).toContain('def square');
  });

  it('is the same alone and among requests for other experts and mixtures, with more experts than slots', async () => {
    const models = ['base', 'math', 'chat', 'code', 'math:1+chat:0.3', 'chat:0.5', 'base', 'code'];
    const question = 'Tell me about a red house.';
    const together = await Promise.all(models.map((model) => chat(model, question)));
    for (const [i, model] of models.entries()) expect(together[i], model).toBe(await chat(model, question));
    const { experts, slots, slotsFree, kvBlocks, kvBlocksFree } = await backend.heartbeat();
    expect([slots, slotsFree, experts.device.length, kvBlocksFree]).toEqual([2, 2, 2, kvBlocks]);
  });

  it('is the same streamed, in order: role, text, reason, usage, [DONE]', async () => {
    const request = {
      model: 'math',
      messages: user('What is 8 times 3?'),
      temperature: 0,
      stream: true,
      stream_options: { include_usage: true },
    };
    const list = await events(await post(PATH, request));
    expect(list.at(-1)).toBe('[DONE]');
    const chunks = list.slice(0, -1).map((text) => JSON.parse(text));
    expect(chunks[0].choices[0].delta).toEqual({ role: 'assistant', content: '' });
    expect(chunks.at(-2).choices[0].finish_reason).toBe('stop');
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { prompt_tokens: expect.any(Number) } });
    const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('');
    expect(text).toBe(await chat('math', 'What is 8 times 3?'));
  });

  it('ends before a stop string, and at max_tokens', async () => {
    const whole = await chat('math', 'What is 8 times 3?');
    expect(await chat('math', 'What is 8 times 3?', { stop: [' answer'] })).toBe(
      whole.slice(0, whole.indexOf(' answer')),
    );
    const response = await post(PATH, {
      model: 'math',
      messages: user('What is 8 times 3?'),
      temperature: 0,
      max_tokens: 2,
    });
    expect(await response.json()).toMatchObject({
      choices: [{ finish_reason: 'length' }],
      usage: { completion_tokens: 2 },
    });
  });

  it('drawn with a seed is the same again', async () => {
    const draw = () => chat('base', 'Once upon a time', { temperature: 1, seed: 5 });
    expect(await draw()).toBe(await draw());
  });

  it('names the digests that made it', async () => {
    const response = await post(PATH, { model: 'math:1+chat:0.3', messages: user('hi'), max_tokens: 1 });
    const digests = response.headers.get('x-signpost-digest')?.split('+') ?? [];
    const { version } = await publish(openStore(store), mathFile);
    expect(digests).toHaveLength(2);
    expect(digests[0]).toBe(version.digest);
    expect(await chat(`math@${version.digest.slice(0, 12)}`, 'What is 8 times 3?')).toContain('24');
  });
});

describe('completions', () => {
  it('score a prompt: the same log-probabilities whole or in chunks, and those of what was generated', async () => {
    const prompt = Array.from({ length: 150 }, (_, i) => 300 + ((i * 37) % 500));
    const score = async (length: number) => {
      const response = await post('/v1/completions', {
        model: 'base',
        prompt: prompt.slice(0, length),
        max_tokens: 0,
        echo: true,
        logprobs: 1,
      });
      const body = (await response.json()) as {
        choices: { logprobs: { token_logprobs: (number | null)[]; top_logprobs: unknown[] } }[];
      };
      return body.choices[0]?.logprobs;
    };
    const [short, long] = [await score(40), await score(150)];
    expect(short?.token_logprobs).toHaveLength(40);
    expect(long?.token_logprobs).toHaveLength(150);
    expect(long?.token_logprobs[0]).toBeNull();
    short?.token_logprobs.slice(1).forEach((value, i) => {
      expect(value).toBeCloseTo(long?.token_logprobs[i + 1] ?? Number.NaN, 4);
    });
    expect(long?.top_logprobs.slice(1).every((entry) => Object.keys(entry as object).length === 1)).toBe(true);
  });

  it('echo the prompt and stream', async () => {
    const request = { model: 'base', prompt: 'Once upon a time', max_tokens: 8, temperature: 0, echo: true };
    const whole = (await (await post('/v1/completions', request)).json()) as { choices: { text: string }[] };
    expect(whole.choices[0]?.text.startsWith('Once upon a time')).toBe(true);
    const list = await events(await post('/v1/completions', { ...request, stream: true }));
    expect(
      list
        .slice(0, -1)
        .map((text) => JSON.parse(text).choices[0].text)
        .join(''),
    ).toBe(whole.choices[0]?.text);
  });
});

describe('a client that goes away', () => {
  const slow = { model: 'base', messages: user('Once upon a time'), max_tokens: 900, temperature: 1, seed: 3 };

  it.each([true, false])('frees its blocks (streamed: %s)', async (stream) => {
    const controller = new AbortController();
    const request = post(PATH, { ...slow, stream }, { signal: controller.signal });
    if (stream) await (await request).body?.getReader().read();
    else await expect.poll(async () => (await backend.heartbeat()).running).toBe(1);
    controller.abort();
    await request.catch(() => undefined);
    await expect.poll(async () => (await backend.heartbeat()).running, { timeout: 2_000 }).toBe(0);
    const { kvBlocks, kvBlocksFree } = await backend.heartbeat();
    expect(kvBlocksFree).toBe(kvBlocks);
  });
});

describe('health and models', () => {
  it('answer while a long prompt is computed', async () => {
    const work = chat('base', 'word '.repeat(700), { max_tokens: 100 });
    const ready = await fetch(`${backend.url}/health/ready`);
    expect([ready.status, (await fetch(`${backend.url}/health/live`)).status]).toEqual([200, 200]);
    await work;
  });

  it('list base and experts, with parent and root', async () => {
    const { data } = (await (await fetch(`${backend.url}/v1/models`)).json()) as {
      data: { id: string; root: string; parent: string | null }[];
    };
    expect(data.map(({ id }) => id)).toEqual(expect.arrayContaining(['base', 'chat', 'math', 'code']));
    expect(await (await fetch(`${backend.url}/v1/models/math`)).json()).toMatchObject({ id: 'math', parent: 'base' });
    expect((await fetch(`${backend.url}/v1/models/law`)).status).toBe(404);
  });
});

describe('bad input', () => {
  it.each([
    ['an unknown model', { model: 'law', messages: user('x') }, 404, 'model_not_found', /there is no expert "law"/],
    ['an unknown digest', { model: 'math@00000000', messages: user('x') }, 404, 'model_not_found', /00000000/],
    ['auto', { model: 'auto', messages: user('x') }, 400, 'model_not_found', /resolved at the edge/],
    ['a malformed name', { model: 'math::', messages: user('x') }, 400, 'invalid_request', /no model name/],
    ['malformed JSON', '{"model"', 400, 'invalid_json', /not JSON/],
    ['empty messages', { model: 'base', messages: [] }, 400, 'invalid_value', /messages/],
    [
      'a prompt beyond the context',
      { model: 'base', messages: user('word '.repeat(3000)) },
      400,
      'context_length_exceeded',
      /context is 1024/,
    ],
    [
      'too many tokens asked for',
      { model: 'base', messages: user('x'), max_tokens: 2000 },
      400,
      'context_length_exceeded',
      /2000 were asked for/,
    ],
    [
      'a mixture beyond the slots',
      { model: 'math:1+chat:1+code:1', messages: user('x') },
      400,
      'too_many_experts',
      /2 slots/,
    ],
  ])('%s is refused by name, and the server goes on serving', async (_, body, status, code, message) => {
    expect(await refusal(PATH, body)).toMatchObject({ status, code, message: expect.stringMatching(message) });
    expect(await chat('math', 'What is 17 plus 25?')).toContain('42');
  });

  it('unknown paths and methods', async () => {
    expect(await refusal('/v2', {})).toMatchObject({ status: 404, code: 'unknown_path' });
    expect((await fetch(`${backend.url}${PATH}`)).status).toBe(405);
  });

  it('a token that does not exist', async () => {
    expect(await refusal('/v1/completions', { model: 'base', prompt: [1, 999_999] })).toMatchObject({
      status: 400,
      message: expect.stringMatching(/prompt\[1\]: token 999999/),
    });
  });
});

describe('a damaged expert', () => {
  /** Publishes bytes under a name as if they were what the catalogue says, or not. */
  async function plant(name: string, data: Uint8Array, stored: Uint8Array): Promise<void> {
    const digest = await sha256(data);
    const key = `experts/${digest}.delta.safetensors`;
    await openStore(store).write(key, stored);
    const version = {
      digest,
      base: 'b'.repeat(64) as typeof digest,
      key,
      bytes: data.byteLength,
      method: 'sign',
      published: new Date().toISOString(),
    };
    await updateCatalogue(openStore(store), (catalogue) => ({
      ...catalogue,
      experts: { ...catalogue.experts, [name]: { versions: [version], channels: { stable: [{ digest, weight: 1 }] } } },
    }));
  }

  it.each([
    ['truncated', (file: Uint8Array) => [file, file.subarray(0, file.length - 7)], /the catalogue says/],
    ['altered', (file: Uint8Array) => [file, file.with(file.length - 9, (file.at(-9) ?? 0) ^ 1)], /altered/],
    [
      'for another base',
      (file: Uint8Array) => [rewritten(file, { base: 'f'.repeat(64) }), rewritten(file, { base: 'f'.repeat(64) })],
      /is a delta for base f{64}/,
    ],
    [
      'not a delta at all',
      () => [new Uint8Array(64), new Uint8Array(64)],
      /header is not JSON|no delta|not a Signpost delta/,
    ],
  ] as [string, (file: Uint8Array) => [Uint8Array, Uint8Array], RegExp][])(
    '%s is refused with its cause, and others go on',
    async (kind, damage, cause) => {
      const name = `damaged-${kind.replaceAll(' ', '-')}`;
      // An expert of its own: the others' digests may be resident.
      const file = rewritten(new Uint8Array(await readFile(mathFile)), { expert: name });
      const [data, stored] = damage(file);
      await plant(name, data, stored);
      // New names are seen within the catalogue's age.
      await expect
        .poll(async () => (await refusal(PATH, { model: name, messages: user('x') })).code, {
          timeout: 5_000,
          interval: 250,
        })
        .toBe('expert_unavailable');
      const error = await refusal(PATH, { model: name, messages: user('x') });
      expect(error).toMatchObject({ status: 503, type: 'server_error', message: expect.stringMatching(cause) });
      expect(await chat('math', 'What is 17 plus 25?')).toContain('42');
      expect((await backend.heartbeat()).slotsFree).toBe(2);
    },
  );

  it('that is mended is served by the next request', async () => {
    const file = new Uint8Array(await readFile(mathFile));
    const [digest, data] = [await sha256(file), file];
    await openStore(store).write(`experts/${digest}.delta.safetensors`, data);
    expect(await chat('math', 'What is 17 plus 25?')).toContain('42');
  });
});

/** The same tensors under other metadata. */
function rewritten(file: Uint8Array, changes: Record<string, string>): Uint8Array {
  const { metadata, tensors, headerBytes } = parseSafetensors(file, 'math');
  return new Uint8Array(
    Buffer.concat([encodeHeader(tensors, { ...metadata, ...changes }), file.subarray(headerBytes)]),
  );
}

describe('a server with a secret', () => {
  it('answers its edge, and nobody else', async () => {
    const options = { base: join(DEMO, 'base'), store, region: 'eu', port: 0, secret: SECRET, logLevel: 'silent' };
    const signed = await startBackend(options);
    try {
      const body = JSON.stringify({ model: 'base', messages: user('hi'), max_tokens: 1 });
      const send = (headers: Record<string, string>) =>
        fetch(`${signed.url}${PATH}`, { method: 'POST', body, headers }).then(({ status }) => status);
      const token = await signRequest(signingKey(SECRET), { region: 'eu', method: 'POST', path: PATH, body });
      expect([
        await send({}),
        await send({ authorization: `Bearer ${token}` }),
        await send({ authorization: `Bearer ${token}` }),
      ]).toEqual([401, 200, 401]);
      expect((await fetch(`${signed.url}/health/ready`)).status).toBe(200);
      expect((await fetch(`${signed.url}/v1/models`)).status).toBe(401);
    } finally {
      await signed.close();
    }
  });

  it('is demanded beyond this machine; a busy port and a missing base are named', async () => {
    const options = { base: join(DEMO, 'base'), store, region: 'eu', port: 0, logLevel: 'silent' };
    await expect(startBackend({ ...options, host: '0.0.0.0' })).rejects.toThrow(/SIGNPOST_REGION_SECRET/);
    await expect(startBackend({ ...options, port: Number(new URL(backend.url).port) })).rejects.toThrow(
      /can't listen on 127\.0\.0\.1:\d+ \(EADDRINUSE\)/,
    );
    await writeFile(join(dir, 'config.json'), '{}');
    await expect(startBackend({ ...options, base: dir })).rejects.toThrow(/tokenizer_config\.json|config\.json/);
  });
});

describe('draining', () => {
  it('refuses new requests and lets those in flight end', async () => {
    const draining = await startBackend({ base: join(DEMO, 'base'), store, region: 'eu', port: 0, logLevel: 'silent' });
    const send = (seed: number) =>
      fetch(`${draining.url}/v1/completions`, {
        method: 'POST',
        body: JSON.stringify({ model: 'base', prompt: 'Once upon a time', max_tokens: 900, temperature: 1, seed }),
      });
    const running = [1, 2, 3, 4].map(send);
    await expect.poll(async () => (await draining.heartbeat()).running, { interval: 5 }).toBeGreaterThan(0);
    const closed = draining.close(30_000);
    expect((await fetch(`${draining.url}/health/ready`)).status).toBe(503);
    expect((await send(5)).status).toBe(503);
    for (const response of running) expect((await response).status).toBe(200);
    await closed;
  });
});
