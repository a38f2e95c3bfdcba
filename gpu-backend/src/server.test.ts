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
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
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
    // The likeliest one, and the token itself where it is another.
    for (const [i, entry] of long?.top_logprobs.slice(1).entries() ?? []) {
      const values = Object.values(entry as Record<string, number>);
      expect(values.length).toBeLessThanOrEqual(2);
      expect(values).toContain(long?.token_logprobs[i + 1]);
    }
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
  const slow = {
    model: 'base',
    messages: user('Once upon a time'),
    max_tokens: 900,
    temperature: 1,
    seed: 3,
    ignore_eos: true,
  };

  it.each([true, false])('frees its blocks (streamed: %s)', async (stream) => {
    const controller = new AbortController();
    const request = post(PATH, { ...slow, stream }, { signal: controller.signal });
    if (stream) await (await request).body?.getReader().read();
    else await expect.poll(async () => (await backend.heartbeat()).running, { interval: 2 }).toBe(1);
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
    const math = data.find(({ id }) => id === 'math');
    for (const id of ['math@stable', `math@${math?.root.slice(0, 8)}`])
      expect(await (await fetch(`${backend.url}/v1/models/${id}`)).json()).toMatchObject({ id, root: math?.root });
    for (const id of ['law', 'math@00000000', 'math:1+chat:1', 'auto'])
      expect((await fetch(`${backend.url}/v1/models/${id}`)).status, id).toBe(404);
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
  /** What the catalogue says a file is, and what lies in the store. */
  interface Damage {
    readonly said: Uint8Array;
    readonly stored: Uint8Array | undefined;
  }
  const DAMAGES: Record<string, { readonly make: (file: Uint8Array) => Damage; readonly cause: RegExp }> = {
    missing: { make: (said) => ({ said, stored: undefined }), cause: /has no object experts/ },
    truncated: { make: (said) => ({ said, stored: said.subarray(0, -7) }), cause: /truncated or replaced/ },
    altered: {
      make: (said) => ({ said, stored: said.with(said.length - 9, (said.at(-9) ?? 0) ^ 1) }),
      cause: /altered/,
    },
    'for-another-base': {
      make: (file) => whole(rewritten(file, { base: 'f'.repeat(64) })),
      cause: /is a delta for base f{64}/,
    },
    'of-other-shapes': {
      make: (file) => whole(rewritten(file, {}, (shape) => (shape.length === 1 ? [...shape, 1] : shape))),
      cause: /row_scale\.0 is \[\d+,1\], the base needs \[\d+\]/,
    },
    'no-delta': { make: () => whole(new Uint8Array(64)), cause: /header is not JSON/ },
  };
  const whole = (file: Uint8Array): Damage => ({ said: file, stored: file });

  beforeAll(async () => {
    const math = new Uint8Array(await readFile(mathFile));
    for (const [name, { make }] of Object.entries(DAMAGES)) {
      // An expert of its own: the others' digests may be resident.
      const { said, stored } = make(rewritten(math, { expert: name }));
      const digest = await sha256(said);
      const key = `experts/${digest}.delta.safetensors`;
      if (stored !== undefined) await openStore(store).write(key, stored);
      const base = 'b'.repeat(64) as typeof digest;
      const published = new Date().toISOString();
      const version = { digest, base, key, bytes: said.byteLength, method: 'sign', published };
      const expert = { versions: [version], channels: { stable: [{ digest, weight: 1 }] } };
      await updateCatalogue(openStore(store), (catalogue) => ({
        ...catalogue,
        experts: { ...catalogue.experts, [name]: expert },
      }));
    }
    // New names are seen within the catalogue's age.
    const known = async () => (await refusal(PATH, { model: 'no-delta', messages: user('x') })).code;
    await vi.waitUntil(async () => (await known()) === 'expert_unavailable', { timeout: 5_000, interval: 100 });
  });

  it.each(Object.keys(DAMAGES))('(%s) is refused with its cause, and others go on', async (name) => {
    const asked = [
      refusal(PATH, { model: name, messages: user('x') }),
      refusal(PATH, { model: `math:1+${name}:0.5`, messages: user('x') }),
    ];
    const others = ['math', 'code'].map((model) => chat(model, 'What is 17 plus 25?'));
    for (const error of await Promise.all(asked)) {
      expect(error).toMatchObject({ status: 503, type: 'server_error', code: 'expert_unavailable' });
      expect(error.message).toMatch(/^expert [0-9a-f]{64} can't be loaded/);
      expect(error.message).toMatch(DAMAGES[name]?.cause ?? /^$/);
    }
    expect((await Promise.all(others))[0]).toContain('42');
    expect((await backend.heartbeat()).slotsFree).toBe(2);
  });

  it('(mended) is served by the next request', async () => {
    const { make } = DAMAGES.truncated ?? { make: whole };
    const { said } = make(rewritten(new Uint8Array(await readFile(mathFile)), { expert: 'truncated' }));
    await openStore(store).write(`experts/${await sha256(said)}.delta.safetensors`, said);
    expect(await chat('truncated', 'What is 17 plus 25?')).toContain('42');
  });
});

/** The same tensors under other metadata, and in other shapes. */
function rewritten(
  file: Uint8Array,
  changes: Record<string, string>,
  shapeOf: (shape: readonly number[]) => readonly number[] = (shape) => shape,
): Uint8Array {
  const { metadata, tensors, headerBytes } = parseSafetensors(file, 'math');
  const specs = tensors.map((tensor) => ({ ...tensor, shape: shapeOf(tensor.shape) }));
  return new Uint8Array(Buffer.concat([encodeHeader(specs, { ...metadata, ...changes }), file.subarray(headerBytes)]));
}

describe('a server with a secret', () => {
  it('answers its edge, and nobody else', async () => {
    // Two, while it is being changed.
    const secret = `${'n'.repeat(32)} ${SECRET}`;
    const options = { base: join(DEMO, 'base'), store, region: 'eu', port: 0, secret, logLevel: 'silent' };
    const signed = await startBackend(options);
    try {
      const body = JSON.stringify({ model: 'base', messages: user('hi'), max_tokens: 1 });
      const send = (headers: Record<string, string>) =>
        fetch(`${signed.url}${PATH}`, { method: 'POST', body, headers }).then(({ status }) => status);
      const token = await signRequest(
        signingKey(SECRET),
        { region: 'eu', method: 'POST', path: PATH, body },
        { tenant: undefined },
      );
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
    await expect(startBackend({ ...options, base: dir })).rejects.toThrow(/tokenizer(_config)?\.json/);
  });
});

describe('draining', () => {
  it('refuses new requests and lets those in flight end', async () => {
    const draining = await startBackend({ base: join(DEMO, 'base'), store, region: 'eu', port: 0, logLevel: 'silent' });
    const send = (seed: number) =>
      fetch(`${draining.url}/v1/completions`, {
        method: 'POST',
        body: JSON.stringify({
          model: 'base',
          prompt: 'Once upon a time',
          max_tokens: 900,
          temperature: 1,
          seed,
          ignore_eos: true,
        }),
      });
    const running = [1, 2, 3, 4].map(send);
    // All of them, or one that comes too late is refused as the new one is.
    const inFlight = async () => {
      const { running: now, waiting } = await draining.heartbeat();
      return now + waiting;
    };
    await expect.poll(inFlight, { interval: 5 }).toBe(running.length);
    const closed = draining.close(30_000);
    expect((await fetch(`${draining.url}/health/ready`)).status).toBe(503);
    expect((await send(5)).status).toBe(503);
    for (const response of running) expect((await response).status).toBe(200);
    await closed;
  });
});
