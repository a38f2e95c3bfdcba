/**
 * The catalogue as this region knows it: read again when it is older than a moment; when it can't be read, isn't valid or is older than
 * one that was seen, the last good one stays. Once there is one, a store that is slow or gone holds up nobody.
 */
import {
  ApiError,
  CATALOGUE_KEY,
  type Catalogue,
  type ExpertVersion,
  Problem,
  parseModelName,
  resolveExpert,
  type TrustedKey,
} from '@signpost/contracts';
import { abortable } from '@signpost/engine';
import { type ObjectStore, readCatalogue, type StoredCatalogue } from '@signpost/store';
import { settledWithin } from '../settled-within.ts';
import type { SeenRevision } from './seen-revision.ts';

/** New versions are seen this late at most, by a store that answers. */
const MAX_AGE_MS = 2_000;
/** What a request waits for a newer catalogue, from when its reading began; then it goes by the one in force. */
const MAX_WAIT_MS = 500;
/** What a request waits for the first one. */
const MAX_FIRST_WAIT_MS = 10_000;
/**
 * What a reading may take, all its attempts together, before it is a problem: a store that is silent or slow is told of twice a minute, often enough for the
 * alert on such problems, and a catalogue of 1 MB comes in that time over 40 kB/s.
 */
const READ_LIMIT_MS = 30_000;

export interface CatalogueWatchOptions {
  /** Told each time that it couldn't be read, or was refused. */
  readonly onProblem: (problem: string) => void;
  /** With one or more, only a catalogue that one of them signed is taken. */
  readonly trust?: readonly TrustedKey[];
  /** With it, none that is older than one taken before a restart. */
  readonly seen?: SeenRevision | undefined;
  /** `READ_LIMIT_MS` if left out. */
  readonly readLimitMs?: number;
}

export interface ResolvedTerm {
  readonly version: ExpertVersion;
  readonly weight: number;
}

export class CatalogueWatch {
  readonly #store: ObjectStore;
  readonly #options: CatalogueWatchOptions;
  #current: { readonly catalogue: Catalogue; readonly readAt: number } | undefined;
  #reading: { readonly began: number; readonly done: Promise<void> } | undefined;

  constructor(store: ObjectStore, options: CatalogueWatchOptions) {
    this.#store = store;
    this.#options = options;
  }

  /** The one in force, without a look at the store; undefined before the first. */
  get current(): Catalogue | undefined {
    return this.#current?.catalogue;
  }

  /** @throws ApiError (503) when none has ever been read. */
  async catalogue(): Promise<Catalogue> {
    const current = this.#current;
    const now = performance.now();
    if (current !== undefined && now - current.readAt < MAX_AGE_MS) return current.catalogue;
    this.#reading ??= { began: now, done: this.#begin() };
    const { began, done } = this.#reading;
    await settledWithin(done, current === undefined ? MAX_FIRST_WAIT_MS : MAX_WAIT_MS - (now - began));
    if (this.#current === undefined)
      throw unavailable(`${this.#store.url} has not answered for ${MAX_FIRST_WAIT_MS / 1000} s`);
    return this.#current.catalogue;
  }

  /** Resolves when nothing is being read. */
  async settled(): Promise<void> {
    await this.#reading?.done.catch(() => undefined);
  }

  #begin(): Promise<void> {
    const done = this.#read().finally(() => {
      this.#reading = undefined;
    });
    // Whoever asked may have stopped waiting.
    done.catch(() => undefined);
    return done;
  }

  /**
   * The experts a model name stands for; none for `base`.
   *
   * @throws Problem for what is no model name; ApiError (404, `model_not_found`) for an expert, channel or digest that isn't there, (503)
   * when there is no catalogue to look in.
   */
  async resolve(name: string): Promise<ResolvedTerm[]> {
    const model = parseModelName(name);
    if (model.kind === 'auto') {
      throw new ApiError(
        'invalid_request_error',
        'model_not_found',
        '"auto" is resolved at the edge; a region takes base, experts and mixtures',
        { param: 'model' },
      );
    }
    // The base needs no catalogue.
    if (model.terms.length === 0) return [];
    const catalogue = await this.catalogue();
    return model.terms.map(({ expert, selector, weight }) => {
      try {
        return { version: resolveExpert(catalogue, expert, selector, Math.random()), weight };
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        throw new ApiError('not_found_error', 'model_not_found', error.message, { param: 'model', cause: error });
      }
    });
  }

  /** An older catalogue was right once, and its signature still is: its revision alone tells. */
  async #refuseOlder({ revision }: Catalogue): Promise<void> {
    const { seen: file, onProblem } = this.#options;
    const kept = (await file?.read()) ?? 0;
    const seen = Math.max(this.#current?.catalogue.revision ?? 0, kept);
    if (revision < seen) {
      const meant = file === undefined ? 'restart the region' : `remove ${file.path} and restart the region`;
      throw new Problem(
        `${this.#store.url}/${CATALOGUE_KEY} went back from revision ${seen} to ${revision}: somebody put an older copy in its place; restore the newest one, or, if this was meant, ${meant}`,
      );
    }
    if (revision === kept) return;
    // A full disk must not stop a region: until it can be kept, the next look tries again.
    await file?.write(revision).catch((cause: unknown) => onProblem(`can't keep revision ${revision}: ${cause}`));
  }

  async #read(): Promise<void> {
    const { onProblem } = this.#options;
    const readAt = performance.now();
    try {
      const { catalogue } = await this.#readWithin();
      await this.#refuseOlder(catalogue);
      this.#current = { catalogue, readAt };
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      onProblem(why);
      if (this.#current === undefined) throw unavailable(why, cause);
      // A failure may take a while to be one: the next attempt comes a moment after it.
      this.#current = { ...this.#current, readAt: performance.now() };
    }
  }

  /** @throws Problem when it isn't in after that long, whether or not the store minds a signal. */
  async #readWithin(): Promise<StoredCatalogue> {
    const { trust, readLimitMs = READ_LIMIT_MS } = this.#options;
    const limit = new AbortController();
    const timer = setTimeout(() => {
      limit.abort(new Problem(`${this.#store.url}/${CATALOGUE_KEY} was not in after ${readLimitMs} ms`));
    }, readLimitMs).unref();
    try {
      return await abortable(readCatalogue(this.#store, trust, limit.signal), limit.signal);
    } finally {
      clearTimeout(timer);
    }
  }
}

function unavailable(why: string, cause?: unknown): ApiError {
  return new ApiError('server_error', 'catalogue_unavailable', `this region can't read its catalogue: ${why}`, {
    status: 503,
    cause,
  });
}
