/**
 * A store's objects behind a web server, as a CDN or a public bucket has them: ranges, ETags, HEAD.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { checkRange, type ObjectStore } from '../object-store.ts';

export interface WebServerOptions {
  /** Sees each request; true when it has answered it. */
  readonly onRequest?: (request: IncomingMessage, response: ServerResponse) => boolean;
  /** Whether it answers ranges with all of an object, as simple servers do. */
  readonly ignoresRanges?: boolean;
}

export interface WebServer {
  readonly url: string;
  readonly close: () => Promise<void>;
}

export async function serveStore(store: ObjectStore, options: WebServerOptions = {}): Promise<WebServer> {
  const { onRequest = () => false } = options;
  return listen((request, response) => {
    if (!onRequest(request, response)) void answer(store, request, response, options);
  });
}

/** Starts a server on a port of this machine, a free one if left out. */
export async function listen(
  serve: (request: IncomingMessage, response: ServerResponse) => void,
  port = 0,
): Promise<WebServer> {
  const server = createServer(serve);
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function answer(
  store: ObjectStore,
  { method, url = '/', headers }: IncomingMessage,
  response: ServerResponse,
  { ignoresRanges = false }: WebServerOptions,
): Promise<void> {
  const key = url.slice(1);
  const found = await store.head(key).catch(() => undefined);
  if (found === undefined) return void response.writeHead(404).end();
  const { bytes, etag } = found;
  const common = { etag: `"${etag}"`, 'accept-ranges': 'bytes' };
  const asked = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? '');
  if (method === 'HEAD') return void response.writeHead(200, { ...common, 'content-length': bytes }).end();
  if (asked === null || ignoresRanges)
    return void response.writeHead(200, { ...common, 'content-length': bytes }).end((await store.read(key)).data);
  const start = Number(asked[1]);
  if (start >= bytes) return void response.writeHead(416, { 'content-range': `bytes */${bytes}` }).end();
  const end = Math.min(Number(asked[2]) + 1, bytes);
  checkRange(store.url, key, { start, end }, bytes);
  const { data } = await store.read(key, { range: { start, end } });
  response
    .writeHead(206, {
      ...common,
      'content-length': data.byteLength,
      'content-range': `bytes ${start}-${end - 1}/${bytes}`,
    })
    .end(data);
}
