/**
 * A proxy in front of a real server that spoils answers on purpose.
 */
import { type IncomingMessage, type ServerResponse, request as send } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { listen, type WebServer } from './web-server.ts';

/**
 * What becomes of a request: an answer with a status instead of its own; its connection reset; no HTTP at all; silence; half of the answer and then silence, or the
 * end of the connection; its body byte by byte, for ever as far as anybody would wait; its body in pieces with pauses; another body in its place, that passes for
 * whole.
 */
export type Fault =
  | { readonly status: number; readonly retryAfter?: string; readonly body?: string }
  | 'reset'
  | 'garble'
  | 'stall'
  | 'stall half-way'
  | 'cut half-way'
  | 'trickle'
  | { readonly pieces: number; readonly pauseMs: number }
  | { readonly spoil: (body: Buffer) => Uint8Array };

const TRICKLE_MS = 20;

/** For `spoil`: one bit changed, so far into the body (0 … 1). */
export function flipBit(body: Buffer, place = 0.5): Buffer {
  const at = Math.floor(place * body.byteLength);
  const flipped = Buffer.from(body);
  const byte = flipped.at(at);
  if (byte !== undefined) flipped.writeUInt8(byte ^ 1, at);
  return flipped;
}

export interface ProxiedRequest {
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  readonly range: string | undefined;
}

export interface FaultyProxy extends WebServer {
  /** Refuses connections from now on, and cuts those there are. */
  vanish(): Promise<void>;
  /** Is there again, at the same address. */
  reappear(): Promise<void>;
}

/** Starts a proxy for `origin`. `fault` is asked about each request. */
export async function startFaultyProxy(
  origin: string,
  fault: (request: ProxiedRequest) => Fault | undefined,
): Promise<FaultyProxy> {
  const answer = (request: IncomingMessage, response: ServerResponse) => {
    const { method = 'GET', url = '/', headers } = request;
    void serve(origin, request, response, fault({ method, url, range: headers.range }));
  };
  let server = await listen(answer);
  const { url } = server;
  return {
    url,
    vanish: () => server.close(),
    async reappear() {
      server = await listen(answer, Number(new URL(url).port));
    },
    close: () => server.close(),
  };
}

async function serve(
  origin: string,
  request: IncomingMessage,
  response: ServerResponse,
  fault: Fault | undefined,
): Promise<void> {
  const asked = await bytesOf(request);
  if (fault === 'reset') return void request.socket.destroy();
  if (fault === 'garble') return void request.socket.end('HTPT/1.1 200 OK\r\n\r\n');
  if (fault === 'stall') return;
  if (typeof fault === 'object' && 'status' in fault) {
    const headers = fault.retryAfter === undefined ? {} : { 'retry-after': fault.retryAfter };
    return void response.writeHead(fault.status, headers).end(fault.body);
  }
  const { method, url = '/', headers } = request;
  const upstream = send(new URL(url, origin), { method, headers });
  upstream.once('error', () => request.socket.destroy());
  upstream.once('response', (answer) => {
    void bytesOf(answer).then(async (body) => {
      const status = answer.statusCode ?? 502;
      if (typeof fault === 'object' && 'spoil' in fault) {
        const spoilt = method === 'HEAD' ? body : fault.spoil(body);
        const { 'transfer-encoding': _, ...headers } = answer.headers;
        const length = method === 'HEAD' ? {} : { 'content-length': spoilt.byteLength };
        return response.writeHead(status, { ...headers, ...length }).end(spoilt);
      }
      response.writeHead(status, answer.headers);
      if (typeof fault === 'object') {
        const size = Math.ceil(body.byteLength / fault.pieces);
        for (let at = 0; at < body.byteLength; at += size) {
          await sleep(fault.pauseMs);
          response.write(body.subarray(at, at + size));
        }
        return response.end();
      }
      const half = body.subarray(0, body.byteLength >> 1);
      switch (fault) {
        case undefined:
          return response.end(body);
        case 'stall half-way':
          return response.write(half);
        case 'cut half-way':
          return response.write(half, () => request.socket.destroy());
        case 'trickle':
          for (let at = 0; !response.destroyed && at < body.byteLength; at++) {
            response.write(body.subarray(at, at + 1));
            await sleep(TRICKLE_MS);
          }
          return response.end();
        default:
          return fault satisfies never;
      }
    });
  });
  upstream.end(asked);
}

async function bytesOf(stream: AsyncIterable<Buffer>): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces);
}
