/**
 * What one isolate has learned of its regions: whether they fail, how long they take to a first token, and what it has sent them.
 */
import { SentTokens } from '../plan/sent.ts';
import { quantile } from '../quantile.ts';
import { Breaker, type BreakerState } from './breaker.ts';
import { WindowLeast } from './window-least.ts';

const SAMPLES = 100;
/** Of fewer samples no percentile is made. */
const MIN_SAMPLES = 10;
const NETWORK_WINDOW_MS = 300_000;
/** So long after its last measurement a region that seemed further away than geography says is given another chance. */
const DOUBT_AFTER_MS = 30_000;
/** However quick a region is: a second request costs it, or another, as much as the first. */
const MIN_HEDGE_MS = 50;

class RegionHealth {
  readonly breaker = new Breaker();
  readonly sent = new SentTokens();
  readonly #firstTokenMs: number[] = [];
  readonly #network = new WindowLeast(NETWORK_WINDOW_MS);
  #measuredAt = Number.NEGATIVE_INFINITY;

  /**
   * There and back, as measured: the least of the last window, since what comes on top is the region's being busy, which its queue tells, or this isolate's (as
   * BBR does, Cardwell et al., CACM 60(2), 2017, which can make itself a quiet moment in each ten seconds: here one may have to be waited for). Undefined where
   * there is no measurement so new, and sooner where it was a bad one: a region that was measured in a burst alone seems far away, nobody is sent there for that, and
   * so nothing would show that it isn't.
   *
   * @param usualMs what geography says.
   */
  networkMs(now: number, usualMs: number): number | undefined {
    const least = this.leastNetworkMs(now);
    return least !== undefined && least > usualMs && now - this.#measuredAt >= DOUBT_AFTER_MS ? undefined : least;
  }

  /** As it was measured, believed or not. */
  leastNetworkMs(now: number): number | undefined {
    return this.#network.least(now);
  }

  /** A request took `ms` to its first byte, of which the region says that `ownMs` were its own. */
  measured(ms: number, ownMs: number, now: number): void {
    this.#network.add(Math.max(0, ms - ownMs), now);
    this.#measuredAt = now;
  }

  /** When it last began or gave an answer (milliseconds since the epoch); undefined before the first. */
  answeredAt: number | undefined;
  /** When a request to it last failed. */
  failedAt: number | undefined;

  /** Since the last request failed that it was asked; undefined where it has answered since, or nothing has failed. */
  sinceFailedMs(now: number): number | undefined {
    if (this.failedAt === undefined || this.failedAt < (this.answeredAt ?? Number.NEGATIVE_INFINITY)) return undefined;
    return now - this.failedAt;
  }

  took(ms: number): void {
    this.#firstTokenMs.push(ms);
    if (this.#firstTokenMs.length > SAMPLES) this.#firstTokenMs.shift();
  }

  /** The 95th percentile of the time to a first token: one that takes longer is asked elsewhere, too. Undefined before there are enough. */
  get hedgeAfterMs(): number | undefined {
    if (this.#firstTokenMs.length < MIN_SAMPLES) return undefined;
    return Math.max(MIN_HEDGE_MS, quantile(this.#firstTokenMs, 0.95) ?? 0);
  }
}

export class FleetHealth {
  readonly #regions = new Map<string, RegionHealth>();

  of(region: string): RegionHealth {
    const known = this.#regions.get(region) ?? new RegionHealth();
    this.#regions.set(region, known);
    return known;
  }

  /** Regions in the order they are asked in: those last whose breaker is open, for when nobody else answers. */
  ordered<T extends { readonly name: string }>(regions: readonly T[], now: number): readonly T[] {
    const allows = ({ name }: T) => this.of(name).breaker.allows(now);
    return [...regions.filter(allows), ...regions.filter((region) => !allows(region))];
  }

  /** For `/health`. */
  state(
    region: string,
    now: number,
  ): { readonly breaker: BreakerState; readonly hedge_after_ms: number | null; readonly network_ms: number | null } {
    const health = this.of(region);
    return {
      breaker: health.breaker.state(now),
      hedge_after_ms: health.hedgeAfterMs ?? null,
      network_ms: health.leastNetworkMs(now) ?? null,
    };
  }
}
