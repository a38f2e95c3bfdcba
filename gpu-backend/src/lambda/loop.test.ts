/**
 * A function's life between the Runtime API and a region, with a region that does as it is told.
 */
import { PreludeReader } from '@signpost/contracts';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Backend } from '../backend.ts';
import { runLambda } from './loop.ts';
import { RuntimeApi } from './runtime-api.ts';
import { type Invoked, RuntimeApiServer } from './runtime-api-server.ts';

const encoder = new TextEncoder();

let api: RuntimeApiServer;
beforeEach(async () => {
  api = await RuntimeApiServer.start();
});
afterEach(async () => {
  expect(api.violations).toEqual([]);
  await api.close();
});

/** What a function's caller gets. @throws what the function failed with. */
async function read({ chunks }: Invoked) {
  const reader = new PreludeReader();
  let begun: ReturnType<PreludeReader['push']>;
  const body: Uint8Array[] = [];
  for await (const chunk of chunks) {
    if (begun !== undefined) body.push(chunk);
    else {
      begun = reader.push(chunk);
      if (begun !== undefined) body.push(begun.rest);
    }
  }
  return { ...begun?.prelude, body: Buffer.concat(body).toString() };
}

const event = (more: object = {}) => ({
  version: '2.0',
  rawPath: '/v1/models',
  headers: {},
  requestContext: { http: { method: 'GET' } },
  ...more,
});

interface Region {
  readonly fetch: Backend['fetch'];
  readonly rest?: () => Promise<void>;
  readonly isAlive?: boolean;
}

/** Runs a function until its API is gone. */
function run(
  region: Region,
  {
    start = async () => undefined,
    ...options
  }: { start?: () => Promise<void>; startLimitMs?: number; concurrency?: number } = {},
) {
  const seen = { starts: 0, looks: 0 };
  const ended = runLambda({
    api: new RuntimeApi(api.address),
    async open() {
      seen.starts++;
      await start();
      return {
        rest: async () => undefined,
        look: () => {
          seen.looks++;
        },
        facts: { base: 'b', weightBytes: 1 },
        isAlive: true,
        ...region,
      } as unknown as Backend;
    },
    startLimitMs: undefined,
    concurrency: 1,
    log: pino({ level: 'silent' }),
    ...options,
  });
  // It fails when the API goes, if not before.
  ended.catch(() => undefined);
  return { seen, ended };
}

/** A body that is made when it is asked for. */
function bodyOf(next: (pulled: number) => Uint8Array | undefined | Promise<Uint8Array | undefined>) {
  let pulled = 0;
  let leave = () => {};
  const cancelled = new Promise<void>((resolve) => {
    leave = resolve;
  });
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const chunk = await next(pulled++);
        if (chunk === undefined) controller.close();
        else controller.enqueue(chunk);
      },
      cancel: () => leave(),
    },
    { highWaterMark: 0 },
  );
  return { body, cancelled, pulled: () => pulled };
}

/** One piece, then nothing more, for ever. */
const stalling = () => bodyOf((pulled) => (pulled === 0 ? encoder.encode('one') : new Promise(() => undefined)));

