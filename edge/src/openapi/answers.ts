/**
 * What the edge and its regions answer, as schemas: for the OpenAPI document alone, no answer is checked by them where it is served. Each is held to the type that
 * is written for it elsewhere.
 */
import {
  type ChatCompletion,
  type ChatCompletionChunk,
  type Completion,
  cacheSchema,
  type DetokenizeResponse,
  ERROR_TYPES,
  type ErrorBody,
  type ModelList,
  shadowSchema,
  type TokenizeResponse,
  type Usage,
} from '@signpost/contracts';
import { z } from 'zod';

const count = z.int().nonnegative();
const tokenIds = z.array(count);

const usage: z.ZodType<Usage> = z.object({
  prompt_tokens: count,
  completion_tokens: count,
  total_tokens: count,
  prompt_tokens_details: z.object({ cached_tokens: count }).exactOptional(),
});

const finishReason = z.enum(['stop', 'length', 'tool_calls']);
const tokenLogprob = z.object({ token: z.string(), logprob: z.number(), bytes: z.array(count).nullable() });
const chatLogprobs = z
  .object({
    content: z.array(tokenLogprob.extend({ top_logprobs: z.array(tokenLogprob) })),
    refusal: z.null(),
  })
  .nullable();

export const chatCompletion: z.ZodType<ChatCompletion> = z.object({
  id: z.string(),
  object: z.literal('chat.completion'),
  created: count,
  model: z.string(),
  choices: z.array(
    z.object({
      index: count,
      message: z.object({
        role: z.literal('assistant'),
        content: z.string().nullable(),
        refusal: z.null(),
        tool_calls: z
          .array(
            z.object({
              id: z.string(),
              type: z.literal('function'),
              function: z.object({ name: z.string(), arguments: z.string() }),
            }),
          )
          .exactOptional(),
      }),
      logprobs: chatLogprobs,
      finish_reason: finishReason,
      token_ids: tokenIds.exactOptional(),
    }),
  ),
  usage,
  prompt_token_ids: tokenIds.exactOptional(),
});

export const chatChunk: z.ZodType<ChatCompletionChunk> = z.object({
  id: z.string(),
  object: z.literal('chat.completion.chunk'),
  created: count,
  model: z.string(),
  choices: z.array(
    z.object({
      index: count,
      delta: z.object({
        role: z.literal('assistant').exactOptional(),
        content: z.string().exactOptional(),
        tool_calls: z
          .array(
            z.object({
              index: count,
              id: z.string().exactOptional(),
              type: z.literal('function').exactOptional(),
              function: z.object({ name: z.string().exactOptional(), arguments: z.string() }),
            }),
          )
          .exactOptional(),
      }),
      logprobs: chatLogprobs,
      finish_reason: finishReason.nullable(),
      token_ids: tokenIds.exactOptional(),
    }),
  ),
  usage: usage.nullable().exactOptional(),
  prompt_token_ids: tokenIds.exactOptional(),
});

export const completion: z.ZodType<Completion> = z.object({
  id: z.string(),
  object: z.literal('text_completion'),
  created: count,
  model: z.string(),
  choices: z.array(
    z.object({
      index: count,
      text: z.string(),
      logprobs: z
        .object({
          tokens: z.array(z.string()),
          token_logprobs: z.array(z.number().nullable()),
          text_offset: z.array(count),
          top_logprobs: z.array(z.record(z.string(), z.number()).nullable()).nullable(),
        })
        .nullable(),
      finish_reason: finishReason.nullable(),
      token_ids: tokenIds.exactOptional(),
      prompt_token_ids: tokenIds.exactOptional(),
    }),
  ),
  usage: usage.nullable().exactOptional(),
});

export const tokens: z.ZodType<TokenizeResponse> = z.object({
  count,
  max_model_len: count,
  tokens: tokenIds,
  token_strs: z.array(z.string()).nullable(),
});

export const detokenized: z.ZodType<DetokenizeResponse> = z.object({ prompt: z.string() });

export const modelList: z.ZodType<ModelList> = z.object({
  object: z.literal('list'),
  data: z.array(
    z.object({
      id: z.string(),
      object: z.literal('model'),
      created: count,
      owned_by: z.string(),
      parent: z.string().nullable(),
      root: z.string(),
    }),
  ),
});

