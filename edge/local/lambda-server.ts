/**
 * AWS Lambda as far as InvokeWithResponseStream goes, to test the edge against: its wire protocol, in front of a function that is told what to write.
 *
 * That the protocol is AWS's own is checked by AWS's own client (lambda.test.ts).
 */
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type LambdaEvent, lambdaEventSchema } from '@signpost/contracts';
import { EventStreamCodec } from '@smithy/core/event-streams';

export interface Invocation {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly event: LambdaEvent;
  /** Resolves when its caller is gone before the function has ended. */
  readonly aborted: Promise<void>;
}

/** What a function does; what it throws is how it fails. */
export type LambdaFunction = (
  invocation: Invocation,
  write: (chunk: string | Uint8Array) => Promise<void>,
) => Promise<void>;

/** A refusal of AWS's. */
export class AwsRefusal extends Error {
  readonly status: number;
  readonly type: string;

  constructor(status: number, type: string, message: string) {
    super(message);
    this.status = status;
    this.type = type;
  }
}

const PATH =
  /^\/2021-11-15\/functions\/(?<name>[^/?]+)\/response-streaming-invocations(?:\?Qualifier=(?<qualifier>.+))?$/;

export class LambdaServer {
  readonly url: string;
  readonly invocations: Invocation[] = [];
  readonly #server: ReturnType<typeof createServer>;
  readonly #codec = new EventStreamCodec(
    (bytes) => new TextDecoder().decode(bytes),
    (text) => new TextEncoder().encode(text),
  );
  /** What next invocations run. */
  handler: LambdaFunction = answering('hello');
  /** Refuses next invocations before they run. */
  refusal: AwsRefusal | undefined;

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
      const { url: path = '', headers } = request;
      const refusal =
        this.refusal ??
        (PATH.test(path) && request.method === 'POST'
          ? undefined
          : new AwsRefusal(404, 'ResourceNotFoundException', `nothing at ${path}`));
      if (refusal !== undefined) {
        response
          .writeHead(refusal.status, { 'content-type': 'application/json', 'x-amzn-errortype': refusal.type })
          .end(
            JSON.stringify({ Reason: 'ReservedFunctionConcurrentInvocationLimitExceeded', message: refusal.message }),
          );
        return;
      }
      const invocation = { path, headers, event: lambdaEventSchema.parse(JSON.parse(body)), aborted };
      this.invocations.push(invocation);
      response.writeHead(200, {
        'content-type': 'application/vnd.amazon.eventstream',
        'x-amzn-requestid': 'b1f5',
        'x-amz-executed-version': '$LATEST',
      });
      const send = (type: string, contentType: string, payload: string | Uint8Array) =>
        new Promise<void>((resolve) => void response.write(this.#frame(type, contentType, payload), () => resolve()));
      try {
        await this.handler(invocation, (chunk) => send('PayloadChunk', 'application/octet-stream', chunk));
        await send('InvokeComplete', 'application/json', '{}');
      } catch (error) {
        const failure = { ErrorCode: 'Unhandled', ErrorDetails: String(error), LogResult: '' };
        await send('InvokeComplete', 'application/json', JSON.stringify(failure));
      }
      response.end();
    });
  }

  static async start(): Promise<LambdaServer> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new LambdaServer(server);
  }

  async close(): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    if (this.#server.listening) await once(this.#server, 'close');
  }

  #frame(type: string, contentType: string, payload: string | Uint8Array): Uint8Array {
    return this.#codec.encode({
      headers: {
        ':message-type': { type: 'string', value: 'event' },
        ':event-type': { type: 'string', value: type },
        ':content-type': { type: 'string', value: contentType },
      },
      body: typeof payload === 'string' ? new TextEncoder().encode(payload) : payload,
    });
  }
}

/** Status, headers and the delimiter, as `awslambda.HttpResponseStream.from` writes them. */
export function prelude(statusCode: number, contentType: string, more: Record<string, string> = {}): string {
  return `${JSON.stringify({ statusCode, headers: { 'content-type': contentType, ...more } })}${'\0'.repeat(8)}`;
}

export function answering(content: string): LambdaFunction {
  return async (_, write) => {
    await write(prelude(200, 'application/json'));
    await write(JSON.stringify({ choices: [{ message: { role: 'assistant', content } }] }));
  };
}
