/**
 * An isolate's accounts, bound to where they are told.
 */
import type { DecisionRecord, Feedback } from '@signpost/contracts';
import type { Classifier } from '../classify/classifier.ts';
import type { FleetHealth } from '../forward/region-health.ts';
import type { RulesStore } from '../rules/store.ts';
import type { Settings } from '../settings/settings.ts';
import { Accounts } from './accounts.ts';
import { type DataPoint, dataPoint } from './data-point.ts';
import type { FeedbackOptions, Judgement } from './feedback.ts';
import { type Batch, FLUSH_MS, type IsolateReport, Outbox } from './outbox.ts';
import { SeriesCounts } from './series.ts';

/** The Durable Object, or what stands for it. */
interface DecisionsObject {
  tell(batch: Batch): Promise<void>;
  judge(judgement: Judgement): Promise<Feedback | undefined>;
  feedback(limit: number, after?: number, tenant?: string): Promise<{ items: string[]; next: number | undefined }>;
  metrics(): Promise<string>;
}

export interface OpenOptions {
  readonly settings: Settings;
  readonly rules: RulesStore;
  readonly classifier: Classifier;
  readonly health: FleetHealth;
  /** Made for each use: a stub is good for the request that made it. */
  readonly object: () => DecisionsObject;
  /** Undefined where there is no such binding. */
  readonly analytics: { writeDataPoint(point: DataPoint): void } | undefined;
  readonly now: () => number;
  readonly log: (event: string, fields: Record<string, unknown>) => void;
  /** Takes a record as a line of the log. */
  readonly writeLine: (json: string) => void;
}

/** A time longer than any isolate takes until it has told what it had. */
const SETTLE_MS = 2 * FLUSH_MS;

export function openAccounts(options: OpenOptions): {
  readonly accounts: Accounts;
  readonly counts: SeriesCounts;
  readonly feedback: FeedbackOptions;
  readonly metrics: () => Promise<string>;
} {
  const { settings, object, analytics, now, log, writeLine } = options;
  const counts = new SeriesCounts();
  const isolate = crypto.randomUUID();
  const sleep = (ms: number) => new Promise<void>((resolve) => void setTimeout(resolve, ms));
  const outbox = new Outbox({
    counts,
    report: () => reportOf(isolate, options),
    send: (batch) => object().tell(batch),
    sleep,
    now,
    log,
  });
  const publish = (record: DecisionRecord, json: string) => {
    if (settings.records.log === 'written') writeLine(json);
    analytics?.writeDataPoint(dataPoint(record));
  };
  return {
    accounts: new Accounts({ ...settings.records, counts, outbox, publish, now }),
    counts,
    feedback: {
      store: {
        judge: (judgement) => object().judge(judgement),
        feedback: (limit, after, tenant) => object().feedback(limit, after, tenant),
      },
      flush: () => outbox.flush(),
      settle: () => sleep(SETTLE_MS),
    },
    metrics: async () => {
      await outbox.flush();
      return object().metrics();
    },
  };
}

function reportOf(isolate: string, { settings, rules, classifier, health, now }: OpenOptions): IsolateReport {
  const at = now();
  const breakers = settings.regions.map(({ name }) => [name, health.state(name, at).breaker] as const);
  const { known } = rules;
  return {
    isolate,
    breakers: Object.fromEntries(breakers),
    classifier: classifier.status.status,
    rules: known && { version: known.version, source: known.source, checkedAt: known.checkedAt },
  };
}
