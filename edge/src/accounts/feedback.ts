/**
 * Feedback on past decisions, as the API takes and hands it out: by whoever asked, on what they asked.
 */
import { ApiError, type Feedback, type FeedbackRequest, feedbackRequestSchema, readBody } from '@signpost/contracts';
import { pageResponse } from './pages.ts';

/** What is said of a decision. */
export interface Judgement extends Omit<FeedbackRequest, 'decision_id'> {
  readonly id: string;
  /** Undefined for an anonymous app. */
  readonly tenant: string | undefined;
}

/** Where decisions are kept. */
interface DecisionsStore {
  judge(judgement: Judgement): Promise<Feedback | undefined>;
  feedback(
    limit: number,
    after: number,
    tenant: string | undefined,
  ): Promise<{ items: string[]; next: number | undefined }>;
}

export interface FeedbackOptions {
  readonly store: DecisionsStore;
  /** Tells what this isolate has kept back so far. */
  readonly flush: () => Promise<void>;
  /** Until the other isolates have told what they had. */
  readonly settle: () => Promise<void>;
}

const DEFAULT_LIMIT = 1_000;
const MAX_LIMIT = 10_000;

/** @throws ApiError (404) for a decision that isn't known, or isn't this tenant's: which of them, nobody is told. */
export async function takeFeedback(
  request: Request,
  tenant: string | undefined,
  { store, flush, settle }: FeedbackOptions,
): Promise<Response> {
  const { value } = await readBody<FeedbackRequest>(request, feedbackRequestSchema);
  const { decision_id: id, ...said } = value;
  const judgement: Judgement = { id, tenant, ...said };
  await flush();
  let kept = await store.judge(judgement);
  if (kept === undefined) {
    await settle();
    kept = await store.judge(judgement);
  }
  if (kept !== undefined) return Response.json(kept);
  throw new ApiError(
    'not_found_error',
    'unknown_decision',
    `there is no decision "${id}" of yours: it must be the x-request-id of an answer that has ended, is recorded (DECISIONS_SAMPLE), and is one of the latest`,
    { param: 'decision_id' },
  );
}

/** A tenant's own feedback, page by page, the oldest first. @throws ApiError (400) */
export async function listFeedback(
  url: URL,
  tenant: string | undefined,
  { store }: FeedbackOptions,
): Promise<Response> {
  const limit = wholeNumber(url, 'limit', DEFAULT_LIMIT, MAX_LIMIT);
  const after = wholeNumber(url, 'after', 0, Number.MAX_SAFE_INTEGER);
  return pageResponse(await store.feedback(limit, after, tenant ?? ''));
}

function wholeNumber(url: URL, name: string, fallback: number, most: number): number {
  const given = url.searchParams.get(name);
  if (given === null) return fallback;
  const value = Number(given);
  if (/^\d+$/.test(given) && value <= most) return value;
  throw new ApiError(
    'invalid_request_error',
    'invalid_value',
    `${name} is "${given.slice(0, 32)}"; expected a whole number up to ${most}`,
    {
      param: name,
    },
  );
}
