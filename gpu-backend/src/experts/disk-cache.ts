/**
 * Delta files on this machine's disk, so that a restart doesn't fetch them again. Nothing that is read back is trusted: it is checked against the
 * catalogue's hashes as if it came from afar.
 */
import { utimes } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Digest, ExpertVersion } from '@signpost/contracts';
import { type ObjectStore, openStore } from '@signpost/store';
import { type ExpertReader, folderReader, type ReadingOptions } from './expert-reader.ts';
import type { HostFile } from './host-cache.ts';

export interface DiskCacheState {
  readonly bytes: number;
  readonly files: readonly Digest[];
  readonly lookups: number;
  readonly hits: number;
  readonly evictions: number;
}

const SUFFIX = '.delta.safetensors';

export class DiskCache {
  readonly #dir: string;
  readonly #budgetBytes: number;
  readonly #files: ObjectStore;
  readonly #reader: ExpertReader;
  readonly #onProblem: (problem: string) => void;
  /** Writes go one after the other: each makes room for itself. */
  #writing: Promise<unknown> = Promise.resolve();
  /** Files whose turn to be written has not come. */
  readonly #waiting = new Set<Digest>();
  /** Bytes by digest. */
  readonly #held = new Map<Digest, number>();
  #lookups = 0;
  #hits = 0;
  #evictions = 0;

  private constructor(
    dir: string,
    budgetBytes: number,
    onProblem: (problem: string) => void,
    reader: ExpertReader | undefined,
  ) {
    this.#dir = dir;
    this.#budgetBytes = budgetBytes;
    this.#onProblem = onProblem;
    // Whole files or none: it writes to a temporary name, syncs and renames.
    this.#files = openStore(dir);
    this.#reader = reader ?? folderReader(this.#files);
  }

  /**
   * Removes what a killed process left unfinished.
   *
   * @param onProblem told of files that were dropped, or should have been.
   * @param reader reads in the folder; in this thread if left out.
   */
  static async open(
    dir: string,
    budgetBytes: number,
    onProblem: (problem: string) => void = () => undefined,
    reader?: ExpertReader,
  ): Promise<DiskCache> {
    const cache = new DiskCache(resolve(dir), budgetBytes, onProblem, reader);
    // Files' times are finer than a Date.
    await cache.#files.sweep(new Date(Date.now() + 1));
    for (const { key, bytes } of await cache.#files.list(''))
      if (key.endsWith(SUFFIX)) cache.#held.set(digestOf(key), bytes);
    return cache;
  }

  get state(): DiskCacheState {
    const bytes = [...this.#held.values()].reduce((sum, file) => sum + file, 0);
    const files = [...this.#held.keys()];
    return { bytes, files, lookups: this.#lookups, hits: this.#hits, evictions: this.#evictions };
  }

  /** Whether the file is said to be there. */
  holds(digest: Digest): boolean {
    return this.#held.has(digest);
  }

  /**
   * Whether it had the file and all of it was right. What it handed out before it failed was right, too, and may come again. A disk that fails is
   * one that hasn't the file.
   */
  async read(version: ExpertVersion, options: ReadingOptions): Promise<boolean> {
    const key = keyOf(version.digest);
    this.#lookups++;
    try {
      if ((await this.#files.head(key)) === undefined) return false;
      await this.#reader({ ...version, key }, options);
    } catch (error) {
      options.signal?.throwIfAborted();
      this.#tell(`can't use ${key}`, error);
      await this.#delete(version.digest).catch((problem: unknown) => this.#tell(`can't drop ${key}`, problem));
      return false;
    }
    this.#hits++;
    const now = new Date();
    // Only its place in the order of eviction is lost where this fails.
    await utimes(join(this.#dir, key), now, now).catch(() => undefined);
    return true;
  }

  /**
   * Keeps a file, in place of those used longest ago. What is larger than the budget isn't kept.
   *
   * @param hold gives the file when its turn has come, to be released once it is written; undefined where memory has given it up by then, and the disk goes
   * without: one that is slower than the link would else keep more and more files in memory.
   */
  async write(version: ExpertVersion, hold: () => Pick<HostFile, 'bytes' | 'release'> | undefined): Promise<void> {
    if (this.#waiting.has(version.digest)) return;
    this.#waiting.add(version.digest);
    await this.#inTurn(async () => {
      this.#waiting.delete(version.digest);
      const file = hold();
      if (file === undefined) return;
      await this.#write(version, file.bytes).finally(() => file.release());
    });
  }

  /** Forgets a file. @returns whether it was there. */
  drop(digest: Digest): Promise<boolean> {
    return this.#inTurn(async () => {
      const wasHeld = this.#held.has(digest);
      await this.#delete(digest);
      return wasHeld;
    });
  }

  #inTurn<T>(action: () => Promise<T>): Promise<T> {
    const done = this.#writing.then(action);
    this.#writing = done.catch(() => undefined);
    return done;
  }

  async #write({ digest }: ExpertVersion, bytes: Uint8Array): Promise<void> {
    const key = keyOf(digest);
    if (bytes.byteLength > this.#budgetBytes) return;
    // What else is kept there is no delta file's business.
    const files = (await this.#files.list('')).filter((file) => file.key.endsWith(SUFFIX) && file.key !== key);
    files.sort((a, b) => a.modified.getTime() - b.modified.getTime());
    let used = files.reduce((sum, file) => sum + file.bytes, bytes.byteLength);
    for (const file of files) {
      if (used <= this.#budgetBytes) break;
      await this.#delete(digestOf(file.key));
      this.#evictions++;
      used -= file.bytes;
    }
    await this.#files.write(key, bytes);
    this.#held.set(digest, bytes.byteLength);
  }

  async #delete(digest: Digest): Promise<void> {
    await this.#files.delete(keyOf(digest));
    this.#held.delete(digest);
  }

  #tell(what: string, error: unknown): void {
    this.#onProblem(`the disk cache ${what}: ${error instanceof Error ? error.message : error}`);
  }
}

function keyOf(digest: Digest): string {
  return `${digest}${SUFFIX}`;
}

function digestOf(key: string): Digest {
  return key.slice(0, -SUFFIX.length) as Digest;
}