describe('an invocation', () => {
  it('is the request inside of its event, and the answer has status, headers and body', async () => {
    const asked: unknown[] = [];
    const { seen } = run({
      async fetch(request, arrivedAt) {
        const { method, url, headers } = request;
        asked.push([method, url, headers.get('x-request-id'), await request.text()]);
        expect(Math.abs(arrivedAt - Date.now())).toBeLessThan(60_000);
        return new Response('täglich', { status: 201, headers: { 'x-signpost-digest': 'd' } });
      },
    });
    const text = JSON.stringify({ model: 'ü' });
    const post = { requestContext: { http: { method: 'POST' } }, rawPath: '/v1/a', rawQueryString: 'b=c' };
    const headers = { 'x-request-id': 'r-1', host: 'abc.lambda-url', 'x-forwarded-for': '1.2.3.4' };
    const plain = await read(api.invoke(event({ ...post, headers, body: text })));
    const body = Buffer.from(text).toString('base64');
    await read(api.invoke(event({ ...post, headers, body, isBase64Encoded: true })));
    await read(api.invoke(event()));
    expect(plain).toEqual({
      statusCode: 201,
      headers: { 'content-type': 'text/plain;charset=UTF-8', 'x-signpost-digest': 'd' },
      body: 'täglich',
    });
    const as = ['POST', 'http://lambda/v1/a?b=c', 'r-1', text];
    expect(asked).toEqual([as, as, ['GET', 'http://lambda/v1/models', null, '']]);
    expect(seen).toEqual({ starts: 1, looks: 3 });
  });

  it('has its answer made no faster than it is taken, and gets every byte', async () => {
    const [chunks, bytes] = [2_000, 65_536];
    const made = bodyOf((pulled) => (pulled === chunks ? undefined : new Uint8Array(bytes).fill(pulled % 251)));
    run({ fetch: () => new Response(made.body) });
    const { chunks: taken } = api.invoke(event());
    const reader = new PreludeReader();
    let begun: ReturnType<PreludeReader['push']>;
    while (begun === undefined) begun = reader.push((await taken.next()).value ?? expect.unreachable());
    let before = -1;
    // Until what lies between the two is full.
    await expect
      .poll(
        () => {
          const isStill = before === made.pulled();
          before = made.pulled();
          return isStill && before > 0;
        },
        { interval: 200 },
      )
      .toBe(true);
    expect(made.pulled()).toBeLessThan(chunks / 2);
    let read = begun.rest.byteLength;
    for await (const chunk of taken) {
      expect(chunk[0]).toBe(Math.floor(read / bytes) % 251);
      read += chunk.byteLength;
    }
    expect(read).toBe(chunks * bytes);
  });

  it('ends with its caller, and the next one is answered', async () => {
    const made = stalling();
    const signals: AbortSignal[] = [];
    run({
      fetch({ url, signal }) {
        signals.push(signal);
        return new Response(url.endsWith('/next') ? 'next' : made.body);
      },
    });
    const left = api.invoke(event());
    await left.chunks.next();
    left.leave();
    await made.cancelled;
    expect(signals.map(({ aborted }) => aborted)).toEqual([true]);
    expect(await read(api.invoke(event({ rawPath: '/next' })))).toMatchObject({ statusCode: 200, body: 'next' });
  });

  it.each([
    ['no JSON', '{'],
    ['of another kind', { Records: [] }],
    ['with a method that there isn’t', event({ requestContext: { http: { method: 'A B' } } })],
    ['with a body where there may be none', event({ body: 'x' })],
  ])('%s is refused in OpenAI’s envelope', async (_, wrong) => {
    run({ fetch: () => expect.unreachable() });
    const { statusCode, body } = await read(api.invoke(wrong));
    expect([statusCode, JSON.parse(body)]).toMatchObject([400, { error: { code: 'invalid_event' } }]);
  });

  it('that breaks before its answer says so in OpenAI’s envelope, in the midst of it by a function error', async () => {
    run({
      fetch({ url }) {
        if (url.endsWith('/at-once')) throw new Error('a secret');
        const broken = bodyOf((pulled) => {
          if (pulled === 1) throw new Error('broken');
          return encoder.encode('one');
        });
        return new Response(broken.body);
      },
    });
    const { statusCode, body } = await read(api.invoke(event({ rawPath: '/at-once' })));
    expect([statusCode, JSON.parse(body)]).toMatchObject([500, { error: { code: 'internal_error' } }]);
    expect(body).not.toContain('secret');
    await expect(read(api.invoke(event()))).rejects.toThrow('Signpost.Error: broken');
  });

  it('whose time is up says so before AWS ends it: the region failed, not the request', async () => {
    const made = stalling();
    const isUp = (signal: AbortSignal) =>
      new Promise<Response>((resolve) =>
        signal.addEventListener('abort', () => resolve(new Response('', { status: 499 }))),
      );
    run({ fetch: ({ url, signal }) => (url.endsWith('/whole') ? isUp(signal) : new Response(made.body)) });
    const whole = await read(api.invoke(event({ rawPath: '/whole' }), 1_050));
    expect(whole.statusCode).toBe(503);
    expect(JSON.parse(whole.body)).toMatchObject({ error: { type: 'server_error', code: 'function_timeout' } });
    await expect(read(api.invoke(event(), 1_050))).rejects.toThrow('Signpost.ApiError: the time that AWS gives');
    await made.cancelled;
  });
});

