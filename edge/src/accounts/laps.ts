/**
 * How long each part of a request took. Deployed Workers' clocks stand still between I/O, so there what only computes reads 0.
 */

const PARTS = ['auth', 'parse', 'classify', 'rules', 'plan', 'forward'] as const;
export type Part = (typeof PARTS)[number];

export class Laps {
  readonly #startedAt = performance.now();
  #last = this.#startedAt;
  /** By part; −1 for what hasn't been. */
  readonly #ms = [-1, -1, -1, -1, -1, -1];

  /** What has passed since the last lap was `part`. */
  lap(part: Part): void {
    const now = performance.now();
    const at = PARTS.indexOf(part);
    this.#ms[at] = Math.max(0, this.#ms[at] ?? 0) + now - this.#last;
    this.#last = now;
  }

  /** Milliseconds; undefined for what hasn't been. */
  of(part: Part): number | undefined {
    const ms = this.#ms[PARTS.indexOf(part)] ?? -1;
    return ms < 0 ? undefined : rounded(ms);
  }

  get totalMs(): number {
    return rounded(performance.now() - this.#startedAt);
  }

  /** As the `server-timing` header has it (W3C Server Timing), before what the region says of itself. */
  header(region: string | null): string {
    let text = '';
    for (let i = 0; i < PARTS.length; i++) {
      const ms = this.#ms[i] ?? -1;
      if (ms >= 0) text += `${PARTS[i]};dur=${rounded(ms)}, `;
    }
    text += `edge;dur=${this.totalMs}`;
    return region === null ? text : `${text}, ${region}`;
  }
}

function rounded(ms: number): number {
  return Math.max(0, Math.round(ms * 100) / 100);
}
