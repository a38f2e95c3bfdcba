/**
 * A region in AWS Lambda: the Worker in workerd, with AWS's own client, in front of InvokeWithResponseStream's wire protocol.
 */
import { randomBytes } from 'node:crypto';
import { InvokeWithResponseStreamCommand, LambdaClient } from '@aws-sdk/client-lambda';
import { SeenTokens, signingKey, verifyRequest } from '@signpost/contracts';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type EdgeHandle, startEdge } from './edge.ts';
import { AwsRefusal, answering, LambdaServer, prelude } from './lambda-server.ts';
import { answerWhole, DONE, event, startEvents, Upstream } from './upstream.ts';

const SECRET = randomBytes(32).toString('hex');
const ACCESS_KEY = 'AKIAEXAMPLE';
const SECRET_KEY = 'wJalrXUtnFEMI-of-a-test';

let aws: LambdaServer;
let container: Upstream;
let edge: EdgeHandle;
const log: string[] = [];

beforeAll(async () => {
  [aws, container] = await Promise.all([LambdaServer.start(), Upstream.start()]);
  edge = await startEdge({
    regions: [
      {
        name: 'lambda',
        kind: 'lambda',
        function: 'signpost',
        qualifier: 'live',
        awsRegion: 'eu-central-1',
        accessKeyIdSecret: 'AWS_KEY_ID',
        secretAccessKeySecret: 'AWS_SECRET',
        sessionTokenSecret: 'AWS_SESSION',
        endpoint: aws.url,
        coldStartMs: 7,
      },
      { name: 'container', url: container.url, role: 'overflow' },
    ],
    regionSecret: SECRET,
    // A stream's app is found gone when it is told something.
    variables: { KEEP_ALIVE_MS: '300', AWS_KEY_ID: ACCESS_KEY, AWS_SECRET: SECRET_KEY, AWS_SESSION: 'session-1' },
    onLog: ({ message }) => void log.push(message),
  });
});
afterAll(async () => {
  await edge?.close();
  await Promise.all([aws?.close(), container?.close()]);
});
beforeEach(async () => {
  aws.refusal = undefined;
  aws.handler = answering('lambda');
  container.respond = answerWhole('container');
  await expect
    .poll(async () => (await chat({})).headers.get('x-signpost-region'), { timeout: 40_000, interval: 50 })
    .toBe('lambda');
  aws.invocations.length = 0;
  container.requests.length = 0;
  log.length = 0;
});

function chat(more: Record<string, unknown>, init: RequestInit = {}): Promise<Response> {
  return fetch(`${edge.url}/v1/chat/completions`, {
    method: 'POST',
    body: JSON.stringify({ model: 'base', messages: [{ role: 'user', content: 'hi' }], ...more }),
    ...init,
  });
}

const last = () => aws.invocations.at(-1) ?? expect.unreachable('it was not invoked');

it('the server speaks the protocol: AWS’s client in Node reads from it what the function wrote', async () => {
  aws.handler = async (_, write) => {
    await write('one');
    await write(new Uint8Array([0, 255]));
    throw new Error('crashed');
  };
  const client = new LambdaClient({
    region: 'eu-central-1',
    endpoint: aws.url,
    credentials: { accessKeyId: ACCESS_KEY, secretAccessKey: SECRET_KEY },
    maxAttempts: 1,
  });
  const invoke = () =>
    client.send(
      new InvokeWithResponseStreamCommand({
        FunctionName: 'f',
        Payload: Buffer.from(
          JSON.stringify({ version: '2.0', rawPath: '/', requestContext: { http: { method: 'GET' } } }),
        ),
      }),
    );
  const read: unknown[] = [];
  for await (const { PayloadChunk: chunk, InvokeComplete: end } of (await invoke()).EventStream ?? [])
    read.push(chunk?.Payload === undefined ? [end?.ErrorCode, end?.ErrorDetails] : [...chunk.Payload]);
  expect(read).toEqual([[...Buffer.from('one')], [0, 255], ['Unhandled', 'Error: crashed']]);
  aws.refusal = new AwsRefusal(429, 'TooManyRequestsException', 'Rate Exceeded.');
  await expect(invoke()).rejects.toMatchObject({ name: 'TooManyRequestsException', message: 'Rate Exceeded.' });
  client.destroy();
});

