/**
 * The part of S3 that Signpost uses, in memory: for tests where no real server is at hand.
 *
 * Written from the S3 API reference: ranged reads, paged listing, conditional writes (412), multipart uploads with their listings. Keeps one
 * bucket, speaks path style, checks bodies against the signed sha256 but not the signature.
 */
import { createHash, randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export const TEST_BUCKET = 'signpost-test';

interface Stored {
  readonly data: Buffer;
  readonly etag: string;
  readonly modified: Date;
}

interface Upload {
  readonly key: string;
  readonly initiated: Date;
  readonly parts: Map<number, Stored>;
}

export interface S3RequestInfo {
  readonly method: string;
  readonly key: string;
  readonly query: URLSearchParams;
  readonly bytes: number;
}

export interface S3ServerOptions {
  /** Entries on one page of a listing. */
  readonly pageSize?: number;
  /** Called for each request; a status refuses it. */
  readonly onRequest?: (request: S3RequestInfo) => number | undefined;
}

/** An answer other than success. */
class Refusal extends Error {
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string) {
    super(code);
    this.status = status;
    this.code = code;
  }
}

interface Answer {
  readonly status?: number;
  readonly headers?: Record<string, string>;
  readonly body?: Uint8Array | string;
}

export class S3Server {
  readonly #objects = new Map<string, Stored>();
  readonly #uploads = new Map<string, Upload>();
  readonly #pageSize: number;
  readonly #onRequest: (request: S3RequestInfo) => number | undefined;
  readonly #http = createServer((request, response) => void this.#serve(request, response));

  constructor({ pageSize = 1000, onRequest = () => undefined }: S3ServerOptions = {}) {
    this.#pageSize = pageSize;
    this.#onRequest = onRequest;
  }

