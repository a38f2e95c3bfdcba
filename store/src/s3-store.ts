/**
 * Object storage that speaks S3: AWS, Cloudflare R2, and servers of one's own.
 *
 * Credentials, region and endpoint are found by the AWS SDK, as everywhere (AWS_ACCESS_KEY_ID …, AWS_PROFILE, roles; AWS_REGION;
 * AWS_ENDPOINT_URL_S3). Conditional writes are S3's own If-Match and If-None-Match.
 */
import {
  AbortMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  type MultipartUpload,
  PutObjectCommand,
  paginateListObjectsV2,
  S3Client,
} from '@aws-sdk/client-s3';
import { Problem } from '@signpost/contracts';
import {
  checkKey,
  checkRange,
  type ListedObject,
  type ObjectInfo,
  ObjectMissing,
  type ObjectStore,
  type StoredObject,
  type WriteCondition,
  WriteConflict,
} from './object-store.ts';
import { isConflict, isMissing, isUploadGone, s3Problem } from './s3-errors.ts';
import { cutParts, type UploadCondition, uploadParts } from './s3-upload.ts';

/** The same in every run, so that an interrupted upload's parts begin where this one's do. 10,000 of them are 156 GiB. */
const PART_BYTES = 16 * 2 ** 20;

export interface S3Options {
  /** Objects above this size are uploaded in parts of it; S3 takes no smaller parts than 5 MiB. */
  readonly partBytes?: number;
}

export class S3Store implements ObjectStore {
  readonly url: string;
  readonly #bucket: string;
  /** Empty, or ends in a slash. */
  readonly #prefix: string;
  readonly #partBytes: number;
  readonly #client: S3Client;

  constructor(bucket: string, prefix: string, { partBytes = PART_BYTES }: S3Options = {}) {
    this.#bucket = bucket;
    this.#prefix = prefix === '' ? '' : `${prefix}/`;
    this.url = `s3://${bucket}${prefix === '' ? '' : `/${prefix}`}`;
    this.#partBytes = partBytes;
    this.#client = new S3Client({
      // A server of one's own seldom has a DNS name for each bucket.
      forcePathStyle: (process.env.AWS_ENDPOINT_URL_S3 ?? process.env.AWS_ENDPOINT_URL) !== undefined,
      // The request's signature covers the body's sha256 already, and not every store knows the checksum headers beyond it.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
    });
  }

  async head(key: string): Promise<ObjectInfo | undefined> {
    try {
      const { ContentLength, ETag } = await this.#client.send(new HeadObjectCommand(this.#object(key)));
      return { bytes: ContentLength ?? 0, etag: ETag ?? '' };
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw s3Problem(error, `${this.url}/${key}`, 'look up');
    }
  }

  async read(key: string, range?: { readonly start: number; readonly end: number }): Promise<StoredObject> {
    // HTTP has no empty range, and a store may cut one that is too long short without a word.
    if (range !== undefined) {
      const found = await this.head(key);
      if (found === undefined) throw new ObjectMissing(this.url, key);
      checkRange(this.url, key, range.start, range.end, found.bytes);
      if (range.start === range.end) return { ...found, data: new Uint8Array() };
    }
    try {
      const { Body, ETag, ContentRange, ContentLength } = await this.#client.send(
        new GetObjectCommand({
          ...this.#object(key),
          ...(range === undefined ? {} : { Range: `bytes=${range.start}-${range.end - 1}` }),
        }),
      );
      const data = (await Body?.transformToByteArray()) ?? new Uint8Array();
      const expected = range === undefined ? ContentLength : range.end - range.start;
      if (data.byteLength !== expected)
        throw new Problem(`${this.url}/${key}: got ${data.byteLength} of ${expected} bytes; try again`);
      const bytes = range === undefined ? data.byteLength : Number(ContentRange?.split('/')[1] ?? Number.NaN);
      return { bytes, etag: ETag ?? '', data };
    } catch (error) {
      if (isMissing(error)) throw new ObjectMissing(this.url, key);
      throw s3Problem(error, `${this.url}/${key}`, 'read');
    }
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
        const { ETag } = await this.#client.send(
          new PutObjectCommand({ ...object, Body, ...commandCondition(condition) }),
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
        { client: this.#client, bucket: this.#bucket, key: object.Key },
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
      for await (const page of paginateListObjectsV2({ client: this.#client }, request)) {
        for (const { Key, Size, LastModified } of page.Contents ?? []) {
          if (Key === undefined || LastModified === undefined) continue;
          found.push({ key: Key.slice(this.#prefix.length), bytes: Size ?? 0, modified: LastModified });
        }
      }
    } catch (error) {
      throw s3Problem(error, this.url, 'list');
    }
    return found;
  }

  async delete(key: string): Promise<void> {
    try {
      await this.#client.send(new DeleteObjectCommand(this.#object(key)));
    } catch (error) {
      throw s3Problem(error, `${this.url}/${key}`, 'delete');
    }
  }

  async sweep(before: Date): Promise<string[]> {
    const swept: string[] = [];
    try {
      for (const { Key = '', UploadId, Initiated } of await this.#uploads(this.#prefix)) {
        if (Initiated === undefined || Initiated >= before) continue;
        await this.#client.send(new AbortMultipartUploadCommand({ Bucket: this.#bucket, Key, UploadId }));
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
      const page = await this.#client.send(
        new ListMultipartUploadsCommand({ Bucket: this.#bucket, Prefix, ...markers }),
      );
      found.push(...(page.Uploads ?? []));
      markers = { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker };
      isMore = page.IsTruncated === true;
    }
    return found;
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
