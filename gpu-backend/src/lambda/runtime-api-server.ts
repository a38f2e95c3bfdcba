/**
 * The Lambda Runtime API as AWS publishes it, for tests: it hands invocations to a function's process, and holds what the process says to the protocol.
 *
 * Sources: AWS Lambda Developer Guide, "Using the Lambda runtime API for custom runtimes" and "Implementing response streaming in a custom runtime".
 */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';

const ROOT = '/2018-06-01/runtime';
const ANSWER = new RegExp(`^${ROOT}/invocation/(?<id>[^/]+)/(?<what>response|error)$`);
const ERROR_TYPE = 'lambda-runtime-function-error-type';
const ERROR_BODY = 'lambda-runtime-function-error-body';

export interface FunctionError {
  readonly errorType: string;
  readonly errorMessage: string;
}

/** One invocation, as who made it sees it. */
export interface Invoked {
  /** What the function writes, in the pieces that came. @throws Error (of the function's type and message) where it ends in a failure. */
  readonly chunks: AsyncGenerator<Uint8Array, void>;
  /** Breaks the connection that the answer comes by: its caller is gone. */
  leave(): void;
}

interface Pending {
  readonly id: string;
  readonly event: string;
  readonly deadlineMs: number;
  readonly answered: (request: IncomingMessage) => void;
  readonly failed: (error: Error) => void;
}

export class RuntimeApiServer {
  /** As a function finds it in `AWS_LAMBDA_RUNTIME_API`. */
  readonly address: string;
  /** What functions said that could not be started. */
  readonly startErrors: FunctionError[] = [];
  /** What was not as the protocol has it. */
  readonly violations: string[] = [];
  /** How often a function has asked for an invocation. */
  asked = 0;
  readonly #server: Server;
  readonly #queue: Pending[] = [];
  readonly #running = new Map<string, Pending>();
  readonly #waiting: ServerResponse[] = [];

  private constructor(server: Server) {
    this.#server = server;
    this.address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    server.on('request', (request, response) => void this.#handle(request, response));
  }

  static async start(): Promise<RuntimeApiServer> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new RuntimeApiServer(server);
  }

  /** Functions that wait for an invocation. */
  get idle(): number {
    return this.#waiting.length;
  }

  /** @param timeoutMs the function's. */
  invoke(event: unknown, timeoutMs = 60_000): Invoked {
    let request: IncomingMessage | undefined;
    const answer = new Promise<IncomingMessage>((resolve, reject) => {
      this.#queue.push({
        id: randomUUID(),
        event: typeof event === 'string' ? event : JSON.stringify(event),
        deadlineMs: Date.now() + timeoutMs,
        answered: (by) => {
          request = by;
          resolve(by);
        },
        failed: reject,
      });
    });
    answer.catch(() => undefined);
    this.#hand();
    return { chunks: this.#chunks(answer), leave: () => request?.destroy() };
  }

  async close(): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    if (this.#server.listening) await once(this.#server, 'close');
  }

  async *#chunks(answer: Promise<IncomingMessage>): AsyncGenerator<Uint8Array, void> {
    const request = await answer;
    for await (const chunk of request) yield chunk as Uint8Array;
    const { [ERROR_TYPE]: type, [ERROR_BODY]: body } = request.trailers;
    if (type === undefined) return;
    const { errorType, errorMessage } = JSON.parse(Buffer.from(body ?? '', 'base64').toString()) as FunctionError;
    if (errorType !== type) this.violations.push(`the trailers tell of ${type} and of ${errorType}`);
    throw new Error(`${errorType}: ${errorMessage}`);
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method, url = '' } = request;
    if (method === 'GET' && url === `${ROOT}/invocation/next`) {
      this.asked++;
      this.#waiting.push(response);
      response.once('close', () => {
        const at = this.#waiting.indexOf(response);
        if (at !== -1) this.#waiting.splice(at, 1);
      });
      return this.#hand();
    }
    if (method === 'POST' && url === `${ROOT}/init/error`) {
      this.startErrors.push(await this.#errorIn(request));
      return accept(response);
    }
    const { id = '', what } = ANSWER.exec(url)?.groups ?? {};
    if (method !== 'POST' || what === undefined) return this.#refuse(response, 404, `nothing at ${method} ${url}`);
    const pending = this.#running.get(id);
    if (pending === undefined) return this.#refuse(response, 400, `${id} is not running`);
    this.#running.delete(id);
    if (what === 'error') {
      const { errorType, errorMessage } = await this.#errorIn(request);
      pending.failed(new Error(`${errorType}: ${errorMessage}`));
      return accept(response);
    }
    this.#checkAnswer(request);
    pending.answered(request);
    request.once('end', () => accept(response));
  }

  #hand(): void {
    while (this.#queue.length > 0 && this.#waiting.length > 0) {
      const pending = this.#queue.shift();
      const response = this.#waiting.shift();
      if (pending === undefined || response === undefined) return;
      this.#running.set(pending.id, pending);
      response
        .writeHead(200, {
          'content-type': 'application/json',
          'lambda-runtime-aws-request-id': pending.id,
          'lambda-runtime-deadline-ms': String(pending.deadlineMs),
          'lambda-runtime-invoked-function-arn': 'arn:aws:lambda:eu-central-1:123456789012:function:signpost',
          'lambda-runtime-trace-id': 'Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0',
        })
        .end(pending.event);
    }
  }

  #checkAnswer({ headers }: IncomingMessage): void {
    const expected = {
      'lambda-runtime-function-response-mode': 'streaming',
      'transfer-encoding': 'chunked',
      'content-type': 'application/vnd.awslambda.http-integration-response',
      // "Close the underlying connection after it has successfully written the response."
      connection: 'close',
    };
    for (const [name, value] of Object.entries(expected))
      if (headers[name] !== value) this.violations.push(`an answer's ${name} is ${headers[name]}, not ${value}`);
    const announced = (headers.trailer ?? '').toLowerCase().split(/,\s*/);
    for (const name of [ERROR_TYPE, ERROR_BODY])
      if (!announced.includes(name)) this.violations.push(`an answer doesn't announce the trailer ${name}`);
  }

  async #errorIn(request: IncomingMessage): Promise<FunctionError> {
    const error = JSON.parse(await text(request)) as FunctionError;
    if (request.headers[ERROR_TYPE] !== error.errorType)
      this.violations.push(`an error's ${ERROR_TYPE} is ${request.headers[ERROR_TYPE]}, not ${error.errorType}`);
    return error;
  }

  #refuse(response: ServerResponse, status: number, errorMessage: string): void {
    this.violations.push(errorMessage);
    response
      .writeHead(status, { 'content-type': 'application/json' })
      .end(JSON.stringify({ errorType: 'InvalidRequest', errorMessage }));
  }
}

function accept(response: ServerResponse): void {
  response.writeHead(202, { 'content-type': 'application/json' }).end('{"status":"OK"}');
}
