/**
 * Feedback: whether a past decision was right. What the edge takes and hands out, and `signpost-packer router train` reads.
 */
import { z } from 'zod';

/** Longer texts tell a classifier nothing more. */
export const MAX_FEEDBACK_PROMPT_CHARS = 16_384;
const label = z.string().regex(/^[\w.-]{1,64}$/, 'expected 1 to 64 letters, digits, ".", "_", "-"');

/** Body of `POST /v1/feedback`. */
export const feedbackRequestSchema = z.strictObject({
  /** The answer's `x-request-id`. */
  decision_id: z.string().regex(/^[\w.:-]{1,128}$/, "expected an answer's x-request-id"),
  verdict: z.enum(['right', 'wrong']),
  /** The label that would have been right. */
  expected: label.optional(),
  comment: z.string().max(2_000).optional(),
  /** The prompt's text, to train on: kept only if it is sent along. */
  prompt: z.string().min(1).max(MAX_FEEDBACK_PROMPT_CHARS).optional(),
});
export type FeedbackRequest = z.output<typeof feedbackRequestSchema>;

/** Feedback as it is kept: what was said, and of what decision. A line of `signpost feedback export`. */
export const feedbackSchema = z.strictObject({
  object: z.literal('feedback'),
  decision_id: z.string(),
  /** When it was given, and when the decision was made (ISO 8601, UTC). */
  time: z.iso.datetime(),
  decided: z.iso.datetime(),
  tenant: z.string().nullable(),
  verdict: z.enum(['right', 'wrong']),
  expected: label.nullable(),
  comment: z.string().nullable(),
  /** What the classifier said; null where it said nothing. */
  label: z.string().nullable(),
  confidence: z.number().nullable(),
  rule: z.string().nullable(),
  model: z.string().nullable(),
  /** The prompt, from the feedback or (with RECORD_PROMPTS) the decision; null where neither has it. */
  text: z.string().nullable(),
});
export type Feedback = z.output<typeof feedbackSchema>;

/** Answer of `GET /v1/feedback`. */
export const feedbackListSchema = z.strictObject({
  object: z.literal('list'),
  data: z.array(feedbackSchema),
  /** For the query `after` of the next page; null at the end. */
  next: z.string().nullable(),
});
export type FeedbackList = z.output<typeof feedbackListSchema>;

/** What feedback teaches: that this text has this label. Undefined where it lacks the text, or says only what the label is not. */
export function lessonOf({
  verdict,
  expected,
  label: said,
  text,
}: Feedback): { text: string; label: string } | undefined {
  const right = expected ?? (verdict === 'right' ? said : null);
  return text === null || right === null ? undefined : { text, label: right };
}
