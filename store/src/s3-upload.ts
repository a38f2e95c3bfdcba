/**
 * Multipart uploads: large objects in parts of one size, several at once, and resumed where an earlier run stopped.
 *
 * Memory holds `PARALLEL_PARTS` parts and the one being filled, whatever the object's size.
 */
import { createHash } from 'node:crypto';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  ListPartsCommand,
  type MultipartUpload,
  type S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { Problem } from '@signpost/contracts';
import { isConflict } from './s3-errors.ts';

const PARALLEL_PARTS = 4;
/** S3's own bound. */
const MAX_PARTS = 10_000;

export interface UploadTarget {
  /** Sends a request, again where what failed may pass. */
  readonly send: <T>(request: (client: S3Client) => Promise<T>) => Promise<T>;
  readonly bucket: string;
  /** Whole key, with the store's prefix. */
  readonly key: string;
}

/** The condition as S3's commands take it. */
export type UploadCondition = { readonly IfMatch?: string; readonly IfNoneMatch?: '*' };

interface Part {
  readonly bytes: number;
  readonly etag: string;
}

/**
 * Uploads `parts` (all of one size but the last) and completes them under `condition`. With `resume`, parts that an unfinished upload of
 * the same key holds already are kept where their size and MD5 are those of this run's bytes, and a failed upload stays to be resumed;
 * without it, a failed one is aborted, so that it isn't billed.
 *
 * @returns the object's ETag.
 */
export async function uploadParts(
  target: UploadTarget,
  parts: AsyncIterable<Uint8Array>,
  condition: UploadCondition,
  resume: { readonly unfinished: MultipartUpload | undefined } | undefined,
): Promise<string> {
  const { send, bucket, key } = target;
  const object = { Bucket: bucket, Key: key };
  const known = resume?.unfinished?.UploadId;
  const UploadId = known ?? (await send((client) => client.send(new CreateMultipartUploadCommand(object)))).UploadId;
  const upload = { ...object, UploadId };
  try {
    const present = known === undefined ? new Map<number, Part>() : await listParts(target, known);
    const Parts = await inParallel(parts, async (data, index) => {
      const PartNumber = index + 1;
      if (PartNumber > MAX_PARTS)
        throw new Problem(`${key} is too large for one object: at most ${MAX_PARTS} parts of this size`);
      const kept = present.get(PartNumber);
      if (kept?.bytes === data.byteLength && kept.etag === md5Tag(data)) return { PartNumber, ETag: kept.etag };
      const { ETag } = await send((client) =>
        client.send(new UploadPartCommand({ ...upload, PartNumber, Body: data })),
      );
      return { PartNumber, ETag };
    });
    const { ETag } = await send((client) =>
      client.send(new CompleteMultipartUploadCommand({ ...upload, MultipartUpload: { Parts }, ...condition })),
    );
    return ETag ?? '';
  } catch (error) {
    // Whoever lost to another writer has nothing to resume: the object is there.
    if (resume === undefined || isConflict(error))
      await send((client) => client.send(new AbortMultipartUploadCommand(upload))).catch(() => undefined);
    throw error;
  }
}

async function listParts({ send, bucket, key }: UploadTarget, UploadId: string): Promise<Map<number, Part>> {
  const found = new Map<number, Part>();
  let PartNumberMarker: string | undefined;
  // Some servers name a next part after the last page, too; `paginateListParts` would ask for it for ever.
  for (let isMore = true; isMore; ) {
    const request = { Bucket: bucket, Key: key, UploadId, PartNumberMarker };
    const page = await send((client) => client.send(new ListPartsCommand(request)));
    for (const { PartNumber, Size, ETag } of page.Parts ?? []) {
      if (PartNumber !== undefined && Size !== undefined && ETag !== undefined)
        found.set(PartNumber, { bytes: Size, etag: ETag });
    }
    PartNumberMarker = page.NextPartNumberMarker;
    isMore = page.IsTruncated === true;
  }
  return found;
}

/** A part's ETag where the store doesn't encrypt with keys of its own; where it does, nothing matches and the part is sent again. */
function md5Tag(data: Uint8Array): string {
  return `"${createHash('md5').update(data).digest('hex')}"`;
}

/** Results in the order of `items`. The first failure stops the reading, and is thrown when what had begun has ended. */
async function inParallel<In, Out>(
  items: AsyncIterable<In>,
  work: (item: In, index: number) => Promise<Out>,
): Promise<Out[]> {
  const results: Out[] = [];
  const failures: unknown[] = [];
  const running = new Set<Promise<void>>();
  let begun = 0;
  try {
    for await (const item of items) {
      const index = begun++;
      const task = work(item, index)
        .then(
          (result) => {
            results[index] = result;
          },
          (error: unknown) => {
            failures.push(error);
          },
        )
        .finally(() => running.delete(task));
      running.add(task);
      if (running.size >= PARALLEL_PARTS) await Promise.race(running);
      if (failures.length > 0) break;
    }
  } finally {
    await Promise.all(running);
  }
  if (failures.length > 0) throw failures[0];
  return results;
}

/** A byte stream cut into parts of `partBytes`; the last may be shorter. */
export async function* cutParts(
  data: Uint8Array | AsyncIterable<Uint8Array>,
  partBytes: number,
): AsyncGenerator<Uint8Array> {
  if (data instanceof Uint8Array) {
    for (let at = 0; at < data.byteLength; at += partBytes) yield data.subarray(at, at + partBytes);
    return;
  }
  let part = new Uint8Array(partBytes);
  let filled = 0;
  for await (const chunk of data) {
    for (let at = 0; at < chunk.byteLength; ) {
      const piece = chunk.subarray(at, at + partBytes - filled);
      part.set(piece, filled);
      at += piece.byteLength;
      filled += piece.byteLength;
      if (filled < partBytes) continue;
      yield part;
      part = new Uint8Array(partBytes);
      filled = 0;
    }
  }
  if (filled > 0) yield part.subarray(0, filled);
}
