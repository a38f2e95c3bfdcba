/**
 * A client of the Lambda Runtime API: where a function gets its invocations, and where it answers them. Knows nothing of what is in them.
 *
 * Sources: AWS Lambda Developer Guide, "Using the Lambda runtime API for custom runtimes" and "Implementing response streaming in a custom runtime".
 */
import { once } from 'node:events';
import { Agent, type ClientRequest, type IncomingMessage, request } from 'node:http';
import { text } from 'node:stream/consumers';

const ROOT = '/2018-06-01/runtime';
const ERROR_TYPE = 'Lambda-Runtime-Function-Error-Type';
const ERROR_BODY = 'Lambda-Runtime-Function-Error-Body';
/** Status and headers of an HTTP answer stand at its beginning (`HttpResponseStream.from`). */
const HTTP_ANSWER = 'application/vnd.awslambda.http-integration-response';

export interface Invocation {
  readonly requestId: string;
  /** When AWS ends it, in milliseconds since the epoch. */
  readonly deadlineMs: number;
  /** JSON. */
  readonly event: string;
}

export class RuntimeApi {
  readonly #hostname: string;
  readonly #port: number;
  /** Of what isn't an answer: that one's connection ends with it. */
  readonly #agent = new Agent({ keepAlive: true });

  /** @param address as in `AWS_LAMBDA_RUNTIME_API`: host and port. */
  constructor(address: string) {
    const { hostname, port } = new URL(`http://${address}`);
    this.#hostname = hostname;
    this.#port = Number(port === '' ? 80 : port);
  }

  /** Waits for the next invocation, however long: the process may be frozen meanwhile. @throws Error when there is no such API any more. */
  async next(): Promise<Invocation> {
    const [response, event] = await this.#call('GET', '/invocation/next');
    const requestId = header(response, 'lambda-runtime-aws-request-id');
    return { requestId, deadlineMs: Number(header(response, 'lambda-runtime-deadline-ms')), event };
  }

  answer({ requestId }: Invocation): Answering {
    return new Answering(
      request({
        hostname: this.#hostname,
        port: this.#port,
        method: 'POST',
        path: `${ROOT}/invocation/${requestId}/response`,
        agent: false,
        headers: {
          'content-type': HTTP_ANSWER,
          'transfer-encoding': 'chunked',
          'lambda-runtime-function-response-mode': 'streaming',
          trailer: `${ERROR_TYPE}, ${ERROR_BODY}`,
        },
      }),
    );
  }

  /** Says that this environment can't be started. */
  async failStart(error: unknown): Promise<void> {
    const { errorType, ...details } = described(error);
    await this.#call('POST', '/init/error', {
      body: JSON.stringify({ errorType, ...details }),
      headers: { 'content-type': 'application/json', [ERROR_TYPE]: errorType },
    });
  }

  async #call(
    method: string,
    path: string,
    { body = '', headers = {} }: { readonly body?: string; readonly headers?: Record<string, string> } = {},
  ): Promise<[IncomingMessage, string]> {
    const call = request({
      hostname: this.#hostname,
      port: this.#port,
      method,
      path: `${ROOT}${path}`,
      agent: this.#agent,
      headers: { ...headers, ...(method === 'GET' ? {} : { 'content-length': Buffer.byteLength(body) }) },
    }).end(body);
    const [response] = (await once(call, 'response')) as [IncomingMessage];
    const said = await text(response);
    const { statusCode = 0 } = response;
    if (statusCode >= 300)
      throw new Error(`the Lambda Runtime API answered ${statusCode} to ${method} ${path}: ${said}`);
    return [response, said];
  }
}

/** An answer on its way, in pieces. */
export class Answering {
  readonly #request: ClientRequest;
  /** The API's own answer, which comes after ours; rejects when it won't take any more of it. */
  readonly #taken: Promise<void>;
  readonly #gone = new AbortController();

  constructor(to: ClientRequest) {
    this.#request = to;
    // Told by `#taken`; a second one is of no interest.
    to.on('error', () => undefined);
    this.#taken = this.#takes();
    this.#taken.catch((error: unknown) => this.#gone.abort(error));
  }

  /** Aborted when nobody takes the answer any more. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  /** Resolves when there is room for more. @throws Error when nobody takes it any more. */
  async write(chunk: Uint8Array | string): Promise<void> {
    this.gone.throwIfAborted();
    if (!this.#request.write(chunk)) await once(this.#request, 'drain', { signal: this.gone });
  }

  /** @throws Error when it didn't all arrive. */
  async end(): Promise<void> {
    this.#request.end();
    await this.#taken;
  }

  /** Ends an answer that has begun and can't be gone on with. @throws Error when that didn't arrive. */
  async fail(error: unknown): Promise<void> {
    const details = described(error);
    this.#request.addTrailers({
      [ERROR_TYPE]: details.errorType,
      [ERROR_BODY]: Buffer.from(JSON.stringify(details)).toString('base64'),
    });
    await this.end();
  }

  async #takes(): Promise<void> {
    const [response] = (await once(this.#request, 'response')) as [IncomingMessage];
    const said = await text(response);
    const { statusCode = 0 } = response;
    if (statusCode < 300) return;
    this.#request.destroy();
    throw new Error(`the Lambda Runtime API answered ${statusCode} to an answer: ${said}`);
  }
}

/** What AWS's log shows of an error; never what was asked or answered. */
function described(error: unknown): { errorType: string; errorMessage: string; stackTrace: string[] } {
  const { name, message, stack } = error instanceof Error ? error : new Error(String(error));
  return { errorType: `Signpost.${name}`, errorMessage: message, stackTrace: (stack ?? '').split('\n').slice(1) };
}

function header({ headers }: IncomingMessage, name: string): string {
  const value = headers[name];
  if (typeof value !== 'string') throw new Error(`the Lambda Runtime API left out ${name}`);
  return value;
}
