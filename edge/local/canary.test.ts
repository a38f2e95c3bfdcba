/**
 * Versions that share a channel, through the Worker in workerd.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { catalogueObject, digestOf } from './catalogues.ts';
import { type EdgeHandle, startEdge } from './edge.ts';
import { answerStatus, answerWhole, DONE, event, type Respond, startEvents, Upstream } from './upstream.ts';

let region: Upstream;
let edge: EdgeHandle;
const log: string[] = [];

beforeAll(async () => {
  region = await Upstream.start();
  edge = await startEdge({
    regions: [{ name: 'eu', url: region.url }],
    artifacts: catalogueObject({ math: { a: 1, b: 1 }, chat: { c: 1 } }),
    routing: `
version: 1
rules:
  - { name: by-user, when: { model: math }, then: { model: math, stickyBy: header x-user } }
  - { name: rest, then: { model: requested } }
`,
    onLog: ({ message }) => log.push(message),
  });
});
afterAll(async () => {
  await edge?.close();
  await region?.close();
});
beforeEach(() => {
  region.requests.length = 0;
  region.respond = answerWhole('hello');
  log.length = 0;
});

function post(path: string, user: string, model = 'math', more: Record<string, unknown> = {}): Promise<Response> {
  return fetch(`${edge.url}${path}`, {
    method: 'POST',
    headers: { 'x-user': user },
    body: JSON.stringify({ model, messages: [{ role: 'user', content: 'hi' }], ...more }),
  });
}

const asked = () => (JSON.parse(region.last.body) as { model: string }).model;

/** Knows its channels, but not the versions that it is asked for. */
const knowsNoVersion: Respond = (response, request) => {
  const { model, stream } = JSON.parse(request.body) as { model: string; stream?: boolean };
  if (model.includes('@')) {
    const error = { message: 'no version', type: 'not_found_error', param: 'model', code: 'model_not_found' };
    return answerStatus(404, JSON.stringify({ error }))(response, request);
  }
  if (stream !== true) return answerWhole(`by ${model}`)(response, request);
  startEvents(response).end(event(`by ${model}`) + DONE);
};

describe('a canary', () => {
  it('is decided at the edge, the same for the same user, told in headers and by /v1/route', async () => {
    const versions = new Map<string, string>();
    for (const user of Array.from({ length: 12 }, (_, i) => `user-${i}`)) {
      const answer = await post('/v1/chat/completions', user);
      expect(answer.headers.get('x-signpost-expert')).toBe('math');
      const model = asked();
      versions.set(user, model);
      const digest = model.slice('math@'.length);
      expect([digestOf('a'), digestOf('b')]).toContain(digest);
      expect(answer.headers.get('x-signpost-version')).toBe(`math@stable=${digest};share=0.5;by=header x-user`);
      await answer.body?.cancel();
    }
    expect(new Set(versions.values()).size).toBe(2);
    for (const [user, model] of versions) {
      await (await post('/v1/chat/completions', user)).text();
      expect(asked()).toBe(model);
      expect(await (await post('/v1/route', user)).json()).toMatchObject({
        model: 'math',
        versions: [{ expert: 'math', selector: 'stable', digest: model.slice(5), share: 0.5, by: 'header x-user' }],
      });
    }
  });

  it('is none where a channel has one version: the name goes on', async () => {
    const answer = await post('/v1/chat/completions', 'anna', 'chat');
    expect(asked()).toBe('chat');
    expect(answer.headers.get('x-signpost-version')).toBe(`chat@stable=${digestOf('c')};share=1;by=only`);
    await answer.body?.cancel();
  });

  it('goes on by name in a region that does not know the version yet', async () => {
    region.respond = knowsNoVersion;
    const whole = await post('/v1/chat/completions', 'anna');
    expect([whole.status, await whole.json()]).toMatchObject([200, { choices: [{ message: { content: 'by math' } }] }]);
    const stream = await post('/v1/chat/completions', 'anna', 'math', { stream: true });
    expect(await stream.text()).toContain('by math');
    expect(region.requests).toHaveLength(4);
    expect(log.filter((line) => line.includes('version_unknown'))).toHaveLength(2);
  });

  it('leaves a version that the app itself named to the region', async () => {
    region.respond = knowsNoVersion;
    const answer = await post('/v1/chat/completions', 'anna', `math@${digestOf('a')}`);
    expect([answer.status, await answer.json()]).toMatchObject([404, { error: { code: 'model_not_found' } }]);
    expect(region.requests).toHaveLength(1);
  });
});