export const errorBody: z.ZodType<ErrorBody> = z.object({
  error: z.object({
    message: z.string(),
    type: z.enum(ERROR_TYPES),
    param: z.string().nullable(),
    code: z.string(),
  }),
});

const classifier = { status: z.enum(['cold', 'starting', 'ready', 'failed']), detail: z.string().optional() };

const limit = z.object({ limit: count, remaining: count, reset_ms: z.number() }).nullable();
const limits = z.object({
  requests_per_minute: limit,
  tokens_per_day: limit,
  concurrency: z.object({ limit: count, remaining: count }).nullable(),
});

export const route = z.object({
  object: z.literal('route'),
  request: z.object({
    path: z.string(),
    model: z.string(),
    tenant: z.string().nullable(),
    continent: z.string().nullable(),
    country: z.string().nullable(),
    colo: z.string().nullable(),
    prompt_chars: count,
  }),
  /** Null without a managed key. */
  key: z.object({ id: z.string(), models: z.array(z.string()), allows: z.boolean().nullable(), limits }).nullable(),
  classifier: z.object({ state: z.enum(['ready', 'abstained', 'cold', 'failed', 'skipped']), ...classifier }),
  classification: z
    .object({
      label: z.string(),
      confidence: z.number(),
      probabilities: z.record(z.string(), z.number()),
      threshold: z.number(),
      ms: z.number(),
    })
    .nullable(),
  rules: z.object({
    source: z.string(),
    version: z.string(),
    number: count.nullable(),
    age_ms: z.number(),
    problem: z.string().nullable(),
  }),
  passed: z.array(z.object({ rule: z.string(), result: z.union([z.literal(false), z.literal('unknown')]) })),
  rule: z.string(),
  /** As the rule has it. */
  action: z.record(z.string(), z.unknown()),
  model: z.string().nullable(),
  /** Null where the catalogue isn't known. */
  versions: z
    .array(
      z.object({
        expert: z.string(),
        selector: z.string(),
        digest: z.string(),
        weight: z.number(),
        share: z.number(),
        by: z.string(),
      }),
    )
    .nullable(),
  cache: z.object({ bypass: z.string().nullable(), ...cacheSchema.partial().shape }).nullable(),
  shadow: shadowSchema.nullable(),
  refused: z.string().nullable(),
  max_tokens: count.nullable(),
  ahead: z.array(z.string()),
  plan: z.array(
    z.object({
      region: z.string(),
      kind: z.enum(['http', 'openai', 'lambda']),
      draining: z.boolean(),
      held_back: z.boolean(),
      asleep: z.boolean(),
      total_ms: z.number(),
      terms: z.array(
        z.object({
          term: z.enum(['network', 'queue', 'page-in', 'prefill', 'cold-start', 'wake']),
          ms: z.number(),
          why: z.string(),
        }),
      ),
      /** Where each container has the model's experts; null where the catalogue isn't known. */
      experts: z
        .array(
          z.object({
            expert: z.string(),
            digest: z.string(),
            containers: z.array(z.enum(['device', 'loading', 'host', 'store'])),
          }),
        )
        .nullable(),
    }),
  ),
});

/** Beside `status` for administrators alone, unless everybody is served. */
export const health = z.object({
  status: z.literal('ok'),
  ...z
    .object({
      classifier: z.object(classifier),
      rules: z.object({
        source: z.string(),
        version: z.string(),
        number: count.nullable(),
        problem: z.string().nullable(),
      }),
      regions: z.array(
        z.object({
          name: z.string(),
          kind: z.enum(['http', 'openai', 'lambda']),
          role: z.enum(['regular', 'overflow']),
          breaker: z.enum(['closed', 'open', 'half-open']),
          hedge_after_ms: z.number().nullable(),
          network_ms: z.number().nullable(),
          replicas: z.array(
            z.object({
              replica: z.string(),
              heard_ms_ago: z.number(),
              running: count,
              waiting: count,
              draining: z.boolean(),
            }),
          ),
        }),
      ),
      anonymous: z.enum(['allowed', 'refused']),
    })
    .partial().shape,
});

export const heard = z.object({ heard: z.boolean() });
