/**
 * What an isolate has to tell the ledger, kept until it is told: records and counts of many requests in one call. Bounded; what doesn't fit is dropped, and counted.
 */
import { withTimeout } from '../forward/timeout.ts';
import type { Increments, SeriesCounts } from './series.ts';

/** A record as it is kept. */
export interface KeptRecord {
  readonly id: string;
  /** Undefined for an anonymous app. */
  readonly tenant: string | undefined;
  /** Milliseconds since the epoch. */
  readonly at: number;
  /** The record as JSON. */
  readonly json: string;
}

/** What one isolate is like now. */
export interface IsolateReport {
  readonly isolate: string;
  readonly breakers: Readonly<Record<string, string>>;
  readonly classifier: string;
  /** Undefined before the first request that was routed. */
  readonly rules: { readonly version: string; readonly source: string; readonly checkedAt: number } | undefined;
}

export interface Batch {
  readonly records: readonly KeptRecord[];
  readonly counts: Increments;
  readonly report: IsolateReport;
}

export interface OutboxOptions {
  readonly counts: SeriesCounts;
  readonly report: () => IsolateReport;
  readonly send: (batch: Batch) => Promise<void>;
  readonly sleep: (ms: number) => Promise<void>;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly log: (event: string, fields: Record<string, unknown>) => void;
}

export const FLUSH_MS = 1_000;
const SEND_TIMEOUT_MS = 5_000;
/** What takes longer is taken for lost: its request may have been cancelled. */
const LOST_MS = FLUSH_MS + SEND_TIMEOUT_MS + 1_000;
/** At once: what all records of a batch share, indices' pages above all, is written once. */
const FULL_RECORDS = 500;
const MAX_RECORDS = 1_000;
const MAX_CHARS = 2_000_000;

export class Outbox {
  readonly #options: OutboxOptions;
  #records: KeptRecord[] = [];
  #chars = 0;
  /** When a request took on the next flush. */
  #dueSince = Number.NEGATIVE_INFINITY;
  readonly #underWay = new Set<{ readonly batch: Batch; readonly since: number }>();

  constructor(options: OutboxOptions) {
    this.#options = options;
  }

  put(record: KeptRecord): void {
    if (this.#records.length >= MAX_RECORDS || this.#chars + record.json.length > MAX_CHARS) {
      this.#options.counts.add('signpost_decisions_dropped_total', { reason: 'outbox_full' });
      return;
    }
    this.#records.push(record);
    this.#chars += record.json.length;
  }

  /** For `waitUntil`: the flush that this request is to keep running; undefined where another one does already. Never rejects. */
  due(): Promise<void> | undefined {
    const { now, sleep } = this.#options;
    if (this.#records.length >= FULL_RECORDS && this.#underWay.size === 0) return this.flush();
    const since = now();
    if (since - this.#dueSince < LOST_MS) return undefined;
    this.#dueSince = since;
    return sleep(FLUSH_MS).then(() => {
      if (this.#dueSince === since) this.#dueSince = Number.NEGATIVE_INFINITY;
      return this.flush();
    });
  }

  /** Tells everything at once. Never rejects: what couldn't be told waits for the next time. */
  async flush(): Promise<void> {
    const { counts, report, send, now, log } = this.#options;
    for (const lost of this.#underWay) if (now() - lost.since >= LOST_MS) this.#takeBack(lost);
    if (this.#records.length === 0 && counts.size === 0) return;
    const sent = { batch: { records: this.#records, counts: counts.take(), report: report() }, since: now() };
    this.#records = [];
    this.#chars = 0;
    this.#underWay.add(sent);
    try {
      await withTimeout(send(sent.batch), SEND_TIMEOUT_MS, 'no answer');
      this.#underWay.delete(sent);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      log('decisions_untold', { records: sent.batch.records.length, reason });
      this.#takeBack(sent);
    }
  }

  /** It may have arrived after all: records are kept once, and of counts told twice or never the former is the smaller evil. */
  #takeBack(sent: { readonly batch: Batch; readonly since: number }): void {
    if (!this.#underWay.delete(sent)) return;
    this.#options.counts.merge(sent.batch.counts);
    for (const record of sent.batch.records) this.put(record);
  }
}
