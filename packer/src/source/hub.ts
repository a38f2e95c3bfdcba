/**
 * Models on the Hugging Face Hub, fetched into the cache that Hugging Face's own tools use (`HF_HOME`, `HF_HUB_CACHE`).
 *
 * Only what a model is made of is fetched, never pickle. Every file is checked against the digest the Hub gives for it before it gets its name;
 * what an interrupted run had of a file is kept and continued.
 */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { mkdir, open, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { addAbortSignal, Readable } from 'node:stream';
import {
  downloadFile,
  getHFHubCachePath,
  getRepoFolderName,
  HubApiError,
  type ListFileEntry,
  listFiles,
  modelInfo,
} from '@huggingface/hub';
import { Problem } from '@signpost/contracts';
import type { Watch } from '../progress.ts';
import { checkpointFiles } from './checkpoint-files.ts';

const LOCATION = /^hf:\/\/(?<name>(?:\w[\w.-]*\/)?\w[\w.-]*)(?:@(?<revision>\w[\w.-]*(?:\/\w[\w.-]*)*))?$/;

/** What every request to the Hub says. */
interface Access {
  readonly name: string;
  readonly hubUrl?: string;
  readonly accessToken?: string;
  readonly fetch: typeof fetch;
}

/** One file of a repository, with the digest it must have. */
interface RemoteFile {
  readonly path: string;
  readonly bytes: number;
  /** Names the file in the cache, as with Hugging Face's own tools: sha256 of a large file, git's sha1 of a small one. */
  readonly etag: string;
}

/** Which files of a repository are wanted, of all their paths. @throws Problem where what is needed isn't there */
export type Selection = (paths: readonly string[], location: string) => readonly string[];

/**
 * Fetches what is missing of `hf://ORG/NAME@REVISION` (the default branch without one) and gives its folder. A token is taken from `HF_TOKEN`, another
 * Hub's address from `HF_ENDPOINT`.
 *
 * @param select a checkpoint's files unless given.
 * @throws Problem when the repository can't be reached or read, holds no safetensors, or a file arrives damaged.
 */
export async function fetchRepository(
  location: string,
  { onProgress, signal }: Watch,
  select: Selection = checkpointFiles,
): Promise<string> {
  const { name, revision = 'main' } = LOCATION.exec(location)?.groups ?? {};
  if (name === undefined)
    throw new Problem(`${location} is no repository; expected hf://ORG/NAME or hf://ORG/NAME@REVISION`);
  const access = accessTo(name, signal);
  const asked = <T>(request: Promise<T>): Promise<T> =>
    request.catch((error: unknown) => {
      throw explain(error, location, signal);
    });
  const { sha } = await asked(modelInfo({ ...access, revision, additionalFields: ['sha'] }));
  const files = await asked(repositoryFiles(access, sha, location, select));
  const cache = join(getHFHubCachePath(), getRepoFolderName({ type: 'model', name }));
  const snapshot = join(cache, 'snapshots', sha);
  const total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  let done = 0;
  for (const file of files) {
    const pointer = join(snapshot, file.path);
    if (!existsSync(pointer)) {
      const blob = join(cache, 'blobs', file.etag);
      const onBytes = (bytes: number) => onProgress(done + bytes, total);
      if (!existsSync(blob)) await asked(download(access, sha, file, blob, { onBytes, signal }));
      await mkdir(dirname(pointer), { recursive: true });
      await rm(pointer, { force: true });
      await symlink(relative(dirname(pointer), blob), pointer);
    }
    done += file.bytes;
    onProgress(done, total);
  }
  const ref = join(cache, 'refs', revision);
  await mkdir(dirname(ref), { recursive: true });
  await writeFile(ref, sha);
  return snapshot;
}

function accessTo(name: string, signal: AbortSignal): Access {
  const { HF_TOKEN: accessToken, HF_ENDPOINT: hubUrl } = process.env;
  return {
    name,
    ...(accessToken ? { accessToken } : {}),
    ...(hubUrl ? { hubUrl: hubUrl.replace(/\/+$/, '') } : {}),
    fetch: (input, init) => fetch(input, { ...init, signal }),
  };
}

async function repositoryFiles(
  access: Access,
  revision: string,
  location: string,
  select: Selection,
): Promise<RemoteFile[]> {
  const entries: ListFileEntry[] = [];
  for await (const entry of listFiles({ ...access, repo: access.name, revision, recursive: true })) entries.push(entry);
  const wanted = new Set(
    select(
      entries.map(({ path }) => path),
      location,
    ),
  );
  return entries.filter(({ path }) => wanted.has(path)).map((entry) => remoteFile(entry, location));
}

function remoteFile({ path, size, lfs, oid }: ListFileEntry, location: string): RemoteFile {
  const etag = lfs?.oid ?? oid ?? '';
  // It becomes a file name: what the other side sends must not be a path.
  if (!/^[0-9a-f]{40}([0-9a-f]{24})?$/.test(etag))
    throw new Problem(`${location}: the Hub gives no digest for ${path}`);
  return { path, bytes: lfs?.size ?? size, etag };
}

/** Downloads one file to `blob`, from where an earlier run stopped. */
async function download(
  access: Access,
  revision: string,
  { path, bytes, etag }: RemoteFile,
  blob: string,
  { onBytes, signal }: { onBytes: (bytes: number) => void; signal: AbortSignal },
): Promise<void> {
  const incomplete = `${blob}.incomplete`;
  await mkdir(dirname(blob), { recursive: true });
  const source = await downloadFile({ ...access, repo: access.name, path, revision });
  if (source === null) throw new Problem(`${access.name}: ${path} is listed and can't be found`);
  const file = await open(incomplete, 'a');
  try {
    let have = (await file.stat()).size;
    if (have < bytes) {
      const rest = Readable.fromWeb((have === 0 ? source : source.slice(have)).stream());
      // The library's stream doesn't end by itself when its request is aborted.
      for await (const chunk of addAbortSignal(signal, rest) as AsyncIterable<Uint8Array>) {
        await file.appendFile(chunk);
        have += chunk.byteLength;
        onBytes(have);
      }
    }
    await file.sync();
  } finally {
    await file.close();
  }
  const { size } = await stat(incomplete);
  if (size < bytes)
    throw new Problem(`${access.name}: ${path} ended after ${size} of ${bytes} bytes; run again to go on`);
  if ((await digestOf(incomplete, size, etag.length)) !== etag) {
    await rm(incomplete);
    throw new Problem(`${access.name}: ${path} arrived damaged, its digest is not ${etag}; run again to fetch it anew`);
  }
  await rename(incomplete, blob);
}

/** sha256 of a file (64 digits), or its id as a git object (40 digits). */
async function digestOf(path: string, bytes: number, digits: number): Promise<string> {
  const hash = digits === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${bytes}\0`);
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  return hash.digest('hex');
}

function explain(error: unknown, location: string, signal: AbortSignal): unknown {
  if (error instanceof Problem) return error;
  if (signal.aborted) return signal.reason;
  if (error instanceof HubApiError) {
    const { statusCode: status } = error;
    if (status === 401 || status === 403)
      return new Problem(
        `${location}: access denied (${status}); set HF_TOKEN to a token that may read it, and accept its terms on the Hub if it is gated`,
      );
    if (status === 404)
      return new Problem(`${location}: no such repository or revision, or a private one: set HF_TOKEN`);
  }
  const { message, cause } = error instanceof Error ? error : { message: String(error), cause: undefined };
  const reason = cause instanceof Error ? `${message}: ${cause.message}` : message;
  return new Problem(`${location} can't be fetched: ${reason}; run again to go on where it stopped`, { cause: error });
}
