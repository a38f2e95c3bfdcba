/**
 * Bases fetched from a store, kept in a folder beyond a restart: a folder for each manifest, by its digest. That it is whole, and on the disk, is said by a file that
 * is written last; until then its chunks are right as far as they hash to what the manifest says. So there is nothing that a crash could leave wrong.
 */
import { createHash } from 'node:crypto';
import { mkdir, open, readdir, readFile, rm, stat, statfs } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import {
  type BaseFile,
  type BaseManifest,
  baseManifestSchema,
  type Digest,
  Problem,
  parseWith,
} from '@signpost/contracts';
import { readJson } from '@signpost/engine';
import { FileStore, syncFolder } from '@signpost/store/files';
import { WHOLE_FILE } from './whole-file.ts';

const DIGEST = /^[0-9a-f]{64}$/;

/** A base whose bytes are all there. */
export interface CachedBase {
  /** Checkpoint folder. */
  readonly dir: string;
  /** The base's own. */
  readonly digest: Digest;
}

export class BaseCache {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = resolve(dir);
  }

  /**
   * What is there of a manifest's base, if it is whole. Small files are hashed here, weights by whoever loads them, who reads them anyway: they must come to
   * `CachedBase.digest`, or be doubted.
   */
  async find(manifest: Digest): Promise<CachedBase | undefined> {
    const dir = this.#folder(manifest);
    try {
      const { base, files } = parseWith(baseManifestSchema, await readJson(join(dir, WHOLE_FILE)), dir);
      for (const file of files) await checkFile(dir, file);
      return { dir, digest: base };
    } catch (error) {
      if (error instanceof Problem) return undefined;
      throw error;
    }
  }

  /** The bases that are whole: what a region falls back on that can't read its catalogue. */
  async all(): Promise<CachedBase[]> {
    const names = await readdir(this.#dir).catch(() => []);
    const found = await Promise.all(names.filter((name) => DIGEST.test(name)).map((name) => this.find(name as Digest)));
    return found.filter((base) => base !== undefined);
  }

  /** The folder in which a manifest's files are put together, with what an earlier attempt had of them. @throws Problem when the disk is too small. */
  async begin(manifest: Digest, { files }: BaseManifest): Promise<string> {
    const dir = this.#folder(manifest);
    await mkdir(dir, { recursive: true });
    // It is doubted, or it would have been found.
    await this.doubt({ dir });
    const { bavail, bsize } = await statfs(dir);
    const sizes = await Promise.all(files.map(({ name }) => stat(join(dir, name)).catch(() => undefined)));
    // What is allocated, not how long they are: they have holes.
    const have = sizes.reduce((sum, found) => sum + (found === undefined ? 0 : 512 * found.blocks), 0);
    const wanted = files.reduce((sum, { bytes }) => sum + bytes, 0) - have;
    const free = bavail * bsize;
    if (wanted > free)
      throw new Problem(
        `${this.#dir} has ${free} bytes free, and the base needs ${wanted} more; give it a larger disk, or remove other bases from it`,
      );
    return dir;
  }

  /** Says that a manifest's files are whole, once they are on the disk: else the next start hashes, and mends, each chunk of them. */
  async keep({ dir }: Pick<CachedBase, 'dir'>, manifest: BaseManifest): Promise<void> {
    for (const { name } of manifest.files) {
      const file = await open(join(dir, name), 'r');
      try {
        await file.sync();
      } finally {
        await file.close();
      }
    }
    await syncFolder(dir);
    await new FileStore(dir).write(WHOLE_FILE, new TextEncoder().encode(JSON.stringify(manifest)));
  }

  /** Takes that back. */
  async doubt({ dir }: Pick<CachedBase, 'dir'>): Promise<void> {
    await rm(join(dir, WHOLE_FILE), { force: true });
  }

  #folder(manifest: Digest): string {
    return join(this.#dir, manifest);
  }
}

/** @throws Problem when it isn't there, has another size, or is small and holds something else. */
async function checkFile(dir: string, { name, bytes, sha256 }: BaseFile): Promise<void> {
  const path = join(dir, name);
  const found = await stat(path).catch(() => undefined);
  if (found?.size !== bytes) throw new Problem(`${path} has ${found?.size ?? 'no'} bytes, expected ${bytes}`);
  if (name.endsWith('.safetensors')) return;
  const hash = createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
  if (hash !== sha256) throw new Problem(`${path} was altered`);
}
