/**
 * How long each part of a request took. Deployed Workers' clocks stand still between I/O, so there what only computes reads 0.
 */

export type Part = 'auth' | 'parse' | 'classify' | 'rules' | 'plan' | 'forward';

export class Laps {
  readonly #startedAt = performance.now();
  #last = this.#startedAt;
  readonly #ms = new Map<Part, number>();

  /** What has passed since the last lap was `part`. */
  lap(part: Part): void {
    const now = performance.now();
    this.#ms.set(part, (this.#ms.get(part) ?? 0) + now - this.#last);
    this.#last = now;
  }

  /** Milliseconds; undefined for what hasn't been. */
  of(part: Part): number | undefined {
    const ms = this.#ms.get(part);
    return ms === undefined ? undefined : rounded(ms);
  }

  get totalMs(): number {
    return rounded(performance.now() - this.#startedAt);
  }

  /** As the `server-timing` header has it (W3C Server Timing), before what the region says of itself. */
  header(region: string | null): string {
    const own = [...this.#ms].map(([part, ms]) => `${part};dur=${rounded(ms)}`);
    return [...own, `edge;dur=${this.totalMs}`, ...(region === null ? [] : [region])].join(', ');
  }
}

function rounded(ms: number): number {
  return Math.max(0, Math.round(ms * 100) / 100);
}
