/**
 * Every endpoint of the edge, for its OpenAPI document: what it takes, and what it answers.
 */
import {
  chatRequestSchema,
  completionRequestSchema,
  detokenizeRequestSchema,
  feedbackListSchema,
  feedbackRequestSchema,
  feedbackSchema,
  HEARTBEAT_PATH,
  heartbeatSchema,
  tokenizeRequestSchema,
} from '@signpost/contracts';
import { z } from 'zod';
import * as answers from './answers.ts';

export interface Endpoint {
  readonly method: 'get' | 'post' | 'put' | 'delete';
  readonly path: string;
  readonly id: string;
  readonly summary: string;
  /** What it asks for: an API key, a key for metrics, a token signed by a region, nothing. */
  readonly access: 'apiKey' | 'metricsKey' | 'regionToken' | 'none';
  readonly query?: Readonly<Record<string, { readonly description: string; readonly schema: z.ZodType }>>;
  /** The body. */
  readonly takes?: SchemaName;
  /** By media type. */
  readonly answers: Readonly<Record<string, SchemaName | 'text'>>;
  /** Statuses of its errors, beside 500 and those of `access`. */
  readonly errors: readonly (400 | 403 | 404 | 413 | 429 | 504)[];
  /** What its answers' headers say beside who they are: what was decided, also of one that may have been kept, or where they come from. */
  readonly tells?: 'answer' | 'decision' | 'region';
}

/** The document's components. */
export const SCHEMAS = {
  ChatRequest: chatRequestSchema,
  ChatCompletion: answers.chatCompletion,
  ChatCompletionChunk: answers.chatChunk,
  CompletionRequest: completionRequestSchema,
  Completion: answers.completion,
  RouteRequest: z.union([chatRequestSchema, completionRequestSchema]),
  Route: answers.route,
  TokenizeRequest: tokenizeRequestSchema,
  Tokens: answers.tokens,
  DetokenizeRequest: detokenizeRequestSchema,
  Detokenized: answers.detokenized,
  ModelList: answers.modelList,
  FeedbackRequest: feedbackRequestSchema,
  Feedback: feedbackSchema,
  FeedbackList: feedbackListSchema,
  Heartbeat: heartbeatSchema,
  Heard: answers.heard,
  Health: answers.health,
  Error: answers.errorBody,
} as const satisfies Readonly<Record<string, z.ZodType>>;

export type SchemaName = keyof typeof SCHEMAS;

const JSON_TYPE = 'application/json';
const STREAM_TYPE = 'text/event-stream';

const wholeNumber = z.int().nonnegative();
/** A body that is none, or too large; too much for key or regions; one that took too long. */
const SERVED = [400, 403, 404, 413, 429, 504] as const;

export const ENDPOINTS: readonly Endpoint[] = [
  {
    method: 'post',
    path: '/v1/chat/completions',
    id: 'createChatCompletion',
    summary: 'Answers a conversation; with `stream`, in server-sent events that end in `[DONE]`',
    access: 'apiKey',
    takes: 'ChatRequest',
    answers: { [JSON_TYPE]: 'ChatCompletion', [STREAM_TYPE]: 'ChatCompletionChunk' },
    errors: SERVED,
    tells: 'answer',
  },
  {
    method: 'post',
    path: '/v1/completions',
    id: 'createCompletion',
    summary: 'Completes one text or several; with `stream`, in server-sent events that end in `[DONE]`',
    access: 'apiKey',
    takes: 'CompletionRequest',
    answers: { [JSON_TYPE]: 'Completion', [STREAM_TYPE]: 'Completion' },
    errors: SERVED,
    tells: 'answer',
  },
  {
    method: 'post',
    path: '/v1/route',
    id: 'explainRoute',
    summary: 'What would become of a request, and why; nothing is answered',
    access: 'apiKey',
    takes: 'RouteRequest',
    answers: { [JSON_TYPE]: 'Route' },
    errors: [400, 413],
  },
  {
    method: 'post',
    path: '/tokenize',
    id: 'tokenize',
    summary: 'Tokens of a prompt or a conversation, by the model that would answer it',
    access: 'apiKey',
    takes: 'TokenizeRequest',
    answers: { [JSON_TYPE]: 'Tokens' },
    errors: SERVED,
    tells: 'decision',
  },
  {
    method: 'post',
    path: '/detokenize',
    id: 'detokenize',
    summary: 'The text of tokens',
    access: 'apiKey',
    takes: 'DetokenizeRequest',
    answers: { [JSON_TYPE]: 'Detokenized' },
    errors: SERVED,
    tells: 'decision',
  },
  {
    method: 'get',
    path: '/v1/models',
    id: 'listModels',
    summary: 'The base, its experts, and `auto`',
    access: 'apiKey',
    answers: { [JSON_TYPE]: 'ModelList' },
    errors: [429, 504],
    tells: 'region',
  },
  {
    method: 'post',
    path: '/v1/feedback',
    id: 'giveFeedback',
    summary: 'Says whether a past decision of the tenant’s was right; the last word counts',
    access: 'apiKey',
    takes: 'FeedbackRequest',
    answers: { [JSON_TYPE]: 'Feedback' },
    errors: [400, 404, 413],
  },
  {
    method: 'get',
    path: '/v1/feedback',
    id: 'listFeedback',
    summary: 'The tenant’s feedback, the oldest first',
    access: 'apiKey',
    query: {
      limit: { description: 'Lines of a page; 1,000 where it is left out', schema: wholeNumber.max(10_000) },
      after: { description: 'The page before’s `next`', schema: wholeNumber },
    },
    answers: { [JSON_TYPE]: 'FeedbackList' },
    errors: [400],
  },
  {
    method: 'get',
    path: '/health',
    id: 'health',
    summary:
      'That the edge is there; for administrators, or where everybody is served, also classifier, rules in force, and regions, as one isolate knows them',
    access: 'none',
    answers: { [JSON_TYPE]: 'Health' },
    errors: [],
  },
  {
    method: 'get',
    path: '/metrics',
    id: 'metrics',
    summary: 'What all isolates have counted, for Prometheus; 404 where no key for it is set',
    access: 'metricsKey',
    answers: { 'text/plain': 'text' },
    errors: [404],
  },
  {
    method: 'get',
    path: '/openapi.json',
    id: 'openapi',
    summary: 'This document',
    access: 'none',
    answers: { [JSON_TYPE]: 'text' },
    errors: [],
  },
  {
    method: 'post',
    path: HEARTBEAT_PATH,
    id: 'hearRegion',
    summary: 'What a region says of itself',
    access: 'regionToken',
    takes: 'Heartbeat',
    answers: { [JSON_TYPE]: 'Heard' },
    errors: [400, 413],
  },
];
