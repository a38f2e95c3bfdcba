/**
 * `POST /v1/completions`: OpenAI's wire format, with vLLM's further sampling fields.
 */
import { z } from 'zod';
import type { FinishReason, Usage } from '../openai.ts';
import { generationSchema, refused, tokenId } from './fields.ts';

const MAX_PROMPTS = 64;
const text = z.string().min(1);
const ids = z.array(tokenId).min(1);

export const completionRequestSchema = generationSchema(
  {
    /** One text or several, each as text or as token ids. */
    prompt: z.union([text, ids, z.array(text).min(1).max(MAX_PROMPTS), z.array(ids).min(1).max(MAX_PROMPTS)], {
      error: `must be a non-empty string or array of token ids, or at most ${MAX_PROMPTS} of them`,
    }),
    /** 0 scores the prompt without generating (with `echo` and `logprobs`). */
    max_tokens: z.number().int().nonnegative().nullish(),
    /** Return the prompt, and with `logprobs` its tokens' log-probabilities. */
    echo: z.boolean().nullish(),
    logprobs: z.number().int().min(0).max(5).nullish(),
    suffix: refused(''),
  },
  ({ echo, max_tokens, prompt, resume_token_ids }) => {
    const found: [string, string][] = [];
    if (max_tokens === 0 && echo !== true) found.push(['max_tokens', '0 only makes sense with echo']);
    if (resume_token_ids != null && echo === true) found.push(['resume_token_ids', "can't be combined with echo"]);
    if (resume_token_ids != null && promptsOf(prompt).length > 1)
      found.push(['resume_token_ids', 'can only resume the answer to a single prompt']);
    return found;
  },
);
export type CompletionRequest = z.output<typeof completionRequestSchema>;
export type Prompt = string | readonly number[];

/** The prompts of a request, one or several. */
export function promptsOf(prompt: CompletionRequest['prompt']): readonly Prompt[] {
  if (typeof prompt === 'string') return [prompt];
  return prompt.every((entry) => typeof entry === 'number') ? [prompt] : prompt;
}

/** Log-probabilities in the completions shape: one entry a token; the first prompt token has none. */
export interface CompletionLogprobs {
  readonly tokens: readonly string[];
  readonly token_logprobs: readonly (number | null)[];
  readonly text_offset: readonly number[];
  readonly top_logprobs: readonly (Readonly<Record<string, number>> | null)[] | null;
}

export interface CompletionChoice {
  readonly index: number;
  readonly text: string;
  readonly logprobs: CompletionLogprobs | null;
  readonly finish_reason: FinishReason | null;
  readonly token_ids?: readonly number[];
  readonly prompt_token_ids?: readonly number[];
}

/** Whole and streamed completions share this shape. */
export interface Completion {
  readonly id: string;
  readonly object: 'text_completion';
  readonly created: number;
  readonly model: string;
  readonly choices: readonly CompletionChoice[];
  readonly usage?: Usage | null;
}
