/**
 * A proxy in front of a real server that spoils answers on purpose.
 */
import { type IncomingMessage, type ServerResponse, request as send } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { listen, type WebServer } from './web-server.ts';

/**
 * What becomes of a request: an answer with a status instead of its own; its connection reset; silence; half of the answer and then silence, or the
 * end of the connection; its body in pieces with pauses; one bit of the answer's body changed.
 */
export type Fault =
  | { readonly status: number; readonly retryAfter?: string }
  | 'reset'
  | 'stall'
  | 'stall half-way'
  | 'cut half-way'
  | { readonly pieces: number; readonly pauseMs: number }
  | 'flip';

export interface ProxiedRequest {
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  readonly range: string | undefined;
}

/** Starts a proxy for `origin`. `fault` is asked about each request. */
export async function startFaultyProxy(
  origin: string,
  fault: (request: ProxiedRequest) => Fault | undefined,
): Promise<WebServer> {
  return listen((request, response) => {
    const { method = 'GET', url = '/', headers } = request;
    void serve(origin, request, response, fault({ method, url, range: headers.range }));
  });
}

async function serve(
  origin: string,
  request: IncomingMessage,
  response: ServerResponse,
  fault: Fault | undefined,
): Promise<void> {
  const asked = await bytesOf(request);
  if (fault === 'reset') return void request.socket.destroy();
  if (fault === 'stall') return;
  if (typeof fault === 'object' && 'status' in fault) {
    const headers = fault.retryAfter === undefined ? {} : { 'retry-after': fault.retryAfter };
    return void response.writeHead(fault.status, headers).end();
  }
  const { method, url = '/', headers } = request;
  const upstream = send(new URL(url, origin), { method, headers });
  upstream.once('error', () => request.socket.destroy());
  upstream.once('response', (answer) => {
    void bytesOf(answer).then(async (body) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
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
        case 'flip':
          body.writeUInt8((body.at(half.byteLength) ?? 0) ^ 1, half.byteLength);
          return response.end(body);
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
