/**
 * A region to test the edge against: a real HTTP server that records what it is asked, and answers as it is told.
 */
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface RecordedRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** Resolves when the connection of this request closes before the answer was ended. */
  readonly aborted: Promise<void>;
}

export type Respond = (response: ServerResponse, request: RecordedRequest) => void | Promise<void>;

export class Upstream {
  readonly url: string;
  readonly requests: RecordedRequest[] = [];
  readonly #server: ReturnType<typeof createServer>;
  /** How the next requests are answered. */
  respond: Respond = answerWhole('hello');

  private constructor(server: ReturnType<typeof createServer>) {
    this.#server = server;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    server.on('request', async (request, response) => {
      const aborted = new Promise<void>((resolve) =>
        response.once('close', () => {
          if (!response.writableFinished) resolve();
        }),
      );
      let body = '';
      for await (const chunk of request) body += chunk;
      const { method = '', url: path = '', headers } = request;
      const recorded = { method, path, headers, body, aborted };
      this.requests.push(recorded);
      await this.respond(response, recorded);
    });
  }

  static async start(): Promise<Upstream> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new Upstream(server);
  }

  get last(): RecordedRequest {
    const request = this.requests.at(-1);
    if (request === undefined) throw new Error('this region has not been asked');
    return request;
  }

  async close(): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    if (this.#server.listening) await once(this.#server, 'close');
  }
}

export function answerWhole(content: string): Respond {
  return (response) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ choices: [{ message: { role: 'assistant', content } }] }));
  };
}

export function answerStatus(status: number, body = ''): Respond {
  return (response) => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(body);
  };
}

/** One event of a streamed answer. */
export function event(content: string): string {
  return `data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`;
}

export const DONE = 'data: [DONE]\n\n';

export function startEvents(response: ServerResponse): ServerResponse {
  return response.writeHead(200, { 'content-type': 'text/event-stream' });
}

/** A promise and its resolver: what a test waits for, and lets go on. */
export function gate(): { readonly opened: Promise<void>; open(): void } {
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}
