/**
 * The Durable Object that every isolate tells what happened: one for all. It keeps the latest records, the feedback on them, and comparisons with shadows in SQLite, bounded by number, bytes and
 * age, and sums the counts for `GET /metrics`.
 */
import { DurableObject } from 'cloudflare:workers';
import { type DecisionRecord, type Feedback, feedbackSchema } from '@signpost/contracts';
import type { Judgement } from './feedback.ts';
import { Ledger } from './ledger.ts';
import type { Batch, KeptRecord } from './outbox.ts';
import type { Increments } from './series.ts';

const MAX_RECORDS = 10_000;
const MAX_RECORD_BYTES = 64 * 1024 * 1024;
const MAX_AGE_MS = 7 * 24 * 60 * 60 * 1000;
const MAX_COMPARISONS = 10_000;
const MAX_COMPARISON_BYTES = 64 * 1024 * 1024;
const MAX_FEEDBACK = 50_000;
const MAX_FEEDBACK_BYTES = 128 * 1024 * 1024;
/** Counts that a crash may lose. */
const SAVE_MS = 5_000;
/** Rows of a statement: Cloudflare binds at most a hundred values, four each. */
const INSERTED_AT_ONCE = 25;
/** Of one answer over RPC. */
const MAX_PAGE_CHARS = 8 * 1024 * 1024;

const TABLES = `
CREATE TABLE IF NOT EXISTS decisions (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, tenant TEXT NOT NULL, at INTEGER NOT NULL, json TEXT NOT NULL, UNIQUE (id, tenant, at));
CREATE TABLE IF NOT EXISTS shadows (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, tenant TEXT NOT NULL, at INTEGER NOT NULL, json TEXT NOT NULL, UNIQUE (id, tenant, at));
CREATE TABLE IF NOT EXISTS feedback (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, tenant TEXT NOT NULL, json TEXT NOT NULL, UNIQUE (id, tenant));
CREATE TABLE IF NOT EXISTS counts (one INTEGER PRIMARY KEY CHECK (one = 1), json TEXT NOT NULL);
`;

/** Of what is kept by its time. */
type TimedTable = 'decisions' | 'shadows';
type Table = TimedTable | 'feedback';

export interface Page<T> {
  readonly items: T[];
  /** Where the next page begins; undefined at the end. */
  readonly next: number | undefined;
}

export interface RuleHits {
  readonly rule: string;
  readonly requests: number;
}

export class Decisions extends DurableObject {
  readonly #sql = this.ctx.storage.sql;
  readonly #ledger: Ledger;
  readonly #held: Record<Table, { rows: number; chars: number }>;
  #isSaveDue = false;

