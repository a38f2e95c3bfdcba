import { ApiError } from '@signpost/contracts';
import { describe, expect, it } from 'vitest';
import { answerConsole, isConsole } from './console.ts';

const FILES: Readonly<Record<string, string>> = {
  '/console/index.html': 'text/html; charset=utf-8',
  '/console/console-0A1B2C3D.js': 'text/javascript; charset=utf-8',
};
const asked: { path: string; known: string | null }[] = [];
/** As Cloudflare's assets answer. */
const files = {
  async fetch(url: string, { headers }: { readonly headers: Headers }) {
    const { pathname } = new URL(url);
    const known = headers.get('if-none-match');
    asked.push({ path: pathname, known });
    const type = FILES[pathname];
    if (type === undefined) return new Response('no', { status: 404 });
    if (known === '"tag"') return new Response(null, { status: 304, headers: { etag: '"tag"' } });
    return new Response('content', { headers: { 'content-type': type, etag: '"tag"', server: 'assets' } });
  },
};

const get = (path: string, init: RequestInit = {}) =>
  answerConsole(new Request(`https://edge.test${path}`, init), path, files);

describe('the console’s files', () => {
  it('are all that begins with /console', () => {
    expect(['/console', '/console/', '/console/a.js'].map(isConsole)).toEqual([true, true, true]);
    expect(['/', '/consoles', '/v1/models', '/admin/config'].map(isConsole)).toEqual([false, false, false, false]);
  });

  it('are the page at its address, and it is asked for anew each time', async () => {
    const page = await get('/console/');
    expect([page.status, await page.text(), page.headers.get('cache-control')]).toEqual([200, 'content', 'no-cache']);
    expect(asked.at(-1)?.path).toBe('/console/index.html');
    const known = await get('/console/', { headers: { 'if-none-match': '"tag"', authorization: 'Bearer secret' } });
    expect([known.status, asked.at(-1)?.known]).toEqual([304, '"tag"']);
    expect((await get('/console')).headers.get('location')).toBe('/console/');
  });

  it('are kept for good where their names change with them', async () => {
    const script = await get('/console/console-0A1B2C3D.js');
    expect(script.headers.get('cache-control')).toBe('public, max-age=31536000, immutable');
    expect(script.headers.get('content-type')).toBe('text/javascript; charset=utf-8');
  });

  it('let nothing in from elsewhere, and nobody around them, redirects included', async () => {
    for (const path of ['/console', '/console/', '/console/console-0A1B2C3D.js']) {
      const { headers } = await get(path);
      const policy = headers.get('content-security-policy') ?? '';
      expect(policy).toContain("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'");
      expect(policy).toContain("frame-ancestors 'none'");
      expect(policy).not.toMatch(/unsafe|\*|https?:/);
      expect(headers.get('x-content-type-options')).toBe('nosniff');
      expect(headers.get('referrer-policy')).toBe('no-referrer');
    }
  });

  it('are refused as everything else is: there is none, or it is not to be changed', async () => {
    await expect(get('/console/nothing.js')).rejects.toThrow(ApiError);
    const refused = await get('/console/', { method: 'POST' });
    expect([refused.status, refused.headers.get('allow')]).toEqual([405, 'GET, HEAD']);
    expect(await (await get('/console/', { method: 'HEAD' })).text()).toBe('');
  });
});
