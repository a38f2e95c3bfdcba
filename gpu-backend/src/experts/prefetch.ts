/**
 * Experts brought in before a request waits for them: those that are pinned, those that the catalogue wants preloaded, those that the edge says will be
 * asked for. One at a time, so that they take no more than one share of the link from requests that do wait.
 */
import type { Digest, ExpertVersion } from '@signpost/contracts';
import type { Residency } from './residency.ts';

/** What the region is to have at hand, by what the catalogue says now. */
export interface Standing {
  /** In slots, always. */
  readonly pinned: readonly ExpertVersion[];
  /** In slots while there are empty ones, else in memory; in this order. */
  readonly preload: readonly ExpertVersion[];
}

export interface PrefetcherOptions {
  readonly residency: Pick<Residency, 'bringIn' | 'has' | 'loadAhead' | 'pin'>;
  /** Brings a file into memory, if there is room. */
  readonly warm: (version: ExpertVersion, signal: AbortSignal) => Promise<unknown>;
  /** Told of an expert that can't be brought in. */
  readonly onProblem: (problem: string) => void;
  /** Milliseconds until the first repetition; each further one takes twice as long. */
  readonly retryMs?: number;
}

/** Hints that wait; what comes beyond them is forgotten. */
const MAX_HINTS = 32;
const FIRST_RETRY_MS = 2_000;
const LONGEST_RETRY_MS = 60_000;

interface Attempt {
  /** Not before, by `performance.now()`. */
  readonly at: number;
  readonly failures: number;
}

export class Prefetcher {
  readonly #options: PrefetcherOptions;
  readonly #never = new AbortController().signal;
  #standing: Standing = { pinned: [], preload: [] };
  /** Of `preload`: those that were brought in since they came onto the list. What became of them later is theirs: others may have needed the room. */
  #preloaded = new Set<Digest>();
  readonly #hints = new Map<Digest, ExpertVersion>();
  /** Of those that failed. */
  readonly #attempts = new Map<Digest, Attempt>();
  #isRunning = false;
  #retry: NodeJS.Timeout | undefined;

  constructor(options: PrefetcherOptions) {
    this.#options = options;
  }

  /** Takes the place of what was said before. */
  keep(standing: Standing): void {
    this.#standing = standing;
    const wanted = new Set([...standing.pinned, ...standing.preload].map(({ digest }) => digest));
    this.#preloaded = new Set([...this.#preloaded].filter((digest) => wanted.has(digest)));
    for (const digest of this.#attempts.keys()) if (!wanted.has(digest)) this.#attempts.delete(digest);
    this.#options.residency.pin(standing.pinned.map(({ digest }) => digest));
    void this.#run();
  }

  /** Experts that may be asked for soon. */
  hint(versions: readonly ExpertVersion[]): void {
    for (const version of versions) if (this.#hints.size < MAX_HINTS) this.#hints.set(version.digest, version);
    void this.#run();
  }

  async #run(): Promise<void> {
    if (this.#isRunning) return;
    this.#isRunning = true;
    clearTimeout(this.#retry);
    for (let next = this.#next(); next !== undefined; next = this.#next()) {
      const { version, bring } = next;
      try {
        await bring();
        this.#attempts.delete(version.digest);
      } catch (error) {
        this.#fail(version, error);
      }
    }
    this.#isRunning = false;
    this.#wakeForRetries();
  }

  #next(): { readonly version: ExpertVersion; readonly bring: () => Promise<unknown> } | undefined {
    const { residency } = this.#options;
    const isDue = ({ digest }: ExpertVersion) => (this.#attempts.get(digest)?.at ?? 0) <= performance.now();
    const pinned = this.#standing.pinned.find((version) => !residency.has(version.digest) && isDue(version));
    if (pinned !== undefined) return { version: pinned, bring: () => residency.bringIn(pinned, this.#never) };
    const [hint] = this.#hints.values();
    if (hint !== undefined) {
      this.#hints.delete(hint.digest);
      if (residency.has(hint.digest)) return this.#next();
      // What fails here fails again where it is asked for, and is told there.
      return { version: hint, bring: () => this.#ahead(hint).catch(() => undefined) };
    }
    const preload = this.#standing.preload.find((version) => !this.#preloaded.has(version.digest) && isDue(version));
    if (preload === undefined) return undefined;
    const bring = async () => {
      if (!residency.has(preload.digest)) await this.#ahead(preload);
      this.#preloaded.add(preload.digest);
    };
    return { version: preload, bring };
  }

  async #ahead(version: ExpertVersion): Promise<void> {
    const { residency, warm } = this.#options;
    const isIn = await residency.loadAhead(version);
    if (isIn !== true) await warm(version, this.#never);
  }

  #fail(version: ExpertVersion, error: unknown): void {
    const { retryMs = FIRST_RETRY_MS, onProblem } = this.#options;
    const failures = (this.#attempts.get(version.digest)?.failures ?? 0) + 1;
    const waitMs = Math.min(retryMs * 2 ** (failures - 1), LONGEST_RETRY_MS);
    this.#attempts.set(version.digest, { at: performance.now() + waitMs, failures });
    const why = error instanceof Error ? error.message : String(error);
    onProblem(
      `expert ${version.digest} can't be brought in ahead; the next try is in ${Math.ceil(waitMs / 1000)} s: ${why}`,
    );
  }

  #wakeForRetries(): void {
    const first = Math.min(...[...this.#attempts.values()].map(({ at }) => at));
    if (first === Number.POSITIVE_INFINITY) return;
    this.#retry = setTimeout(() => void this.#run(), Math.max(0, first - performance.now()) + 1).unref();
  }
}
