/**
 * The highest catalogue revision that this machine has seen in a store, kept beyond a restart: a region that starts must not take an older catalogue, whose
 * signature was right once.
 */
import { join, resolve } from 'node:path';
import { parseWith } from '@signpost/contracts';
import { readJson } from '@signpost/engine';
import { FileStore } from '@signpost/store/files';
import { z } from 'zod';

/** Revisions by the store's URL. */
const schema = z.record(z.string(), z.number().int().nonnegative());
const FILE = 'catalogue-revisions.json';

export class SeenRevision {
  readonly path: string;
  readonly #files: FileStore;
  readonly #store: string;

  /** @param dir where it is kept. */
  constructor(dir: string, store: string) {
    this.path = join(resolve(dir), FILE);
    this.#files = new FileStore(resolve(dir));
    this.#store = store;
  }

  /** 0 before the first. @throws Problem when the file is damaged: what it said can't be told from what an attacker would like. */
  async read(): Promise<number> {
    return (await this.#all())[this.#store] ?? 0;
  }

  /** Whole or not at all: temporary name, sync, rename. */
  async write(revision: number): Promise<void> {
    const all = { ...(await this.#all()), [this.#store]: revision };
    await this.#files.write(FILE, new TextEncoder().encode(`${JSON.stringify(all)}\n`));
  }

  async #all(): Promise<Readonly<Record<string, number>>> {
    if ((await this.#files.head(FILE)) === undefined) return {};
    return parseWith(schema, await readJson(this.path), this.path);
  }
}
