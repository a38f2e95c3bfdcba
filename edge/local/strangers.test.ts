/**
 * Regions that are somebody else's server: what they are sent, and what becomes of what they say.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type EdgeHandle, startEdge } from './edge.ts';
import { heartbeatOf, tellEdge } from './heartbeats.ts';
import { answerStatus, answerWhole, DONE, type Respond, startEvents, Upstream } from './upstream.ts';

const KEY = 'sk-of-the-team';
const HERE = { latitude: 50.1, longitude: 8.7 };
const MODELS = { base: 'meta/llama', math: 'team-math' };

let team: Upstream;
let ours: Upstream;
let edge: EdgeHandle;
const log: string[] = [];
/** What the stranger's metrics say. */
let waiting = 0;

const metered =
  (respond: Respond): Respond =>
  (response, request) =>
    request.path === '/metrics'
      ? void response.end(
          `vllm:num_requests_waiting{engine="0"} ${waiting}\nvllm:num_requests_running{engine="0"} 2.0\n`,
        )
      : respond(response, request);

beforeAll(async () => {
  [team, ours] = await Promise.all([Upstream.start(), Upstream.start()]);
  edge = await startEdge({
    regions: [
      { name: 'team', kind: 'openai', url: `${team.url}/v1/`, models: MODELS, keySecret: 'TEAM_KEY', ...HERE },
      { name: 'ours', url: ours.url, latitude: -33.9, longitude: 151.2 },
    ],
    place: { latitude: '50.1', longitude: '8.7' },
    variables: { TEAM_KEY: KEY, IDLE_TIMEOUT_MS: '1000' },
    onLog: ({ message }) => void log.push(message),
  });
});
afterAll(async () => {
  await edge?.close();
  await Promise.all([team?.close(), ours?.close()]);
});
beforeEach(async () => {
  waiting = 0;
  team.respond = metered(answerWhole('team'));
  ours.respond = answerWhole('ours');
  // What has failed often is left alone for a while; and so is what has many waiting.
  await expect
    .poll(async () => (await chat({})).headers.get('x-signpost-region'), { timeout: 40_000, interval: 50 })
    .toBe('team');
  for (const region of [team, ours]) region.requests.length = 0;
  log.length = 0;
});

function chat(more: Record<string, unknown>, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${edge.url}/v1/chat/completions`, {
    method: 'POST',
    headers,
    body: JSON.stringify({ model: 'math', messages: [{ role: 'user', content: 'hi' }], ...more }),
  });
}

/** The last request that isn't for metrics. */
const asked = () => team.requests.findLast(({ path }) => path !== '/metrics') ?? expect.unreachable('it was not asked');

describe('a request to a stranger', () => {
  it('has its own name for the model, its own key, and nothing that is ours alone', async () => {
    const answer = await chat(
      { temperature: 0.5, return_token_ids: true },
      { 'x-signpost-timeout-ms': '5000', 'x-request-id': 'r-1', authorization: 'Bearer of-the-app' },
    );
    expect(await answer.json()).toMatchObject({ model: 'math', choices: [{ message: { content: 'team' } }] });
    const { headers, body, path } = asked();
    expect(path).toBe('/v1/chat/completions');
    expect(headers.authorization).toBe(`Bearer ${KEY}`);
    expect(headers['x-request-id']).toBe('r-1');
    expect(Object.keys(headers).filter((name) => name.startsWith('x-signpost'))).toEqual([]);
    expect(JSON.parse(body)).toEqual({
      model: 'team-math',
      messages: [{ role: 'user', content: 'hi' }],
      temperature: 0.5,
    });
  });

  it('for a stream asks for usage, but for no token ids, and is told under our name without what the app did not ask for', async () => {
    team.respond = metered((response) => {
      const chunk = { id: 'x', model: 'team-math', choices: [{ index: 0, delta: { content: 'a' } }] };
      const usage = { id: 'x', model: 'team-math', choices: [], usage: { prompt_tokens: 3, completion_tokens: 1 } };
      // Spelled as Python does.
      const spaced = (value: unknown) => JSON.stringify(value).replaceAll('":', '": ').replaceAll(',"', ', "');
      startEvents(response).end(`data: ${spaced(chunk)}\n\ndata: ${spaced(usage)}\n\n${DONE}`);
    });
    const answer = await chat({ stream: true });
    expect(await answer.text()).toBe(
      `data: {"id":"x","model":"math","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n${DONE}`,
    );
    const sent = JSON.parse(asked().body) as Record<string, unknown>;
    expect(sent.stream_options).toEqual({ include_usage: true });
    expect(Object.keys(sent).sort()).toEqual(['messages', 'model', 'stream', 'stream_options']);
  });

  it('for a model that it has no name for, or for token ids, goes to a region of ours', async () => {
    expect((await chat({ model: 'code' })).headers.get('x-signpost-region')).toBe('ours');
    const tokens = await fetch(`${edge.url}/tokenize`, { method: 'POST', body: '{"model":"math","prompt":"hi"}' });
    expect(tokens.headers.get('x-signpost-region')).toBe('ours');
  });
});

