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

/** What is being brought in, and why. */
interface Job {
  readonly version: ExpertVersion;
  readonly for: 'pin' | 'hint' | 'preload';
  readonly abort: AbortController;
}

interface Attempt {
  /** Not before, by `performance.now()`. */
  readonly at: number;
  readonly failures: number;
}

export class Prefetcher {
  readonly #options: PrefetcherOptions;
  #standing: Standing = { pinned: [], preload: [] };
  /** Of `preload`: those that were brought in since they came onto the list. What became of them later is theirs: others may have needed the room. */
  #preloaded = new Set<Digest>();
  readonly #hints = new Map<Digest, ExpertVersion>();
  /** Of those that failed. */
  readonly #attempts = new Map<Digest, Attempt>();
  #job: Job | undefined;
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
    const job = this.#job;
    if (job !== undefined && job.for !== 'hint' && !wanted.has(job.version.digest))
      job.abort.abort(new Error('it is no longer to be at hand'));
    void this.#run();
  }

  /** Experts that may be asked for soon. */
  hint(versions: readonly ExpertVersion[]): void {
    for (const version of versions) if (this.#hints.size < MAX_HINTS) this.#hints.set(version.digest, version);
    void this.#run();
  }

  /** Doesn't go on bringing in an expert that was evicted; one that is pinned comes anew. */
  drop(digest: Digest): void {
    this.#hints.delete(digest);
    if (this.#job?.version.digest !== digest) return;
    // As one that was evicted after it had come.
    if (this.#job.for === 'preload') this.#preloaded.add(digest);
    this.#job.abort.abort(new Error('it was evicted'));
  }

  async #run(): Promise<void> {
    if (this.#job !== undefined) return;
    clearTimeout(this.#retry);
    for (this.#job = this.#next(); this.#job !== undefined; this.#job = this.#next()) {
      const { version, abort } = this.#job;
      try {
        await this.#bring(this.#job);
        this.#attempts.delete(version.digest);
      } catch (error) {
        // What fails for a hint fails again where it is asked for, and is told there.
        if (!abort.signal.aborted && this.#job.for !== 'hint') this.#fail(version, error);
      }
    }
    this.#wakeForRetries();
  }

  #next(): Job | undefined {
    const { residency } = this.#options;
    const isDue = ({ digest }: ExpertVersion) => (this.#attempts.get(digest)?.at ?? 0) <= performance.now();
    const abort = new AbortController();
    const pinned = this.#standing.pinned.find((version) => !residency.has(version.digest) && isDue(version));
    if (pinned !== undefined) return { version: pinned, for: 'pin', abort };
    const [hint] = this.#hints.values();
    if (hint !== undefined) {
      this.#hints.delete(hint.digest);
      return residency.has(hint.digest) ? this.#next() : { version: hint, for: 'hint', abort };
    }
    const preload = this.#standing.preload.find((version) => !this.#preloaded.has(version.digest) && isDue(version));
    return preload && { version: preload, for: 'preload', abort };
  }

  async #bring({ version, for: why, abort: { signal } }: Job): Promise<void> {
    const { residency, warm } = this.#options;
    switch (why) {
      case 'pin':
        return residency.bringIn(version, signal);
      case 'hint':
      case 'preload': {
        const isIn = residency.has(version.digest) || (await residency.loadAhead(version, signal));
        if (isIn !== true) await warm(version, signal);
        if (why === 'preload' && !signal.aborted) this.#preloaded.add(version.digest);
        return;
      }
      default:
        why satisfies never;
    }
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
