/**
 * Delta files on this machine's disk, so that a restart doesn't fetch them again. Nothing that is read back is trusted: it is checked against the
 * catalogue's hashes as if it came from afar.
 */
import { utimes } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { ExpertVersion } from '@signpost/contracts';
import { type ObjectStore, openStore, readVerified, type VerifiedReadOptions } from '@signpost/store';

const SUFFIX = '.delta.safetensors';

export class DiskCache {
  readonly #dir: string;
  readonly #budgetBytes: number;
  readonly #files: ObjectStore;
  /** Writes go one after the other: each makes room for itself. */
  #writing: Promise<void> = Promise.resolve();

  private constructor(dir: string, budgetBytes: number) {
    this.#dir = dir;
    this.#budgetBytes = budgetBytes;
    // Whole files or none: it writes to a temporary name, syncs and renames.
    this.#files = openStore(dir);
  }

  /** Removes what a killed process left unfinished. */
  static async open(dir: string, budgetBytes: number): Promise<DiskCache> {
    const cache = new DiskCache(resolve(dir), budgetBytes);
    // Files' times are finer than a Date.
    await cache.#files.sweep(new Date(Date.now() + 1));
    return cache;
  }

  /** Whether it had the file and all of it was right. What it handed out before it failed was right, too, and may come again. */
  async read(version: ExpertVersion, options: VerifiedReadOptions): Promise<boolean> {
    const key = keyOf(version);
    if ((await this.#files.head(key)) === undefined) return false;
    try {
      await readVerified(this.#files, { ...version, key }, options);
    } catch {
      options.signal?.throwIfAborted();
      await this.#files.delete(key);
      return false;
    }
    const now = new Date();
    // Only its place in the order of eviction is lost where this fails.
    await utimes(join(this.#dir, key), now, now).catch(() => undefined);
    return true;
  }

  /** Keeps a file, in place of those used longest ago. What is larger than the budget isn't kept. */
  write(version: ExpertVersion, bytes: Uint8Array): Promise<void> {
    const written = this.#writing.then(() => this.#write(version, bytes));
    this.#writing = written.catch(() => undefined);
    return written;
  }

  async #write(version: ExpertVersion, bytes: Uint8Array): Promise<void> {
    const key = keyOf(version);
    if (bytes.byteLength > this.#budgetBytes) return;
    // What else is kept there is no delta file's business.
    const files = (await this.#files.list('')).filter((file) => file.key.endsWith(SUFFIX) && file.key !== key);
    files.sort((a, b) => a.modified.getTime() - b.modified.getTime());
    let used = files.reduce((sum, file) => sum + file.bytes, bytes.byteLength);
    for (const file of files) {
      if (used <= this.#budgetBytes) break;
      await this.#files.delete(file.key);
      used -= file.bytes;
    }
    await this.#files.write(key, bytes);
  }
}

function keyOf({ digest }: ExpertVersion): string {
  return `${digest}${SUFFIX}`;
}