  /** Its address, for AWS_ENDPOINT_URL_S3. */
  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#http.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#http.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    this.#http.closeAllConnections();
    await new Promise((resolve) => this.#http.close(resolve));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk);
      const { status = 200, headers = {}, body } = this.#answer(request, Buffer.concat(chunks));
      response.writeHead(status, headers);
      response.end(request.method === 'HEAD' ? undefined : body);
    } catch (error) {
      const { status, code } = error instanceof Refusal ? error : new Refusal(500, 'InternalError');
      response.writeHead(status, { 'content-type': 'application/xml' });
      response.end(
        request.method === 'HEAD' ? undefined : `<Error><Code>${code}</Code><Message>${error}</Message></Error>`,
      );
    }
  }

  #answer({ method = '', url = '/', headers }: IncomingMessage, body: Buffer): Answer {
    const { pathname, searchParams: query } = new URL(url, 'http://s3');
    const [bucket = '', ...rest] = pathname.slice(1).split('/').map(decodeURIComponent);
    const key = rest.join('/');
    const status = this.#onRequest({ method, key, query, bytes: body.byteLength });
    if (status !== undefined) throw new Refusal(status, status === 403 ? 'AccessDenied' : 'Refused');
    if (bucket !== TEST_BUCKET) throw new Refusal(404, 'NoSuchBucket');
    const digest = headers['x-amz-content-sha256'];
    if (digest !== createHash('sha256').update(body).digest('hex')) throw new Refusal(400, 'XAmzContentSHA256Mismatch');

    if (key === '') return query.has('uploads') ? this.#listUploads(query) : this.#listObjects(query);
    if (query.has('uploads')) return this.#createUpload(key);
    const id = query.get('uploadId');
    if (id !== null) return this.#answerUpload(method, id, query, headers, body);
    switch (method) {
      case 'HEAD':
      case 'GET':
        return this.#get(key, headers.range);
      case 'PUT':
        return this.#put(key, body, md5(body), headers);
      case 'DELETE':
        this.#objects.delete(key);
        return { status: 204 };
      default:
        throw new Refusal(405, 'MethodNotAllowed');
    }
  }

  #get(key: string, range: string | undefined): Answer {
    const found = this.#objects.get(key);
    if (found === undefined) throw new Refusal(404, 'NoSuchKey');
    const { data, etag } = found;
    const headers = { etag, 'last-modified': found.modified.toUTCString() };
    if (range === undefined) return { headers: { ...headers, 'content-length': String(data.byteLength) }, body: data };
    const [start = 0, end = 0] = range.replace('bytes=', '').split('-').map(Number);
    if (start >= data.byteLength) throw new Refusal(416, 'InvalidRange');
    const part = data.subarray(start, end + 1);
    const contentRange = `bytes ${start}-${start + part.byteLength - 1}/${data.byteLength}`;
    return { status: 206, headers: { ...headers, 'content-range': contentRange }, body: part };
  }

  #put(key: string, data: Buffer, etag: string, headers: IncomingMessage['headers']): Answer {
    const current = this.#objects.get(key)?.etag;
    const wanted = headers['if-match'];
    if (wanted !== undefined && current === undefined) throw new Refusal(404, 'NoSuchKey');
    if ((wanted !== undefined && wanted !== current) || (headers['if-none-match'] === '*' && current !== undefined))
      throw new Refusal(412, 'PreconditionFailed');
    this.#objects.set(key, { data, etag, modified: new Date() });
    return { headers: { etag } };
  }

  #createUpload(key: string): Answer {
    const id = randomUUID();
    this.#uploads.set(id, { key, initiated: new Date(), parts: new Map() });
    return xml('InitiateMultipartUploadResult', `<UploadId>${id}</UploadId>`);
  }

  #answerUpload(
    method: string,
    id: string,
    query: URLSearchParams,
    headers: IncomingMessage['headers'],
    body: Buffer,
  ): Answer {
    const upload = this.#uploads.get(id);
    if (upload === undefined) throw new Refusal(404, 'NoSuchUpload');
    switch (method) {
      case 'PUT': {
        const part = { data: body, etag: md5(body), modified: new Date() };
        upload.parts.set(Number(query.get('partNumber')), part);
        return { headers: { etag: part.etag } };
      }
      case 'GET':
        return this.#listParts(upload, query);
      case 'POST':
        return this.#complete(id, upload, headers, body.toString());
      case 'DELETE':
        this.#uploads.delete(id);
        return { status: 204 };
      default:
        throw new Refusal(405, 'MethodNotAllowed');
    }
  }

  #complete(id: string, { key, parts }: Upload, headers: IncomingMessage['headers'], request: string): Answer {
    const named = [...request.matchAll(/<Part>(.*?)<\/Part>/gs)].map(([, entry = '']) => ({
      part: parts.get(Number(/<PartNumber>(\d+)</.exec(entry)?.[1])),
      etag: /<ETag>(.*?)</.exec(entry)?.[1]?.replaceAll('&quot;', '"'),
    }));
    const data = named.map(({ part, etag }) => {
      if (part === undefined || part.etag !== etag) throw new Refusal(400, 'InvalidPart');
      return part.data;
    });
    const etag = `${md5(Buffer.from(named.map((entry) => entry.etag).join())).slice(0, -1)}-${named.length}"`;
    this.#put(key, Buffer.concat(data), etag, headers);
    this.#uploads.delete(id);
    return xml('CompleteMultipartUploadResult', `<ETag>${etag.replaceAll('"', '&quot;')}</ETag>`);
  }

  #listObjects(query: URLSearchParams): Answer {
    const [prefix, after] = [query.get('prefix') ?? '', query.get('continuation-token') ?? ''];
    const keys = [...this.#objects.keys()].filter((key) => key.startsWith(prefix) && key > after).sort();
    const entries = keys.slice(0, this.#pageSize).map((key) => {
      const { data, modified } = this.#objects.get(key) ?? { data: Buffer.alloc(0), modified: new Date() };
      return `<Contents><Key>${key}</Key><Size>${data.byteLength}</Size><LastModified>${modified.toISOString()}</LastModified></Contents>`;
    });
    const isMore = keys.length > this.#pageSize;
    const next = isMore ? `<NextContinuationToken>${keys[this.#pageSize - 1]}</NextContinuationToken>` : '';
    return xml('ListBucketResult', `<IsTruncated>${isMore}</IsTruncated>${next}${entries.join('')}`);
  }

  #listUploads(query: URLSearchParams): Answer {
    const [prefix, after] = [query.get('prefix') ?? '', query.get('upload-id-marker') ?? ''];
    // By id alone, which is an order too.
    const all = [...this.#uploads].filter(([id, { key }]) => key.startsWith(prefix) && id > after).sort();
    const entries = all
      .slice(0, this.#pageSize)
      .map(
        ([id, { key, initiated }]) =>
          `<Upload><Key>${key}</Key><UploadId>${id}</UploadId><Initiated>${initiated.toISOString()}</Initiated></Upload>`,
      );
    const isMore = all.length > this.#pageSize;
    const next = isMore ? `<NextUploadIdMarker>${all[this.#pageSize - 1]?.[0]}</NextUploadIdMarker>` : '';
    return xml('ListMultipartUploadsResult', `<IsTruncated>${isMore}</IsTruncated>${next}${entries.join('')}`);
  }

  #listParts({ parts }: Upload, query: URLSearchParams): Answer {
    const after = Number(query.get('part-number-marker') ?? 0);
    const all = [...parts].filter(([number]) => number > after).sort(([a], [b]) => a - b);
    const entries = all
      .slice(0, this.#pageSize)
      .map(
        ([number, { data, etag }]) =>
          `<Part><PartNumber>${number}</PartNumber><Size>${data.byteLength}</Size><ETag>${etag.replaceAll('"', '&quot;')}</ETag></Part>`,
      );
    const isMore = all.length > this.#pageSize;
    // Named after the last page, too.
    const next = `<NextPartNumberMarker>${entries.length === 0 ? 0 : all[entries.length - 1]?.[0]}</NextPartNumberMarker>`;
    return xml('ListPartsResult', `<IsTruncated>${isMore}</IsTruncated>${next}${entries.join('')}`);
  }
}

function xml(root: string, content: string): Answer {
  const body = `<?xml version="1.0" encoding="UTF-8"?><${root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${content}</${root}>`;
  return { headers: { 'content-type': 'application/xml' }, body };
}

function md5(data: Uint8Array): string {
  return `"${createHash('md5').update(data).digest('hex')}"`;
}
