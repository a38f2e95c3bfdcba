/**
 * The listening socket around a fetch handler: bound before there is anything to serve, and closed without cutting off an answer.
 */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { Problem } from '@signpost/contracts';

export type FetchHandler = (request: Request) => Response | Promise<Response>;

/** What answers that are already written may take to leave. */
const FLUSH_LIMIT_MS = 2_000;
/**
 * How long a connection is kept that asks for nothing: longer than those in front keep it (cloudflared 90 s, an AWS load balancer 60 s), so that it is never closed
 * under a request that is on its way, as Node's own 5 s would. Nobody could tell whether to ask again.
 */
const IDLE_CONNECTION_MS = 120_000;

export class HttpServer {
  readonly #server: Server;
  #handler: FetchHandler;
  /** Responses that have not been handed over to the last byte. */
  #open = 0;
  #onIdle: (() => void) | undefined;

  constructor(handler: FetchHandler) {
    this.#handler = handler;
    const listener = getRequestListener((request) => this.#handler(request));
    this.#server = createServer({ keepAliveTimeout: IDLE_CONNECTION_MS }, (incoming, outgoing) => {
      this.#open++;
      outgoing.once('close', () => {
        if (--this.#open === 0) this.#onIdle?.();
      });
      return listener(incoming, outgoing);
    });
  }

  /** Without a slash at the end: `http://127.0.0.1:8000`. @throws Problem when the address is taken or not this machine's. */
  async listen(host: string, port: number): Promise<string> {
    try {
      this.#server.listen(port, host);
      await once(this.#server, 'listening');
    } catch (cause) {
      const code = cause instanceof Error && 'code' in cause ? cause.code : cause;
      throw new Problem(`can't listen on ${host}:${port} (${code}); choose another address or port`, { cause });
    }
    const { port: bound } = this.#server.address() as AddressInfo;
    return `http://${host.includes(':') ? `[${host}]` : host}:${bound}`;
  }

  /** Answers with `handler` from now on; what is being answered goes on as it began. */
  serve(handler: FetchHandler): void {
    this.#handler = handler;
  }

  /** Waits until nothing is being answered, at most `limitMs`. New requests are still taken: readiness must be seen to be gone. */
  async idle(limitMs: number): Promise<void> {
    if (this.#open === 0) return;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#onIdle = resolve;
      timer = setTimeout(resolve, limitMs);
    });
    this.#onIdle = undefined;
    clearTimeout(timer);
  }

  /** Takes no more connections, lets what is written leave, and cuts the rest. */
  async close(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeIdleConnections();
    await this.idle(FLUSH_LIMIT_MS);
    this.#server.closeAllConnections();
    await closed;
  }
}
