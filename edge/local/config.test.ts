/**
 * Routing rules changed on a running edge, in real workerd: versions, conditional writes, and what would change.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ConfigChange, ConfigView, VersionView } from '../src/admin/config-routes.ts';
import { type EdgeHandle, startEdge } from './edge.ts';
import { answerWhole, Upstream } from './upstream.ts';

const ADMIN_KEY = 'an-administrators-key';
const API_KEY = 'sk-static';

let region: Upstream;
let edge: EdgeHandle;
beforeAll(async () => {
  region = await Upstream.start();
  region.respond = answerWhole('hello');
  edge = await start();
});
afterAll(async () => {
  await edge?.close();
  await region?.close();
});

const start = (more: { routing?: string } = {}) =>
  startEdge({
    regions: [{ name: 'near', url: region.url }],
    keys: { [API_KEY]: 'acme' },
    adminKeys: { [ADMIN_KEY]: 'ada' },
    place: { continent: 'EU', country: 'DE', colo: 'FRA' },
    onLog: () => {},
    ...more,
  });

const rulesTo = (model: string, ...before: string[]) =>
  `version: 1\nrules:\n${[...before, `{ name: rest, then: { model: ${model} } }`].map((rule) => `  - ${rule}\n`).join('')}`;

async function admin(method: string, at: string, init: RequestInit = {}, base = edge.url) {
  const response = await fetch(`${base}/admin/${at}`, {
    method,
    ...init,
    headers: { authorization: `Bearer ${ADMIN_KEY}`, ...init.headers },
  });
  return { status: response.status, etag: response.headers.get('etag'), body: (await response.json()) as unknown };
}

const get = async (base = edge.url) => (await admin('GET', 'config', {}, base)).body as ConfigView;

function put(text: string, follows: number | '*' | undefined, query = '', base = edge.url) {
  const match = follows === '*' ? '*' : `"${follows}"`;
  const headers: Record<string, string> = follows === undefined ? {} : { 'if-match': match };
  return admin('PUT', `config${query}`, { body: text, headers }, base);
}

const ask = (more: Record<string, unknown> = {}, base = edge.url) =>
  fetch(`${base}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${API_KEY}` },
    body: JSON.stringify({ model: 'auto', messages: [{ role: 'user', content: 'Tell me' }], ...more }),
  });

const errorIn = (body: unknown) => (body as { error: { code: string; message: string } }).error;

describe('the rules of a running edge', () => {
  it('begin with those bundled, as version 0', async () => {
    const { body, etag } = await admin('GET', 'config');
    expect(body).toMatchObject({
      version: 0,
      by: null,
      text: expect.stringContaining('name: requested'),
      in_force: { version: 0, source: 'bundled', problem: null, age_ms: expect.any(Number) },
    });
    expect(etag).toBe('"0"');
  });

  it('are checked in full, and refused with the place that is wrong', async () => {
    for (const [text, message] of [
      ['rules: [', /not YAML/],
      [rulesTo('auto'), /rules\[0\]\.then/],
      [rulesTo('math').replace('{ model: math }', '{ model: math, regions: [moon] }'), /names region "moon"/],
      [`version: 1\nrules:\n  - { name: a, when: { prompt: "(?=x)" }, then: { model: math } }\n`, /RE2|last rule/],
    ] as const) {
      const refused = await put(text, 0);
      expect([refused.status, errorIn(refused.body).message]).toEqual([400, expect.stringMatching(message)]);
    }
    expect((await put('#'.repeat(300_000), 0)).status).toBe(413);
    expect(await get()).toMatchObject({ version: 0 });
  });

  it('are written over the version that was looked at alone, numbered, and in force within a minute', async () => {
    expect(await ask().then((answer) => answer.headers.get('x-signpost-expert'))).not.toBe('law');
    const unsaid = await put(rulesTo('law'), undefined);
    expect([unsaid.status, errorIn(unsaid.body).code]).toEqual([428, 'version_required']);
    const late = await put(rulesTo('law'), 3);
    expect([late.status, errorIn(late.body)]).toMatchObject([
      412,
      { code: 'version_conflict', message: expect.stringContaining('at version 0, not 3') },
    ]);
    const written = await put(rulesTo('law'), 0, '?message=lawyers%20first');
    expect([written.status, written.etag, written.body]).toMatchObject([
      200,
      '"1"',
      { result: 'written', from: 0, version: 1, by: 'ada', message: 'lawyers first' },
    ]);
    expect((await put(rulesTo('law'), 1)).body).toMatchObject({ result: 'unchanged', version: 1 });
    expect((await put(rulesTo('code'), 0)).status).toBe(412);
    expect(await get()).toMatchObject({ version: 1, text: rulesTo('law') });

    await expect
      .poll(async () => (await get()).in_force, { timeout: 60_000, interval: 500 })
      .toMatchObject({
        version: 1,
        source: 'kv',
      });
    expect((await ask()).headers.get('x-signpost-expert')).toBe('law');
    const headers = { authorization: `Bearer ${ADMIN_KEY}` };
    const health = (await (await fetch(`${edge.url}/health`, { headers })).json()) as { rules: unknown };
    expect(health.rules).toMatchObject({ source: 'kv', number: 1, problem: null });
  });

  it('go back to any version, which then is a new one', async () => {
    await put(rulesTo('code'), '*', '?message=second');
    const back = await admin('POST', 'config/rollback', { body: '{"version":1}', headers: { 'if-match': '"2"' } });
    expect(back.body).toMatchObject({ result: 'written', from: 2, version: 3, message: 'back to version 1' });
    const list = (await admin('GET', 'config/versions')).body as { data: VersionView[] };
    expect(list.data.map(({ version, message, by }) => [version, message, by])).toEqual([
      [3, 'back to version 1', 'ada'],
      [2, 'second', 'ada'],
      [1, 'lawyers first', 'ada'],
    ]);
    expect((await admin('GET', 'config/versions/2')).body).toMatchObject({ version: 2, text: rulesTo('code') });
    for (const path of ['config/versions/9', 'config/versions/x', 'config/versions/1.5'])
      expect([path, (await admin('GET', path)).status]).toEqual([path, 404]);
    const nowhere = await admin('POST', 'config/rollback', { body: '{"version":9}', headers: { 'if-match': '"3"' } });
    expect(nowhere.status).toBe(404);
  });
});

describe('new rules', () => {
  it('are tried on what has been: what changes, what doesn’t, and what nobody can tell', async () => {
    const other = await start({
      routing: rulesTo('base', '{ name: german, when: { country: DE }, then: { model: chat } }'),
    });
    try {
      for (let i = 0; i < 3; i++) await ask({}, other.url);
      await ask({ max_tokens: 900 }, other.url);
      const dry = async (text: string, more = '') => {
        const { body, status } = await put(text, undefined, `?dry_run=1${more}`, other.url);
        expect([status, body]).toMatchObject([200, { result: 'dry_run', version: null }]);
        return (body as ConfigChange).would_change;
      };
      const young = rulesTo(
        'base',
        '{ name: long, when: { body: { max_tokens: { min: 500 } } }, then: { model: base } }',
        '{ name: vips, when: { body: { user: ada } }, then: { model: base } }',
        '{ name: german, when: { country: DE }, then: { model: law } }',
      );
      // Records come a moment later.
      await expect.poll(async () => (await dry(young))?.requests, { timeout: 20_000, interval: 200 }).toBe(4);
      const tried = await dry(young);
      expect(tried).toMatchObject({
        changed: 1,
        unknown: 3,
        changes: [
          {
            before: { rule: 'german', model: 'chat', refused: null },
            after: { rule: 'long', model: 'base', refused: null },
            requests: 1,
            examples: [{ model: 'auto', tenant: 'acme', prompt_chars: 7 }],
          },
        ],
        undecided: [{ rule: 'vips', requests: 3 }],
      });
      expect(await dry(rulesTo('base', '{ name: german, when: { country: DE }, then: { model: law } }'))).toMatchObject(
        {
          changed: 4,
          unknown: 0,
          models: [
            { name: 'chat', before: 4, after: 0 },
            { name: 'law', before: 0, after: 4 },
          ],
        },
      );
      expect(await dry(rulesTo('base'), '&decisions=2')).toMatchObject({ requests: 2, changed: 2 });
      expect((await put(young, undefined, '?dry_run=1&decisions=none', other.url)).status).toBe(400);
      // The real one says the same.
      const current = await get(other.url);
      expect(current).toMatchObject({ version: 1, by: 'by hand', in_force: { version: 1, source: 'kv' } });
      expect((await put(young, 1, '', other.url)).body).toMatchObject({ version: 2, would_change: tried });
    } finally {
      await other.close();
    }
  });

  it('put into KV by hand get a number once somebody looks, and are told of where they are wrong', async () => {
    const other = await start();
    try {
      await put(rulesTo('law'), 0, '', other.url);
      await other.setRouting(rulesTo('code'));
      expect(await get(other.url)).toMatchObject({ version: 2, by: 'by hand', text: rulesTo('code') });
      expect((await put(rulesTo('math'), 1, '', other.url)).status).toBe(412);
      await other.setRouting('rules: [');
      expect(await get(other.url)).toMatchObject({ version: 3, by: 'by hand' });
      await expect
        .poll(async () => (await get(other.url)).in_force, { timeout: 60_000, interval: 500 })
        .toMatchObject({
          version: 0,
          source: 'bundled',
          problem: expect.stringContaining('not YAML'),
        });
      // It is mended like any other.
      expect((await put(rulesTo('math'), 3, '', other.url)).body).toMatchObject({ result: 'written', version: 4 });
    } finally {
      await other.close();
    }
  });
});
