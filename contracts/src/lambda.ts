/**
 * What the edge and a region in AWS Lambda say to each other: the request as an event, the answer as a stream of bytes.
 *
 * Both are AWS's own formats, so that the same function can stand behind a function URL: the event is that of function URLs and HTTP APIs (payload format
 * 2.0), the answer what `awslambda.HttpResponseStream.from` writes: a prelude in JSON with status and headers, eight NUL bytes, then the body. Sources: AWS
 * Lambda Developer Guide, "Invoking Lambda function URLs" and "Response streaming for Lambda functions"; `aws-lambda-nodejs-runtime-interface-client`, src/HttpResponseStream.js.
 */
import { z } from 'zod';
import { Problem, parseWith } from './problem.ts';

const headersSchema = z.record(z.string(), z.string());

export const lambdaEventSchema = z.object({
  version: z.literal('2.0'),
  rawPath: z.string().startsWith('/'),
  rawQueryString: z.string().default(''),
  headers: headersSchema.default({}),
  requestContext: z.object({ http: z.object({ method: z.string().min(1) }) }),
  body: z.string().optional(),
  isBase64Encoded: z.boolean().default(false),
});
export type LambdaEvent = z.output<typeof lambdaEventSchema>;

const preludeSchema = z.object({
  statusCode: z.number().int().min(200).max(599),
  headers: headersSchema.default({}),
});
export type LambdaPrelude = z.output<typeof preludeSchema>;

const DELIMITER_BYTES = 8;

/** What an answer begins with: before the body's first byte. */
export function encodePrelude(prelude: LambdaPrelude): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(prelude)}${'\0'.repeat(DELIMITER_BYTES)}`);
}

/** Status and a handful of headers. */
const MAX_PRELUDE_BYTES = 64 * 1024;

/** Finds the prelude in an answer's bytes, however they are cut. */
export class PreludeReader {
  #bytes = new Uint8Array();

  /**
   * The prelude, and what of the body came with its last byte; undefined while it is still coming.
   *
   * @throws Problem for an answer that begins with none.
   */
  push(chunk: Uint8Array): { readonly prelude: LambdaPrelude; readonly rest: Uint8Array } | undefined {
    const bytes = new Uint8Array(this.#bytes.byteLength + chunk.byteLength);
    bytes.set(this.#bytes);
    bytes.set(chunk, this.#bytes.byteLength);
    // JSON holds no NUL: the first one is the delimiter's.
    const end = bytes.indexOf(0);
    if (end === -1 || bytes.byteLength < end + DELIMITER_BYTES) {
      if (bytes.byteLength > MAX_PRELUDE_BYTES || (bytes.byteLength > 0 && bytes[0] !== OPENING_BRACE))
        throw noPrelude();
      this.#bytes = bytes;
      return undefined;
    }
    if (bytes.subarray(end, end + DELIMITER_BYTES).some((byte) => byte !== 0)) throw noPrelude();
    return { prelude: parsePrelude(bytes.subarray(0, end)), rest: bytes.subarray(end + DELIMITER_BYTES) };
  }
}

const OPENING_BRACE = 0x7b;

function parsePrelude(bytes: Uint8Array): LambdaPrelude {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw noPrelude();
  }
  return parseWith(preludeSchema, value, "the function's prelude");
}

function noPrelude(): Problem {
  return new Problem(
    'the function answers without status and headers; its handler is to write a prelude (awslambda.HttpResponseStream.from)',
  );
}