describe('a request to a function', () => {
  it('is the signed request that a container gets, in an event signed by the credentials', async () => {
    const answer = await chat({ temperature: 0 }, { headers: { 'x-request-id': 'r-1' } });
    expect(await answer.json()).toEqual({ choices: [{ message: { role: 'assistant', content: 'lambda' } }] });
    const { path, headers, event: sent } = last();
    expect(path).toBe('/2021-11-15/functions/signpost/response-streaming-invocations?Qualifier=live');
    expect(headers.authorization).toMatch(
      /^AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE\/\d{8}\/eu-central-1\/lambda\/aws4_request, SignedHeaders=\S+, Signature=[0-9a-f]{64}$/,
    );
    expect(headers['x-amz-security-token']).toBe('session-1');
    expect(sent).toMatchObject({ rawPath: '/v1/chat/completions', requestContext: { http: { method: 'POST' } } });
    expect(sent.headers['x-request-id']).toBe('r-1');
    expect(JSON.parse(sent.body ?? '')).toMatchObject({ model: 'base', temperature: 0 });
    const signed = { region: 'lambda', method: 'POST', path: sent.rawPath, body: sent.body ?? '' };
    const caller = await verifyRequest(
      [signingKey(SECRET)],
      sent.headers.authorization ?? null,
      signed,
      new SeenTokens(),
    );
    expect(caller).toEqual({ tenant: undefined });
  });

  it('streams as the function writes', async () => {
    let goOn = () => {};
    const isRead = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    aws.handler = async (_, write) => {
      await write(prelude(200, 'text/event-stream'));
      await write(event('one'));
      await isRead;
      await write(`${event('two')}${DONE}`);
    };
    const answer = await chat({ stream: true });
    const reader = answer.body?.getReader() ?? expect.unreachable();
    const decoder = new TextDecoder();
    expect(decoder.decode((await reader.read()).value)).toBe(event('one'));
    goOn();
    let rest = '';
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) rest += decoder.decode(piece.value);
    expect(rest).toBe(`${event('two')}${DONE}`);
  });

  it('ends with its app', async () => {
    aws.handler = async ({ aborted }, write) => {
      await write(prelude(200, 'text/event-stream'));
      await write(event('one'));
      await aborted;
    };
    const app = new AbortController();
    const answer = await chat({ stream: true }, { signal: app.signal });
    const reader = answer.body?.getReader() ?? expect.unreachable();
    await reader.read();
    app.abort();
    await last().aborted;
  });
});

describe('what becomes of a function', () => {
  it('that AWS throttles: the next region answers; where there is none, the app hears when to come again', async () => {
    aws.refusal = new AwsRefusal(429, 'TooManyRequestsException', 'Rate Exceeded.');
    expect((await chat({})).headers.get('x-signpost-region')).toBe('container');
    container.respond = (response) => void response.destroy();
    const answer = await chat({});
    expect([answer.status, answer.headers.get('retry-after')]).toEqual([429, '1']);
    expect(await answer.json()).toMatchObject({
      error: { code: 'region_full', message: 'AWS Lambda: Rate Exceeded.' },
    });
  });

  it.each([
    ['may not be invoked', new AwsRefusal(403, 'AccessDeniedException', 'not authorized'), 'AccessDeniedException'],
    ['does not exist', new AwsRefusal(404, 'ResourceNotFoundException', 'Function not found'), 'ResourceNotFound'],
  ])('that %s: the next region answers, and the log says why', async (_, refusal, reason) => {
    aws.refusal = refusal;
    expect((await chat({})).headers.get('x-signpost-region')).toBe('container');
    expect(log.find((line) => line.includes('"region_failed"'))).toContain(reason);
    expect(log.join('\n')).not.toContain(SECRET_KEY);
  });

  it.each([
    ['fails before its answer', '', 'the function failed: Unhandled Error: out of memory'],
    ['fails in a whole answer', `${prelude(200, 'application/json')}{"choi`, 'the function failed'],
    ['answers without a prelude', '"hello"', 'without status and headers'],
  ])('that %s: the next region answers', async (_, begun, reason) => {
    aws.handler = async (_, write) => {
      if (begun !== '') await write(begun);
      throw new Error('out of memory');
    };
    expect((await chat({})).headers.get('x-signpost-region')).toBe('container');
    expect(log.find((line) => line.includes('"region_failed"'))).toContain(reason);
  });

  it('that fails in the midst of a stream: the next region goes on with it', async () => {
    const chunk = (token: number, more: object = {}) =>
      `data: ${JSON.stringify({ id: 'a', choices: [{ index: 0, delta: { content: `t${token}` }, finish_reason: null, token_ids: [token] }], usage: null, ...more })}\n\n`;
    aws.handler = async (_, write) => {
      await write(prelude(200, 'text/event-stream'));
      await write(chunk(1, { prompt_token_ids: [5, 6] }));
      throw new Error('out of memory');
    };
    container.respond = (response) => {
      const finish = JSON.stringify({
        id: 'a',
        choices: [{ index: 0, delta: {}, finish_reason: 'stop' }],
        usage: null,
      });
      startEvents(response).end(`${chunk(2)}data: ${finish}\n\n${DONE}`);
    };
    const text = await (await chat({ stream: true })).text();
    expect([...text.matchAll(/"content":"(t\d)"/g)].map(([, content]) => content)).toEqual(['t1', 't2']);
    expect(text.endsWith(DONE)).toBe(true);
    expect(JSON.parse(container.last.body)).toMatchObject({ resume_token_ids: [1] });
    // The log takes a way of its own.
    await expect.poll(() => log.find((line) => line.includes('"stream_resumed"'))).toContain('out of memory');
  });
});

it('the plan counts its start as long as it has not answered of late, and overflow comes after it', async () => {
  const body = JSON.stringify({ model: 'base', messages: [{ role: 'user', content: 'hi' }] });
  const answer = await fetch(`${edge.url}/v1/route`, { method: 'POST', body });
  const { plan } = (await answer.json()) as {
    plan: { region: string; kind: string; held_back: boolean; terms: { term: string; ms: number }[] }[];
  };
  expect(plan).toMatchObject([
    { region: 'lambda', kind: 'lambda', held_back: false },
    { region: 'container', kind: 'http', held_back: true },
  ]);
  expect(plan[0]?.terms.find(({ term }) => term === 'cold-start')).toMatchObject({ ms: 0 });
});
