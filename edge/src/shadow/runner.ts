/**
 * The queue's other end: asks a job's prompt of the shadow model, and compares what it says with what the app got.
 *
 * A shadow is nobody's request: it counts against no key, is in no decision record, wakes no region, and takes no overflow unless its rule names it. Regions
 * know it as a tenant of its own, so that their fairness between tenants keeps it from crowding others out.
 */
import { ApiError } from '@signpost/contracts';
import { AnswerReader } from '../answers/answer-text.ts';
import type { Knowledge } from '../fleet/knowledge.ts';
import { forward, only } from '../forward/forward.ts';
import type { Outcome } from '../forward/outcome.ts';
import type { FleetHealth } from '../forward/region-health.ts';
import { planRegions } from '../plan/plan.ts';
import type { Region } from '../plan/regions.ts';
import { readPlace } from '../route/place.ts';
import { chooseVersions } from '../route/versions.ts';
import type { Settings } from '../settings/settings.ts';
import { type Comparison, similarityOf } from './compare.ts';
import { type Said, type ShadowJob, shadowJobSchema } from './job.ts';

export interface ShadowRunnerParts {
  readonly settings: Settings;
  readonly knowledge: Pick<Knowledge, 'recent'>;
  readonly health: FleetHealth;
  /** Keeps a comparison; one that is told twice is kept once. */
  readonly keep: (comparison: Comparison) => Promise<void>;
  readonly log: (event: string, fields: Record<string, unknown>) => void;
}

export type JobResult = { readonly kind: 'done' } | { readonly kind: 'later'; readonly seconds: number };

const SHADOW_TENANT = 'signpost-shadow';
/** As often a job is tried whose regions are full or gone. */
export const MAX_ATTEMPTS = 4;
const RETRY_SECONDS = 30;
const MAX_TEXT_CHARS = 4_096;

export class ShadowRunner {
  readonly #parts: ShadowRunnerParts;

  constructor(parts: ShadowRunnerParts) {
    this.#parts = parts;
  }

  /**
   * @param message as the queue has it; what is no job is logged, and done with.
   * @param attempt counted from 1.
   * @throws what `keep` does: the queue tries again.
   */
  async run(message: unknown, attempt: number, waitUntil: (promise: Promise<unknown>) => void): Promise<JobResult> {
    const { data: job, error: malformed } = shadowJobSchema.safeParse(message);
    if (job === undefined) {
      this.#parts.log('shadow_malformed', { reason: malformed.issues[0]?.message });
      return { kind: 'done' };
    }
    try {
      await this.#parts.keep(this.#compared(job, await this.#ask(job, waitUntil)));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const mayPass = error.status === 429 || error.status >= 500;
      if (mayPass && attempt < MAX_ATTEMPTS) return { kind: 'later', seconds: RETRY_SECONDS * attempt };
      this.#parts.log('shadow_failed', { rule: job.rule, code: error.code, reason: error.message });
      await this.#parts.keep(failed(job, error.code));
    }
    return { kind: 'done' };
  }

  /** @throws ApiError where nobody answers, or not with one text. */
  async #ask(job: ShadowJob, waitUntil: (promise: Promise<unknown>) => void): Promise<Said> {
    const { settings, knowledge, health, log } = this.#parts;
    const known = await knowledge.recent(waitUntil);
    const facts = { tenant: job.tenant, headers: new Headers(), body: job.fields };
    const chosen = chooseVersions(job.shadow.model, 'tenant', facts, known.catalogue);
    const plan = planRegions(settings.regions, job.shadow.regions, {
      ...known,
      app: readPlace(undefined),
      load: { model: chosen.name, promptTokens: job.promptTokens },
    });
    const isNamed = ({ name }: Region) => job.shadow.regions?.includes(name) === true;
    const regions = plan.flatMap(({ region, isAsleep }) =>
      isAsleep || (region.role === 'overflow' && !isNamed(region)) ? [] : [region],
    );
    const reader = new AnswerReader();
    let outcome: Outcome | undefined;
    const { status } = await forward(
      {
        method: 'POST',
        path: job.path,
        fields: { ...job.fields, model: chosen.name, stream: false },
        byName: job.shadow.model,
        delivery: 'whole',
        tenant: SHADOW_TENANT,
        headers: { 'x-request-id': `shadow-${job.id}`.slice(0, 128) },
        // Bounded by the setting for whole answers.
        signal: new AbortController().signal,
      },
      only(regions),
      {
        ...settings,
        health,
        log,
        onData: (data) => reader.add(data),
        onOutcome: (ended) => {
          outcome = ended;
        },
      },
    );
    if (status >= 300)
      throw new ApiError('server_error', outcome?.errorCode ?? 'refused', `a region said ${status}`, {
        status,
      });
    const answer = reader.answer;
    if (answer === undefined || outcome === undefined)
      throw new ApiError('invalid_request_error', 'not_one_text', 'its answer is not one text');
    const { digests, usage, regions: answered, totalMs } = outcome;
    return {
      ...answer,
      digests,
      region: answered.at(-1) ?? '',
      tokens: usage?.completionTokens,
      ms: totalMs,
    };
  }

  #compared(job: ShadowJob, shadow: Said): Comparison {
    const { answer } = job;
    const cut = (text: string) => text.slice(0, MAX_TEXT_CHARS);
    return {
      ...named(job),
      shadow_digests: shadow.digests ?? null,
      result: answer.text === shadow.text ? 'same' : 'different',
      similarity: Math.round(similarityOf(answer.text, shadow.text) * 1e4) / 1e4,
      is_finish_same: answer.finishReason === shadow.finishReason,
      tokens: [answer.tokens ?? null, shadow.tokens ?? null],
      ms: [answer.ms, shadow.ms],
      error: null,
      texts:
        this.#parts.settings.records.prompts === 'recorded'
          ? { prompt: cut(promptOf(job.fields)), answer: cut(answer.text), shadow: cut(shadow.text) }
          : null,
    };
  }
}

function failed(job: ShadowJob, error: string): Comparison {
  return {
    ...named(job),
    shadow_digests: null,
    result: 'failed',
    similarity: null,
    is_finish_same: null,
    tokens: [job.answer.tokens ?? null, null],
    ms: [job.answer.ms, null],
    error,
    texts: null,
  };
}

function named({ id, at, tenant, rule, answer, shadow, fields }: ShadowJob) {
  return {
    object: 'shadow.comparison' as const,
    decision_id: id,
    time: new Date(at).toISOString(),
    tenant: tenant ?? null,
    rule,
    model: answer.model,
    digests: answer.digests ?? null,
    shadow_model: shadow.model,
    is_greedy: fields.temperature === 0,
  };
}

function promptOf({ messages, prompt }: Readonly<Record<string, unknown>>): string {
  return typeof prompt === 'string' ? prompt : JSON.stringify(messages ?? prompt);
}