  constructor(state: DurableObjectState, env: unknown) {
    super(state, env as never);
    this.#sql.exec(TABLES);
    const [saved] = this.#sql.exec<{ json: string }>('SELECT json FROM counts').toArray();
    this.#ledger = new Ledger(saved === undefined ? [] : (JSON.parse(saved.json) as Increments));
    this.#held = {
      decisions: this.#measure('decisions'),
      shadows: this.#measure('shadows'),
      feedback: this.#measure('feedback'),
    };
  }

  /** What an isolate has to tell. */
  async tell(batch: Batch): Promise<void> {
    this.ctx.storage.transactionSync(() => {
      this.#insert('decisions', batch.records);
      this.#trim('decisions', MAX_RECORDS, MAX_RECORD_BYTES);
      this.#forgetOlder('decisions', Date.now() - MAX_AGE_MS);
    });
    this.#ledger.hear(batch, Date.now());
    await this.#saveLater();
  }

  /** The latest records as JSON, the newest first. @param before as the page before it said. */
  recent(limit: number, before = Number.MAX_SAFE_INTEGER): Page<string> {
    return this.#latest('decisions', limit, before);
  }

  /** Keeps a comparison of an answer with its shadow. Told twice, it is kept, and counted, once. */
  async compared(record: KeptRecord, counted: { readonly rule: string; readonly result: string }): Promise<void> {
    this.ctx.storage.transactionSync(() => {
      if (this.#insert('shadows', [record]) === 0) return;
      this.#ledger.add('signpost_shadow_comparisons_total', { ...counted });
      this.#trim('shadows', MAX_COMPARISONS, MAX_COMPARISON_BYTES);
      this.#forgetOlder('shadows', Date.now() - MAX_AGE_MS);
    });
    await this.#saveLater();
  }

  /** The latest comparisons as JSON, the newest first. @param before as the page before it said. */
  comparisons(limit: number, before = Number.MAX_SAFE_INTEGER): Page<string> {
    return this.#latest('shadows', limit, before);
  }

  /** Keeps what is said of a decision, in place of what was said before; undefined where there is no such decision of this tenant's. */
  async judge(judgement: Judgement): Promise<Feedback | undefined> {
    const { id, tenant } = judgement;
    const key = [id, tenant ?? ''] as const;
    const [made] = this.#sql
      .exec<Row>('SELECT seq, json FROM decisions WHERE id = ? AND tenant = ? ORDER BY seq DESC LIMIT 1', ...key)
      .toArray();
    const [said] = this.#sql.exec<Row>('SELECT seq, json FROM feedback WHERE id = ? AND tenant = ?', ...key).toArray();
    const before = said === undefined ? undefined : (JSON.parse(said.json) as Feedback);
    const decision = made === undefined ? before && ofFeedback(before) : ofRecord(JSON.parse(made.json));
    if (decision === undefined) return undefined;
    const feedback = feedbackSchema.parse({
      object: 'feedback',
      decision_id: id,
      time: new Date().toISOString(),
      tenant: tenant ?? null,
      verdict: judgement.verdict,
      expected: judgement.expected ?? null,
      comment: judgement.comment ?? null,
      ...decision,
      text: judgement.prompt ?? decision.text,
    });
    // Said again, it stays as it was said.
    if (before !== undefined && isSame(before, feedback)) return before;
    const json = JSON.stringify(feedback);
    this.ctx.storage.transactionSync(() => {
      if (said !== undefined) {
        this.#delete('feedback', 'seq = ?', said.seq);
      }
      const sql = 'INSERT INTO feedback (id, tenant, json) VALUES (?, ?, ?) RETURNING LENGTH(json) AS chars';
      this.#hold('feedback', 1, this.#sql.exec<Sized>(sql, ...key, json).one().chars);
      this.#trim('feedback', MAX_FEEDBACK, MAX_FEEDBACK_BYTES);
    });
    if (before?.verdict !== feedback.verdict)
      this.#ledger.add('signpost_feedback_total', { verdict: feedback.verdict });
    await this.#saveLater();
    return feedback;
  }

  /** Feedback as JSON, the oldest first. @param tenant whose; everybody's where it is left out, the anonymous' where it is empty. */
  feedback(limit: number, after = 0, tenant?: string): Page<string> {
    return this.#page(
      tenant === undefined
        ? this.#sql.exec<Row>('SELECT seq, json FROM feedback WHERE seq > ? ORDER BY seq LIMIT ?', after, limit + 1)
        : this.#sql.exec<Row>(
            'SELECT seq, json FROM feedback WHERE seq > ? AND tenant = ? ORDER BY seq LIMIT ?',
            after,
            tenant,
            limit + 1,
          ),
      limit,
    );
  }

  /** Requests by rule, the most first; without those that came to no rule. */
  ruleHits(): RuleHits[] {
    const sums = this.#ledger.sumBy('signpost_requests_total', 'rule');
    return sums.flatMap(([rule, requests]) => (rule === '' ? [] : { rule, requests }));
  }

  /** In Prometheus' text format. */
  metrics(): string {
    const { rows, chars } = this.#held.decisions;
    return this.#ledger.exposition(Date.now(), [
      { name: 'signpost_decisions', labels: {}, value: rows },
      { name: 'signpost_decisions_bytes', labels: {}, value: chars },
    ]);
  }

  override alarm(): void {
    this.#isSaveDue = false;
    this.#sql.exec('INSERT OR REPLACE INTO counts (one, json) VALUES (1, ?)', JSON.stringify(this.#ledger.save()));
  }

  async #saveLater(): Promise<void> {
    if (this.#isSaveDue) return;
    this.#isSaveDue = true;
    await this.ctx.storage.setAlarm(Date.now() + SAVE_MS);
  }

  /** @returns how many of them are new. */
  #insert(table: TimedTable, records: readonly KeptRecord[]): number {
    let added = 0;
    for (let from = 0; from < records.length; from += INSERTED_AT_ONCE) {
      const some = records.slice(from, from + INSERTED_AT_ONCE);
      const rows = some.map(() => '(?, ?, ?, ?)').join(', ');
      const values = some.flatMap(({ id, tenant, at, json }) => [id, tenant ?? '', at, json]);
      const sql = `INSERT OR IGNORE INTO ${table} (id, tenant, at, json) VALUES ${rows} RETURNING LENGTH(json) AS chars`;
      const kept = this.#sql.exec<Sized>(sql, ...values).toArray();
      this.#hold(table, kept.length, charsOf(kept));
      added += kept.length;
    }
    return added;
  }

  #latest(table: TimedTable, limit: number, before: number): Page<string> {
    const rows = this.#sql.exec<Row>(
      `SELECT seq, json FROM ${table} WHERE seq < ? ORDER BY seq DESC LIMIT ?`,
      before,
      limit + 1,
    );
    return this.#page(rows, limit);
  }

  #measure(table: Table): { rows: number; chars: number } {
    return this.#sql
      .exec<{ rows: number; chars: number }>(
        `SELECT COUNT(*) AS rows, COALESCE(SUM(LENGTH(json)), 0) AS chars FROM ${table}`,
      )
      .one();
  }

  #hold(table: Table, rows: number, chars: number): void {
    this.#held[table].rows += rows;
    this.#held[table].chars += chars;
  }

  /** The oldest go. */
  #trim(table: Table, rows: number, chars: number): void {
    const held = this.#held[table];
    while (held.rows > rows || held.chars > chars) {
      const oldest = `seq IN (SELECT seq FROM ${table} ORDER BY seq LIMIT ?)`;
      if (this.#delete(table, oldest, Math.max(1, held.rows - rows)) === 0) return;
    }
  }

  /** @returns how many there were. */
  #delete(table: Table, where: string, value: number): number {
    const sql = `DELETE FROM ${table} WHERE ${where} RETURNING LENGTH(json) AS chars`;
    const gone = this.#sql.exec<Sized>(sql, value).toArray();
    this.#hold(table, -gone.length, -charsOf(gone));
    return gone.length;
  }

  #forgetOlder(table: TimedTable, at: number): void {
    // By their order, which is nearly that of their time: an index on time would cost a row written with each.
    for (;;) {
      const [oldest] = this.#sql
        .exec<{ seq: number; at: number }>(`SELECT seq, at FROM ${table} ORDER BY seq LIMIT 1`)
        .toArray();
      if (oldest === undefined || oldest.at >= at) return;
      this.#delete(table, 'seq = ?', oldest.seq);
    }
  }

  #page(rows: Iterable<Row>, limit: number): Page<string> {
    const items: string[] = [];
    let chars = 0;
    let last: number | undefined;
    for (const { seq, json } of rows) {
      if (items.length === limit || (items.length > 0 && chars + json.length > MAX_PAGE_CHARS))
        return { items, next: last };
      items.push(json);
      chars += json.length;
      last = seq;
    }
    return { items, next: undefined };
  }
}

type Row = { seq: number; json: string };

/** Of a row that came or went: its characters, counted by SQLite both times. */
type Sized = { chars: number };

function charsOf(rows: readonly Sized[]): number {
  return rows.reduce((sum, { chars }) => sum + chars, 0);
}

type DecisionFields = Pick<Feedback, 'decided' | 'label' | 'confidence' | 'rule' | 'model' | 'text'>;

function ofRecord(record: DecisionRecord): DecisionFields {
  return {
    decided: record.time,
    label: record['signpost.label'] ?? null,
    confidence: record['signpost.confidence'] ?? null,
    rule: record['signpost.rule'] ?? null,
    model: record['gen_ai.response.model'] ?? null,
    text: record['signpost.prompt'] ?? null,
  };
}

/** Where the record has been driven out. */
function ofFeedback({ decided, label, confidence, rule, model, text }: Feedback): DecisionFields {
  return { decided, label, confidence, rule, model, text };
}

function isSame(a: Feedback, b: Feedback): boolean {
  return JSON.stringify({ ...a, time: '' }) === JSON.stringify({ ...b, time: '' });
}
