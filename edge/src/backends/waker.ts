/**
 * Regions that run nothing, and the hook that has one start a container.
 *
 * A hook is called at most once a minute, whichever isolate finds that it should be (the fleet's object decides), and beside the request that found it: another region
 * answers that one, or it waits (`serve/candidates.ts`).
 */
import { HEARTBEAT_SILENCE_MS } from '@signpost/contracts';
import type { HeardBeat } from '../fleet/roll.ts';
import { type OpenaiRegion, type Region, wakeHook } from '../plan/regions.ts';
import { type BackendSecrets, secretNamed } from './backend.ts';
import type { ForeignLoad } from './foreign-load.ts';

/** Between two calls of a hook. */
export const WAKE_EVERY_MS = 60_000;
const TIMEOUT_MS = 10_000;
/** A stranger that has failed is left alone for so long, and then asked whether it runs by now. */
const ASK_AGAIN_MS = 5_000;

export interface WakerOptions extends BackendSecrets {
  /** Whether a hook's turn has come, of all isolates together. */
  readonly mayWake: (region: string) => Promise<boolean>;
  readonly now: () => number;
  readonly log: (event: string, fields: Record<string, unknown>) => void;
}

/** What tells whether a region runs. */
export interface SignsOfLife {
  /** Of the fleet; undefined where it can't be asked, which says nothing. */
  readonly beats: readonly HeardBeat[] | undefined;
  /** Since the last request to it failed; undefined where it didn't. */
  readonly sinceFailedMs: number | undefined;
  /** By a stranger's metrics; undefined where they can't be read, or it has none. */
  readonly foreignLoad: (region: OpenaiRegion) => ForeignLoad | undefined;
}

export class Waker {
  readonly #options: WakerOptions;
  /** By region: when this isolate last saw to its hook. */
  readonly #seenTo = new Map<string, number>();
  /** By region: since when this isolate has found it missing from the fleet. */
  readonly #silentSince = new Map<string, number>();

  constructor(options: WakerOptions) {
    this.#options = options;
  }

  /**
   * Whether a region with a hook runs nothing: it has not been heard of for as long as a container that is there would have let pass, by who hears the others; or not
   * at all, and what it was asked last failed. A stranger, which nobody hears of, where that was a moment ago and its metrics don't show that it runs.
   */
  isAsleep(region: Region, { beats, sinceFailedMs, foreignLoad }: SignsOfLife): boolean {
    if (wakeHook(region) === undefined) return false;
    if (region.kind === 'openai')
      return sinceFailedMs !== undefined && sinceFailedMs < ASK_AGAIN_MS && foreignLoad(region) === undefined;
    const now = this.#options.now();
    if (beats === undefined || beats.some(({ beat }) => beat.region === region.name)) {
      this.#silentSince.delete(region.name);
      return false;
    }
    const since = this.#silentSince.get(region.name) ?? now;
    this.#silentSince.set(region.name, since);
    return sinceFailedMs !== undefined || now - since >= HEARTBEAT_SILENCE_MS;
  }

  /** Has a sleeping region started. @param waitUntil keeps the call running beyond the request */
  wake(region: Region, waitUntil: (promise: Promise<unknown>) => void): void {
    const now = this.#options.now();
    if (now - (this.#seenTo.get(region.name) ?? Number.NEGATIVE_INFINITY) < WAKE_EVERY_MS) return;
    this.#seenTo.set(region.name, now);
    waitUntil(this.#call(region));
  }

  /** Never rejects. */
  async #call(region: Region): Promise<void> {
    const { mayWake, log } = this.#options;
    const hook = wakeHook(region);
    if (hook === undefined) return;
    try {
      // Where nobody can say whose turn it is, it is everybody's: starting what is started does nothing.
      if (!(await mayWake(region.name).catch(() => true))) return;
      const response = await fetch(hook.url, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          ...(hook.secret === undefined ? {} : { authorization: `Bearer ${secretNamed(hook.secret, this.#options)}` }),
        },
        body: JSON.stringify({ region: region.name }),
        redirect: 'manual',
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      await response.body?.cancel();
      if (!response.ok) throw new Error(`its hook answered ${response.status}`);
      log('region_woken', { region: region.name });
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      log('region_not_woken', { region: region.name, reason });
    }
  }
}
