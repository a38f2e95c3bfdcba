/**
 * How the Worker is configured: rules in KV, a router in R2, variables and secrets; and what it says when they are wrong.
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { ROUTER_POINTER_KEY, routerObjectKey } from '@signpost/contracts/router';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startEdge } from './edge.ts';
import { Upstream } from './upstream.ts';

let near: Upstream;
let far: Upstream;
beforeAll(async () => {
  [near, far] = await Promise.all([Upstream.start(), Upstream.start()]);
});
afterAll(() => Promise.all([near?.close(), far?.close()]));
beforeEach(() => {
  for (const region of [near, far]) region.requests.length = 0;
});

const chat = (content: string, more: Record<string, unknown> = {}) => ({
  model: 'auto',
  messages: [{ role: 'user', content }],
  ...more,
});

describe('configuration', () => {
  const start = (options: Partial<Parameters<typeof startEdge>[0]>) =>
    startEdge({ regions: [{ name: 'near', url: near.url }], onLog: () => {}, ...options });

  it('takes rules from KV: a cap on tokens, regions, a refusal', async () => {
    const other = await start({
      regions: [
        { name: 'near', url: near.url },
        { name: 'far', url: far.url },
      ],
      routing: `
version: 1
rules:
  - { name: closed, when: { header: { x-team: red } }, then: { refuse: red is out } }
  - { name: rest, then: { model: chat, regions: [far], limits: { maxTokens: 50 } } }
`,
    });
    try {
      const ask = (more: Record<string, unknown>, headers: Record<string, string> = {}) =>
        fetch(`${other.url}/v1/chat/completions`, {
          method: 'POST',
          headers,
          body: JSON.stringify(chat('hi', more)),
        });
      expect((await ask({})).headers.get('x-signpost-region')).toBe('far');
      expect(JSON.parse(far.last.body)).toEqual(chat('hi', { model: 'chat', max_completion_tokens: 50 }));
      await ask({ max_tokens: 900 });
      expect(JSON.parse(far.last.body)).toEqual(chat('hi', { model: 'chat', max_tokens: 50 }));
      await ask({ max_completion_tokens: 7 });
      expect(JSON.parse(far.last.body)).toEqual(chat('hi', { model: 'chat', max_completion_tokens: 7 }));
      const refused = await ask({}, { 'x-team': 'red' });
      expect(refused.status).toBe(403);
      expect(refused.headers.get('x-signpost-rule')).toBe('closed');
      expect(await refused.json()).toMatchObject({ error: { code: 'refused_by_rule', message: 'red is out' } });
    } finally {
      await other.close();
    }
  });

  it('keeps the bundled rules, and says so, when those in KV are wrong', async () => {
    const other = await start({
      routing: 'version: 1\nrules: [{ name: x, then: { model: chat, regions: [moon] } }]',
    });
    try {
      const explained = await fetch(`${other.url}/v1/route`, { method: 'POST', body: JSON.stringify(chat('hi')) });
      expect(await explained.json()).toMatchObject({
        rules: { source: 'bundled', problem: expect.stringContaining('rule "x" names region "moon"') },
      });
    } finally {
      await other.close();
    }
  });

  it('uses a router from R2 when every file is what its digest says, else the bundled one', async () => {
    const file = (name: string) => readFile(path.join(import.meta.dirname, '../../models/router', name));
    const files = {
      manifest: await file('router.json'),
      tokenizer: await file('tokenizer.json'),
      model: await file('model.onnx'),
    };
    const altered = { ...files, model: files.model.with(1_000, (files.model[1_000] ?? 0) ^ 1) };
    for (const [contents, detail] of [
      [files, /^R2, [0-9a-f]{12};/],
      [altered, /^bundled, because the one in R2 is no good: .* altered or truncated;/],
    ] as const) {
      const other = await start({ artifacts: routerObjects(files, contents) });
      try {
        const status = async () =>
          ((await (await fetch(`${other.url}/health`)).json()) as { classifier: { status: string; detail: string } })
            .classifier;
        await expect.poll(async () => (await status()).status, { timeout: 20_000 }).toBe('ready');
        expect((await status()).detail).toMatch(detail);
      } finally {
        await other.close();
      }
    }
  });

  it.each([
    ['nobody may use it', { keys: {} }, /API_KEY_HASHES.*ALLOW_ANONYMOUS/],
    [
      'unsigned to another machine',
      { regions: [{ name: 'r', url: 'https://gpu.example' }] },
      /region "r".*REGION_SECRET/,
    ],
    ['a short secret', { regionSecret: 'short' }, /at least 32 bytes/],
    ['no region', { regions: [] }, /REGIONS.*at least one region/],
  ])('%s: every request says what is wrong with it', async (_, options, message) => {
    const other = await start(options);
    try {
      const answer = await fetch(`${other.url}/v1/models`);
      expect(answer.status).toBe(500);
      expect(await answer.json()).toMatchObject({
        error: { code: 'misconfigured', message: expect.stringMatching(message) },
      });
    } finally {
      await other.close();
    }
  });

  it('says which port is taken', async () => {
    const port = Number(new URL(near.url).port);
    await expect(start({ port })).rejects.toThrow(`127.0.0.1:${port} (EADDRINUSE)`);
  });
});

function routerObjects(pointed: Record<string, Uint8Array>, stored: Record<string, Uint8Array>) {
  const digest = (bytes: Uint8Array = new Uint8Array()) => createHash('sha256').update(bytes).digest('hex');
  const names = Object.keys(pointed);
  return {
    [ROUTER_POINTER_KEY]: JSON.stringify(Object.fromEntries(names.map((name) => [name, digest(pointed[name])]))),
    ...Object.fromEntries(names.map((name) => [routerObjectKey(digest(pointed[name])), stored[name] ?? ''])),
  };
}
