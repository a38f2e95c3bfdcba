/**
 * Reading by HTTP from a real server.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { HttpStore, ObjectMissing, type ObjectStore, openStore, RETRY_DEFAULTS, readCatalogue } from './index.ts';
import { serveStore } from './testing/index.ts';
import type { WebServer, WebServerOptions } from './testing/web-server.ts';

const text = (value: string) => new TextEncoder().encode(value);
const NO_RETRIES = { ...RETRY_DEFAULTS, attempts: 1 };

let root: string;
let behind: ObjectStore;
let servers: WebServer[];
const serve = async (options?: WebServerOptions): Promise<string> => {
  const server = await serveStore(behind, options);
  servers.push(server);
  return server.url;
};
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'signpost-http-'));
  behind = openStore(root);
  servers = [];
  await behind.write('a/b.bin', text('hello'));
});
afterEach(async () => {
  for (const server of servers) await server.close();
  await rm(root, { recursive: true });
});

describe('a store behind a web server', () => {
  it('is read whole and in ranges, with size and ETag', async () => {
    const store = openStore(await serve());
    const found = await store.head('a/b.bin');
    const before = await store.read('a/b.bin');
    expect(before).toEqual({ bytes: 5, etag: found?.etag, data: text('hello') });
    expect(found?.bytes).toBe(5);
    expect((await store.read('a/b.bin', { range: { start: 1, end: 3 } })).data).toEqual(text('el'));
    expect((await store.read('a/b.bin', { range: { start: 2, end: 2 } })).data).toEqual(text(''));
    for (const range of [
      { start: 1, end: 9 },
      { start: 3, end: 2 },
      { start: 9, end: 10 },
    ])
      await expect(store.read('a/b.bin', { range })).rejects.toThrow(/lie outside a\/b\.bin, which has 5/);
    await behind.write('a/b.bin', text('world'));
    expect((await store.head('a/b.bin'))?.etag).not.toBe(found?.etag);
  });

  it('may stand below a path', async () => {
    const store = openStore(`${await serve()}/a`);
    expect((await store.read('b.bin')).data).toEqual(text('hello'));
  });

  it('has no object that nobody wrote, and so no catalogue', async () => {
    const store = openStore(await serve());
    await expect(store.read('none')).rejects.toThrow(ObjectMissing);
    await expect(store.read('none', { range: { start: 0, end: 1 } })).rejects.toThrow(ObjectMissing);
    expect(await store.head('none')).toBeUndefined();
    expect((await readCatalogue(store)).catalogue.experts).toEqual({});
  });

  it('can’t be changed', async () => {
    const store = openStore(await serve());
    await expect(store.write('k', text('x'))).rejects.toThrow(
      /can only be read, not written to; give the store behind/,
    );
    await expect(store.list('')).rejects.toThrow(/can only be read/);
  });

  it('is refused where the server knows no ranges', async () => {
    const store = openStore(await serve({ ignoresRanges: true }));
    await expect(store.read('a/b.bin', { range: { start: 1, end: 3 } })).rejects.toThrow(/does not serve ranges/);
  });

  it('says what was refused', async () => {
    const store = openStore(await serve({ onRequest: (_, response) => Boolean(response.writeHead(403).end()) }));
    await expect(store.read('k')).rejects.toThrow(/can't read http:.*\/k \(status 403\); check who may read it/);
    const closed = await serveStore(behind);
    await closed.close();
    await expect(new HttpStore(closed.url, NO_RETRIES).read('k')).rejects.toThrow(/ECONNREFUSED.*check the network/);
  });

  it('stops the transfer when nobody waits for it', async () => {
    let isGone = false;
    const url = await serve({
      onRequest: (request, response) => {
        response.writeHead(200, { 'content-length': 10 }).write('half');
        request.once('close', () => {
          isGone = true;
        });
        controller.abort(new Error('left'));
        return true;
      },
    });
    const controller = new AbortController();
    await expect(openStore(url).read('k', { signal: controller.signal })).rejects.toThrow(/^left$/);
    await expect.poll(() => isGone).toBe(true);
  });
});

describe('a redirect', () => {
  const redirectTo = (target: string) => (_: IncomingMessage, response: Parameters<typeof refuse>[1]) =>
    Boolean(response.writeHead(302, { location: target }).end());
  const refuse: NonNullable<WebServerOptions['onRequest']> = (_, response) => Boolean(response.writeHead(401).end());

  it('is followed', async () => {
    const target = await serve();
    const store = openStore(await serve({ onRequest: redirectTo(`${target}/a/b.bin?signature=s3cret`) }));
    // The server takes the query for a part of the key.
    await expect(store.read('k')).rejects.toThrow(ObjectMissing);
    const plain = openStore(await serve({ onRequest: redirectTo(`${target}/a/b.bin`) }));
    expect((await plain.read('k', { range: { start: 0, end: 2 } })).data).toEqual(text('he'));
  });

  it('is followed only so often', async () => {
    const url = await serve({ onRequest: redirectTo('/again') });
    await expect(openStore(url).read('k')).rejects.toThrow(/redirected more than 3 times/);
  });

  it('to an address in the clear is not followed, and its path is not told', async () => {
    const store = openStore(await serve({ onRequest: redirectTo('http://example.com/x?signature=s3cret') }));
    const failure = await store.read('k').catch((error: Error) => error.message);
    expect(failure).toMatch(/redirected to http:\/\/example\.com, which is not followed/);
    expect(failure).not.toContain('s3cret');
  });

  it('takes no credentials along', async () => {
    const seen: (string | undefined)[] = [];
    const target = await serve({
      onRequest: ({ headers }) => void seen.push(headers.authorization) as unknown as false,
    });
    const home = await serve({
      onRequest: ({ headers }, response) => {
        seen.push(headers.authorization);
        return redirectTo(`${target}/a/b.bin`)({} as IncomingMessage, response);
      },
    });
    const store = openStore(home.replace('http://', 'http://anna:s3cret@'));
    expect((await store.read('k')).data).toEqual(text('hello'));
    expect(seen).toEqual([`Basic ${Buffer.from('anna:s3cret').toString('base64')}`, undefined]);
  });
});

describe('a URL', () => {
  it('with a password shows it nowhere', async () => {
    const url = await serve({ onRequest: (_, response) => Boolean(response.writeHead(401).end()) });
    const store = openStore(url.replace('http://', 'http://anna:s3cret@'));
    expect(store.url).toBe(url);
    const failure = await store.read('k').catch((error: Error) => `${error.message} ${error.stack} ${error.cause}`);
    expect(failure).toContain('status 401');
    expect(failure).not.toContain('s3cret');
    expect(failure).not.toContain('anna');
  });

  it.each([
    ['http://example.com/x', /http:\/\/ is taken on this machine only/],
    ['https://example.com/x?sig=s3cret', /without \? and #/],
    ['https://', /is no URL/],
  ])('%s is refused', (url, message) => {
    expect(() => openStore(url)).toThrow(message);
    expect(() => openStore(url)).not.toThrow(/s3cret/);
  });
});
