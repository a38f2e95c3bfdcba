/**
 * Shadows: what a rule's requests are asked of beside the model that answers. A request whose answer has gone to its app is put into the queue, and asked there;
 * the app waits for nothing.
 */
import type { SeriesCounts } from '../accounts/series.ts';
import type { AnswerText } from '../answers/answer-text.ts';
import type { AnswerUse } from '../answers/uses.ts';
import type { Ask } from '../ask/ask.ts';
import type { Outcome } from '../forward/outcome.ts';
import { withTimeout } from '../forward/timeout.ts';
import type { ServedResolution } from '../route/route.ts';
import { MAX_JOB_BYTES, type ShadowJob } from './job.ts';

export interface CasterOptions {
  /** Takes a job. */
  readonly send: (job: ShadowJob) => Promise<unknown>;
  readonly counts: SeriesCounts;
  /** In [0, 1). */
  readonly dice: () => number;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly log: (event: string, fields: Record<string, unknown>) => void;
}

/** A request that is about to be answered. */
interface Answering {
  readonly id: string;
  readonly tenant: string | undefined;
  readonly ask: Ask;
  readonly rule: string;
  readonly resolution: ServedResolution;
  /** As regions get them. */
  readonly fields: () => Readonly<Record<string, unknown>>;
}

const SEND_TIMEOUT_MS = 5_000;

export class ShadowCaster {
  readonly #options: CasterOptions;

  constructor(options: CasterOptions) {
    this.#options = options;
  }

  /** What is done with the request's answer; undefined where its rule has no shadow, or it isn't of those drawn. */
  use(answering: Answering): AnswerUse | undefined {
    const { shadow } = answering.resolution;
    if (shadow === undefined || this.#options.dice() * 100 >= shadow.percent) return undefined;
    return async (answer, outcome) => {
      const result = await this.#cast(answering, answer, outcome);
      this.#options.counts.add('signpost_shadows_total', { rule: answering.rule, result });
    };
  }

  /** `unread`: there is no one text to compare with. */
  async #cast(
    { id, tenant, ask, rule, resolution, fields }: Answering,
    answer: AnswerText | undefined,
    { regions, digests, usage, totalMs }: Outcome,
  ): Promise<'queued' | 'unread' | 'too_large' | 'lost'> {
    const { shadow, model } = resolution;
    if (answer === undefined || shadow === undefined) return 'unread';
    const { model: _, stream: __, stream_options: ___, ...asked } = fields();
    const job: ShadowJob = {
      id,
      at: this.#options.now(),
      ...(tenant === undefined ? {} : { tenant }),
      path: ask.path,
      rule,
      shadow: { model: shadow.model, ...(shadow.regions === undefined ? {} : { regions: shadow.regions }) },
      fields: asked,
      promptTokens: ask.promptTokens,
      answer: {
        model,
        ...(digests === undefined ? {} : { digests }),
        region: regions.at(-1) ?? '',
        text: answer.text,
        finishReason: answer.finishReason,
        ...(usage === undefined ? {} : { tokens: usage.completionTokens }),
        ms: totalMs,
      },
    };
    if (new TextEncoder().encode(JSON.stringify(job)).length > MAX_JOB_BYTES) return 'too_large';
    try {
      await withTimeout(this.#options.send(job), SEND_TIMEOUT_MS, 'no answer');
      return 'queued';
    } catch (error) {
      this.#options.log('shadow_lost', { rule, reason: error instanceof Error ? error.message : String(error) });
      return 'lost';
    }
  }
}