describe('what a stranger says', () => {
  it.each([
    [401, '{"error":{"message":"bad key"}}', "doesn't take the edge's key (401: bad key)"],
    [404, '{"object":"error","message":"no such model"}', "doesn't know the path, or the model"],
    [302, '', 'answered 302'],
    [200, 'not JSON', 'JSON'],
  ])(
    'that only the operator can mend (%i %s) is no answer: the next region gives one',
    async (status, body, reason) => {
      team.respond = metered(answerStatus(status, body));
      expect((await chat({})).headers.get('x-signpost-region')).toBe('ours');
      const failed = log.find((line) => line.includes('"region_failed"'));
      expect(failed).toContain(reason);
      expect(log.join('\n')).not.toContain(KEY);
    },
  );

  it('against the request reaches the app in the envelope that all errors have', async () => {
    team.respond = metered(answerStatus(400, '{"detail":"messages are too long"}'));
    const answer = await chat({});
    expect([answer.status, await answer.json()]).toEqual([
      400,
      {
        error: {
          message: 'messages are too long',
          type: 'invalid_request_error',
          param: null,
          code: 'upstream_400',
        },
      },
    ]);
    expect(answer.headers.get('x-signpost-region')).toBe('team');
  });

  it('that it is full sends the request on', async () => {
    team.respond = metered(answerStatus(429, '{"error":{"message":"slow down"}}'));
    expect((await chat({})).headers.get('x-signpost-region')).toBe('ours');
  });

  it('and doesn’t end, in a stream, ends in an error event: nobody goes on with it', async () => {
    team.respond = metered((response) => {
      startEvents(response).write('data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n', () =>
        response.destroy(),
      );
    });
    const text = await (await chat({ stream: true })).text().catch(String);
    expect(text).toContain('"content":"a"');
    expect(text).toContain('"code":"upstream_broken"');
    expect(text).not.toContain('[DONE]');
    expect(ours.requests).toHaveLength(0);
  });

  it('of its queue moves the plan', async () => {
    interface Plan {
      readonly plan: { readonly region: string; readonly kind: string; readonly terms: { readonly why: string }[] }[];
    }
    const plan = async () => {
      const body = JSON.stringify({ model: 'math', messages: [{ role: 'user', content: 'hi' }] });
      return ((await (await fetch(`${edge.url}/v1/route`, { method: 'POST', body })).json()) as Plan).plan;
    };
    expect((await plan())[0]).toMatchObject({ region: 'team', kind: 'openai' });
    waiting = 7;
    const whys = async () => (await plan()).find(({ region }) => region === 'team')?.terms.map(({ why }) => why);
    await expect
      .poll(whys, { timeout: 10_000, interval: 50 })
      .toContain('7 requests wait, 2 run (its metrics); 250 ms for each that waits');
    const { headers } = team.requests.findLast(({ path }) => path === '/metrics') ?? expect.unreachable();
    expect(headers.authorization).toBe(`Bearer ${KEY}`);
    // The other one is far, but idle.
    await tellEdge(edge.url, heartbeatOf('ours'));
    await expect.poll(async () => (await plan())[0]?.region, { timeout: 10_000, interval: 50 }).toBe('ours');
  });
});

it('/v1/models lists strangers’ models behind those of our nearest region', async () => {
  ours.respond = answerStatus(200, JSON.stringify({ object: 'list', data: [{ id: 'base' }, { id: 'code' }] }));
  const list = (await (await fetch(`${edge.url}/v1/models`)).json()) as { data: { id: string; owned_by: string }[] };
  expect(list.data.map(({ id }) => id)).toEqual(['auto', 'base', 'code', 'math']);
  expect(list.data.at(-1)).toMatchObject({ owned_by: 'team', root: 'team-math' });
});

it.each([
  [{ keySecret: 'NOT_SET' }, /NOT_SET, which is not set/],
  [{ keySecret: 'REGION_SECRET' }, /a secret of Signpost's own/],
  [{ keySecret: 'TEAM_KEY', url: 'http://llm.example' }, /would send the secret TEAM_KEY to .* unencrypted/],
  [{ wake: { url: 'https://hooks.example', secret: 'NOT_SET' } }, /NOT_SET, which is not set/],
  [
    { keySecret: 'TEAM_KEY', wake: { url: 'http://hooks.example', secret: 'TEAM_KEY' } },
    /would send the secret TEAM_KEY to http:\/\/hooks\.example unencrypted/,
  ],
  [{ models: {} }, /at least one model/],
])('a stranger that is set up wrongly is refused, saying how: %j', async (more, message) => {
  const { readSettings } = await import('../src/settings/settings.ts');
  const region = { name: 'team', kind: 'openai', url: 'https://llm.example', models: MODELS, ...more };
  const variables = { REGIONS: JSON.stringify([region]), ALLOW_ANONYMOUS: 'true', TEAM_KEY: KEY };
  expect(() => readSettings(variables)).toThrow(message);
});