describe('a function', () => {
  it('asks for nothing before it has started', async () => {
    let goOn = () => {};
    const isOn = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    const { seen } = run({ fetch: () => new Response('ok') }, { start: () => isOn });
    await expect.poll(() => seen.starts).toBe(1);
    const invoked = read(api.invoke(event()));
    expect(api.asked).toBe(0);
    goOn();
    expect((await invoked).body).toBe('ok');
  });

  it('asks, where a start takes longer than AWS allows, and lets invocations wait for it', async () => {
    let goOn = () => {};
    const isOn = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    const { seen } = run({ fetch: () => new Response('ok') }, { start: () => isOn, startLimitMs: 1 });
    const { statusCode, body } = await read(api.invoke(event(), 1_050));
    expect([statusCode, JSON.parse(body)]).toMatchObject([503, { error: { code: 'function_timeout' } }]);
    const invoked = read(api.invoke(event()));
    await expect.poll(() => api.asked).toBe(2);
    goOn();
    expect((await invoked).body).toBe('ok');
    expect(seen.starts).toBe(1);
  });

  it('that can’t be started says so, and ends', async () => {
    const start = async () => {
      throw new Error('no base');
    };
    const { ended } = run({ fetch: () => expect.unreachable() }, { start, startLimitMs: 60_000 });
    await expect(ended).rejects.toThrow('no base');
    expect(api.startErrors).toMatchObject([{ errorType: 'Signpost.Error', errorMessage: 'no base' }]);
    expect(api.asked).toBe(0);
  });

  it('that fails to start later than AWS allows tells its invocation, and ends', async () => {
    let fail = () => {};
    const start = () =>
      new Promise<void>((_, reject) => {
        fail = () => reject(new Error('no base'));
      });
    const { ended } = run({ fetch: () => expect.unreachable() }, { start, startLimitMs: 1 });
    await expect.poll(() => api.idle).toBe(1);
    const invoked = read(api.invoke(event()));
    fail();
    const { statusCode, body } = await invoked;
    expect([statusCode, JSON.parse(body)]).toMatchObject([503, { error: { code: 'start_failed' } }]);
    await expect(ended).rejects.toThrow('no base');
  });

  it('comes to rest before it asks for more: from then on it may be frozen', async () => {
    let goOn: (() => void) | undefined;
    const rest = () =>
      new Promise<void>((resolve) => {
        goOn = resolve;
      });
    run({ fetch: () => new Response('ok'), rest });
    await read(api.invoke(event()));
    const next = read(api.invoke(event()));
    await expect.poll(() => goOn).toBeDefined();
    expect(api.asked).toBe(1);
    goOn?.();
    expect((await next).body).toBe('ok');
    expect(api.asked).toBe(2);
  });

  it('ends where its engine is gone: a new process brings it back', async () => {
    const { ended } = run({ fetch: () => new Response('gone', { status: 503 }), isAlive: false });
    expect((await read(api.invoke(event()))).statusCode).toBe(503);
    await expect(ended).rejects.toThrow('the engine thread is gone');
  });

  it('takes as many invocations at a time as it may', async () => {
    const answers: (() => void)[] = [];
    const fetch = () => new Promise<Response>((resolve) => void answers.push(() => resolve(new Response('ok'))));
    run({ fetch }, { concurrency: 3 });
    const all = [1, 2, 3, 4].map(() => read(api.invoke(event())));
    await expect.poll(() => answers.length).toBe(3);
    for (let i = 0; i < 4; i++) {
      await expect.poll(() => answers.length).toBeGreaterThan(i);
      answers[i]?.();
    }
    expect((await Promise.all(all)).map(({ body }) => body)).toEqual(['ok', 'ok', 'ok', 'ok']);
  });
});
