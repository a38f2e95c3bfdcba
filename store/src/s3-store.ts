/**
 * Object storage that speaks S3: AWS, Cloudflare R2, and servers of one's own.
 *
 * Credentials, region and endpoint are found by the AWS SDK, as everywhere (AWS_ACCESS_KEY_ID …, AWS_PROFILE, roles; AWS_REGION;
 * AWS_ENDPOINT_URL_S3). Conditional writes are S3's own If-Match and If-None-Match.
 */
import { addAbortSignal, Readable } from 'node:stream';
import {
  AbortMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  type MultipartUpload,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import {
  type ByteRange,
  checkKey,
  checkRange,
  type ListedObject,
  type ObjectInfo,
  ObjectMissing,
  type ObjectStore,
  type PartsTaker,
  type ReadOptions,
  type StoredObject,
  type WriteCondition,
  WriteConflict,
} from './object-store.ts';
import {
  type Attempt,
  BrokenAnswer,
  collect,
  RETRY_DEFAULTS,
  type RetryPolicy,
  retrying,
  retryingRead,
} from './retry.ts';
import { isConflict, isMissing, isOutside, isUploadGone, s3Problem } from './s3-errors.ts';
import { cutParts, type UploadCondition, uploadParts } from './s3-upload.ts';

/** The same in every run, so that an interrupted upload's parts begin where this one's do. 10,000 of them are 156 GiB. */
const PART_BYTES = 16 * 2 ** 20;

export interface S3Options {
  /** Objects above this size are uploaded in parts of it; S3 takes no smaller parts than 5 MiB. */
  readonly partBytes?: number;
  readonly retries?: RetryPolicy;
}

export class S3Store implements ObjectStore {
  readonly url: string;
  readonly #bucket: string;
  /** Empty, or ends in a slash. */
  readonly #prefix: string;
  readonly #partBytes: number;
  readonly #retries: RetryPolicy;
  readonly #client: S3Client;

  constructor(bucket: string, prefix: string, { partBytes = PART_BYTES, retries = RETRY_DEFAULTS }: S3Options = {}) {
    this.#bucket = bucket;
    this.#prefix = prefix === '' ? '' : `${prefix}/`;
    this.url = `s3://${bucket}${prefix === '' ? '' : `/${prefix}`}`;
    this.#partBytes = partBytes;
    this.#retries = retries;
    this.#client = new S3Client({
      // Ours are above it (retry.ts), and would be multiplied by its own.
      maxAttempts: 1,
      // A server of one's own seldom has a DNS name for each bucket.
      forcePathStyle: (process.env.AWS_ENDPOINT_URL_S3 ?? process.env.AWS_ENDPOINT_URL) !== undefined,
      // The request's signature covers the body's sha256 already, and not every store knows the checksum headers beyond it.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
    });
  }

  async head(key: string, { signal }: Pick<ReadOptions, 'signal'> = {}): Promise<ObjectInfo | undefined> {
    try {
      const { ContentLength, ETag } = await retryingRead(this.#retries, signal, (attempt) =>
        this.#client.send(new HeadObjectCommand(this.#object(key)), { abortSignal: attempt.signal }),
      );
      return { bytes: ContentLength ?? 0, etag: ETag ?? '' };
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw s3Problem(error, `${this.url}/${key}`, 'look up');
    }
  }

  async read(key: string, { range, signal, parts }: ReadOptions = {}): Promise<StoredObject> {
    // HTTP has no empty range.
    if (range !== undefined && range.end <= range.start) {
      const found = await this.#inside(key, range, signal);
      return { ...found, data: new Uint8Array() };
    }
    try {
      const stored = await retryingRead(this.#retries, signal, (attempt) => this.#get(key, range, attempt, parts));
      if (range !== undefined) checkRange(this.url, key, range, stored.bytes);
      return stored;
    } catch (error) {
      if (isMissing(error)) throw new ObjectMissing(this.url, key);
      if (range !== undefined && isOutside(error)) await this.#inside(key, range, signal);
      throw s3Problem(error, `${this.url}/${key}`, 'read');
    }
  }

  async #get(
    key: string,
    range: ByteRange | undefined,
    attempt: Attempt,
    parts: PartsTaker | undefined,
  ): Promise<StoredObject> {
    const { Body, ETag, ContentRange, ContentLength } = await this.#client.send(
      new GetObjectCommand({
        ...this.#object(key),
        ...(range === undefined ? {} : { Range: `bytes=${range.start}-${range.end - 1}` }),
      }),
      { abortSignal: attempt.signal },
    );
    attempt.begun();
    const total = range === undefined ? ContentLength : Number(/\/(\d+)$/.exec(ContentRange ?? '')?.[1] ?? Number.NaN);
    if (total === undefined || Number.isNaN(total))
      throw new BrokenAnswer('the store did not say how large the object is');
    // A store cuts a range that is too long short without a word; the caller sees by the total.
    const expected = range === undefined ? total : Math.min(range.end, total) - range.start;
    // Once the answer has begun, the SDK no longer minds the signal.
    const body = Body instanceof Readable ? addAbortSignal(attempt.signal, Body) : undefined;
    const data = body === undefined ? new Uint8Array() : await collect(body, expected, attempt, parts);
    return { bytes: total, etag: ETag ?? '', data };
  }

  /** @throws ObjectMissing when there is no object; Problem when the range isn't inside it. */
  async #inside(key: string, range: ByteRange, signal: AbortSignal | undefined): Promise<ObjectInfo> {
    const found = await this.head(key, { signal });
    if (found === undefined) throw new ObjectMissing(this.url, key);
    checkRange(this.url, key, range, found.bytes);
    return found;
  }

  async write(
    key: string,
    data: Uint8Array | AsyncIterable<Uint8Array>,
    condition?: WriteCondition,
  ): Promise<ObjectInfo> {
    const object = this.#object(key);
    let bytes = 0;
    const count = (part: Uint8Array) => {
      bytes += part.byteLength;
      return part;
    };
    try {
      const parts = cutParts(data, this.#partBytes);
      const [first, second] = [await parts.next(), await parts.next()];
      if (first.done === true || second.done === true) {
        const Body = count(first.done === true ? new Uint8Array() : first.value);
        const { ETag } = await this.#retried((client) =>
          client.send(new PutObjectCommand({ ...object, Body, ...commandCondition(condition) })),
        );
        return { bytes, etag: ETag ?? '' };
      }
      const [one, two] = [first.value, second.value];
      const all = async function* () {
        yield count(one);
        yield count(two);
        for await (const part of parts) yield count(part);
      };
      const isWriteOnce = condition !== undefined && 'ifNoneMatch' in condition;
      const etag = await uploadParts(
        { send: (request) => this.#retried(request), bucket: this.#bucket, key: object.Key },
        all(),
        commandCondition(condition),
        isWriteOnce ? { unfinished: await this.#unfinished(object.Key) } : undefined,
      );
      return { bytes, etag };
    } catch (error) {
      // Another writer of the same bytes may have completed the upload that both had a part in.
      const lost = isConflict(error) || (isUploadGone(error) && (await this.head(key)) !== undefined);
      const isOverNothing = condition !== undefined && 'ifMatch' in condition && isMissing(error);
      if (condition !== undefined && (lost || isOverNothing)) throw new WriteConflict(this.url, key);
      throw s3Problem(error, `${this.url}/${key}`, 'write');
    }
  }

  async list(prefix: string): Promise<ListedObject[]> {
    const found: ListedObject[] = [];
    try {
      const request = { Bucket: this.#bucket, Prefix: `${this.#prefix}${prefix}` };
      let ContinuationToken: string | undefined;
      do {
        const page = await this.#retried((client) =>
          client.send(new ListObjectsV2Command({ ...request, ContinuationToken })),
        );
        for (const { Key, Size, LastModified } of page.Contents ?? []) {
          if (Key === undefined || LastModified === undefined) continue;
          found.push({ key: Key.slice(this.#prefix.length), bytes: Size ?? 0, modified: LastModified });
        }
        ContinuationToken = page.NextContinuationToken;
      } while (ContinuationToken !== undefined);
    } catch (error) {
      throw s3Problem(error, this.url, 'list');
    }
    return found;
  }

  async delete(key: string): Promise<void> {
    try {
      await this.#retried((client) => client.send(new DeleteObjectCommand(this.#object(key))));
    } catch (error) {
      throw s3Problem(error, `${this.url}/${key}`, 'delete');
    }
  }

  async sweep(before: Date): Promise<string[]> {
    const swept: string[] = [];
    try {
      for (const { Key = '', UploadId, Initiated } of await this.#uploads(this.#prefix)) {
        if (Initiated === undefined || Initiated >= before) continue;
        await this.#retried((client) =>
          client.send(new AbortMultipartUploadCommand({ Bucket: this.#bucket, Key, UploadId })),
        );
        swept.push(Key.slice(this.#prefix.length));
      }
    } catch (error) {
      throw s3Problem(error, this.url, 'abort unfinished uploads of');
    }
    return swept;
  }

  /** The newest unfinished upload of a whole key. */
  async #unfinished(key: string): Promise<MultipartUpload | undefined> {
    const uploads = (await this.#uploads(key)).filter(({ Key }) => Key === key);
    const age = ({ Initiated }: MultipartUpload) => Initiated?.getTime() ?? 0;
    return uploads.sort((a, b) => age(b) - age(a))[0];
  }

  async #uploads(Prefix: string): Promise<MultipartUpload[]> {
    const found: MultipartUpload[] = [];
    let markers = {};
    for (let isMore = true; isMore; ) {
      const page = await this.#retried((client) =>
        client.send(new ListMultipartUploadsCommand({ Bucket: this.#bucket, Prefix, ...markers })),
      );
      found.push(...(page.Uploads ?? []));
      markers = { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker };
      isMore = page.IsTruncated === true;
    }
    return found;
  }

  #retried<T>(request: (client: S3Client) => Promise<T>): Promise<T> {
    return retrying(this.#retries, undefined, () => request(this.#client));
  }

  #object(key: string): { readonly Bucket: string; readonly Key: string } {
    checkKey(key);
    return { Bucket: this.#bucket, Key: `${this.#prefix}${key}` };
  }
}

function commandCondition(condition: WriteCondition | undefined): UploadCondition {
  if (condition === undefined) return {};
  return 'ifMatch' in condition ? { IfMatch: condition.ifMatch } : { IfNoneMatch: '*' };
}
