/**
 * A decision record: what the edge says of one request once it has ended. It goes to the log, to Analytics Engine (some of it) and to the ring of latest decisions.
 *
 * Flat, with stable names: OpenTelemetry's where it has one (semantic conventions `gen_ai`, `http`, `error`, `geo`, `url`), else under `signpost.`. What isn't
 * known is left out. No prompt and no answer is part of it, but for `signpost.prompt` where the operator asked for that.
 */
import { z } from 'zod';

export const DECISION_SCHEMA = 1;

const text = z.string();
const count = z.int().nonnegative();
const ms = z.number().nonnegative();
/** A value that rules may compare; null: the request had none. */
const scalar = z.union([z.string(), z.number(), z.boolean()]);

export const decisionSchema = z.strictObject({
  event: z.literal('decision'),
  /** Version of this schema: a new one where a name's meaning changes, not where a name is added. */
  schema: z.literal(DECISION_SCHEMA),
  /** The answer's `x-request-id`. */
  id: text,
  /** When the request came (ISO 8601, UTC). */
  time: z.iso.datetime(),
  /** W3C trace context: the request's trace, and the edge's own span in it. */
  trace_id: text,
  span_id: text,
  /** Share of requests that are recorded: each stands for 1 / share. */
  'signpost.sample': z.number().gt(0).max(1),

  'url.path': text,
  'signpost.tenant': text.optional(),
  /** Of a managed API key. */
  'signpost.key_id': text.optional(),
  'signpost.colo': text.optional(),
  'geo.country.iso_code': text.optional(),
  'geo.continent.code': text.optional(),

  'gen_ai.provider.name': z.literal('signpost'),
  'gen_ai.operation.name': z.enum(['chat', 'text_completion']),
  /** As the app wrote it. Missing where the body could not be read. */
  'gen_ai.request.model': text.optional(),
  'gen_ai.request.stream': z.boolean().optional(),
  /** Of the text that routing looks at, in UTF-16 units. */
  'signpost.prompt_chars': count.optional(),
  /** That text, cut; only with RECORD_PROMPTS. */
  'signpost.prompt': text.optional(),

  'signpost.classifier': text.optional(),
  'signpost.label': text.optional(),
  'signpost.confidence': z.number().optional(),
  'signpost.rule': text.optional(),
  'signpost.rules.version': text.optional(),
  'signpost.rules.source': text.optional(),
  /** What the rules came to: an expert or a mixture. */
  'gen_ai.response.model': text.optional(),
  /** Digests of the experts that answered (of a kept answer: that made it), joined by `+`. */
  'signpost.digest': text.optional(),
  /** What the answer cache had. Missing where the rule keeps no answers. A hit asks no region, and so has no usage. */
  'signpost.cache': z.enum(['hit', 'miss', 'bypass']).optional(),
  /** Regions in their planned order with the expected milliseconds to a first token: `eu=12.5,us=90.1`. */
  'signpost.plan': text.optional(),

  'http.response.status_code': z.int().min(100).max(599),
  'signpost.ending': z.enum(['whole', 'broken', 'left', 'refused', 'failed']),
  /** The error's code, where the app was told one. */
  'error.type': text.optional(),
  /** The region that answered, the last where several did, */
  'signpost.region': text.optional(),
  /** and all of them, in their order, by commas. */
  'signpost.regions': text.optional(),
  'signpost.resumes': count.optional(),
  'signpost.retries': count.optional(),
  'signpost.hedges': count.optional(),
  'gen_ai.usage.input_tokens': count.optional(),
  'gen_ai.usage.output_tokens': count.optional(),
  'gen_ai.usage.cache_read.input_tokens': count.optional(),
  /** `region`: its own count; `passed`: counted by the edge, until the answer broke or its app left. */
  'signpost.usage.counted_by': z.enum(['region', 'passed']).optional(),

  /** Milliseconds, each for itself. */
  'signpost.auth_ms': ms.optional(),
  'signpost.parse_ms': ms.optional(),
  'signpost.classify_ms': ms.optional(),
  'signpost.rules_ms': ms.optional(),
  'signpost.plan_ms': ms.optional(),
  /** From the forwarding's begin to the region's headers (streams). */
  'signpost.headers_ms': ms.optional(),
  /** From the request's coming, in seconds, as the convention has it. */
  'gen_ai.response.time_to_first_chunk': ms.optional(),
  'signpost.duration_ms': ms,

  /** The headers that the rules in force look at; null where the request had none. */
  'signpost.facts.headers': z.record(z.string(), z.string().nullable()).optional(),
  /** Fields of the body by dotted path: numbers, truth values and a few names of all requests, and what the rules in force look at. `{}` stands for a list or an object. */
  'signpost.facts.body': z.record(z.string(), z.union([scalar, z.strictObject({})]).nullable()).optional(),
});

export type DecisionRecord = z.output<typeof decisionSchema>;
