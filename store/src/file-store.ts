/**
 * Object storage in a folder: what one machine, a test, and the demo use.
 *
 * Writes go to a temporary name, are synced and renamed. A conditional write holds a lock file for the moment between check and rename.
 */
import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Problem } from '@signpost/contracts';
import {
  checkKey,
  checkRange,
  type ListedObject,
  type ObjectInfo,
  ObjectMissing,
  type ObjectStore,
  type ReadOptions,
  type StoredObject,
  type WriteCondition,
  WriteConflict,
} from './object-store.ts';

const LOCK_WAIT_MS = 5_000;
const LOCK_POLL_MS = 10;
const TEMPORARY = /\.(tmp|lock)$/;
const UNFINISHED = /^(?<key>.+)\.[0-9a-f-]{36}\.tmp$/;

export class FileStore implements ObjectStore {
  readonly url: string;
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
    this.url = `file://${root}`;
  }

  async head(key: string): Promise<ObjectInfo | undefined> {
    try {
      return info(await stat(this.#path(key), { bigint: true }));
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  async read(key: string, { range, signal }: ReadOptions = {}): Promise<StoredObject> {
    signal?.throwIfAborted();
    const file = await this.#open(key);
    try {
      const found = info(await file.stat({ bigint: true }));
      const { start, end } = range ?? { start: 0, end: found.bytes };
      checkRange(this.url, key, { start, end }, found.bytes);
      const data = await readFully(file, start, end, `${this.url}/${key}`, signal);
      return { ...found, data };
    } finally {
      await file.close();
    }
  }

  async write(
    key: string,
    data: Uint8Array | AsyncIterable<Uint8Array>,
    condition?: WriteCondition,
  ): Promise<ObjectInfo> {
    const path = this.#path(key);
    await mkdir(dirname(path), { recursive: true });
    const temporary = `${path}.${randomUUID()}.tmp`;
    try {
      await writeSynced(temporary, data);
      if (condition === undefined) await rename(temporary, path);
      else await this.#locked(path, () => this.#renameIf(key, temporary, condition));
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
    await syncFolder(dirname(path));
    return info(await stat(path, { bigint: true }));
  }

  async list(prefix: string): Promise<ListedObject[]> {
    const keys = (await this.#files()).filter((key) => key.startsWith(prefix) && !TEMPORARY.test(key)).sort();
    const found: ListedObject[] = [];
    for (const key of keys) {
      const modified = await this.#modified(key);
      if (modified !== undefined) found.push({ key, ...modified });
    }
    return found;
  }

  async delete(key: string): Promise<void> {
    await rm(this.#path(key), { force: true });
  }

  async sweep(before: Date): Promise<string[]> {
    const swept: string[] = [];
    for (const name of await this.#files()) {
      const key = UNFINISHED.exec(name)?.groups?.key;
      if (key === undefined) continue;
      const found = await this.#modified(name);
      if (found === undefined || found.modified >= before) continue;
      await rm(join(this.#root, name), { force: true });
      swept.push(key);
    }
    return swept;
  }

  #path(key: string): string {
    checkKey(key);
    if (TEMPORARY.test(key))
      throw new Problem(`"${key}" is no object key: names that end in .tmp or .lock are the store's own`);
    return join(this.#root, key);
  }

  /** Paths of all files, relative to the root. */
  async #files(): Promise<string[]> {
    const entries = await readdir(this.#root, { recursive: true, withFileTypes: true }).catch((error: unknown) => {
      if (isMissing(error)) return [];
      throw error;
    });
    return entries
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(this.#root.length + 1));
  }

  /** Undefined when it was removed since it was listed. */
  async #modified(name: string): Promise<{ readonly bytes: number; readonly modified: Date } | undefined> {
    try {
      const { size, mtime } = await stat(join(this.#root, name));
      return { bytes: size, modified: mtime };
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  async #open(key: string): Promise<FileHandle> {
    try {
      return await open(this.#path(key), constants.O_RDONLY);
    } catch (error) {
      if (isMissing(error)) throw new ObjectMissing(this.url, key);
      throw error;
    }
  }

  async #renameIf(key: string, temporary: string, condition: WriteCondition): Promise<void> {
    const current = await this.head(key);
    const holds = 'ifMatch' in condition ? current?.etag === condition.ifMatch : current === undefined;
    if (!holds) throw new WriteConflict(this.url, key);
    await rename(temporary, this.#path(key));
  }

  async #locked(path: string, action: () => Promise<void>): Promise<void> {
    const lock = `${path}.lock`;
    const deadline = Date.now() + LOCK_WAIT_MS;
    while (!(await tryLock(lock))) {
      if (await isAbandoned(lock)) await rm(lock, { force: true });
      else if (Date.now() > deadline)
        throw new Problem(`${lock} has been held for ${LOCK_WAIT_MS} ms; remove it if no publisher is running`);
      else await sleep(LOCK_POLL_MS * (0.5 + Math.random()));
    }
    try {
      await action();
    } finally {
      await rm(lock, { force: true });
    }
  }
}

/** Bytes `start` … `end - 1` of a file. */
export async function readFully(
  file: FileHandle,
  start: number,
  end: number,
  where: string,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  const data = new Uint8Array(end - start);
  for (let at = 0; at < data.byteLength; ) {
    signal?.throwIfAborted();
    const { bytesRead } = await file.read(data, at, data.byteLength - at, start + at);
    if (bytesRead === 0) throw new Problem(`${where} was cut short while it was read`);
    at += bytesRead;
  }
  return data;
}

async function tryLock(lock: string): Promise<boolean> {
  try {
    const file = await open(lock, 'wx');
    await file.writeFile(String(process.pid));
    await file.close();
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false;
    throw error;
  }
}

/** Whether the process that wrote the lock is gone. */
async function isAbandoned(lock: string): Promise<boolean> {
  const pid = Number(await readFile(lock, 'utf8').catch(() => ''));
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'ESRCH';
  }
}

async function writeSynced(path: string, data: Uint8Array | AsyncIterable<Uint8Array>): Promise<void> {
  const file = await open(path, 'wx');
  try {
    await writeFile(file, data);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Makes a rename in a folder last through a power cut. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

function info(found: { size: bigint; mtimeNs: bigint; ino: bigint }): ObjectInfo {
  return {
    bytes: Number(found.size),
    etag: `${found.ino.toString(36)}-${found.mtimeNs.toString(36)}-${found.size.toString(36)}`,
  };
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR');
}
