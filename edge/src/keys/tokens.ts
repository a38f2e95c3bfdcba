/**
 * Tokens of a request for a key that has so many a day: the most that it may come to, as far as its body tells, which is reserved for it; and what it came to.
 */
import type { Ask, RuleChanges } from '../ask/ask.ts';
import type { Outcome } from '../forward/outcome.ts';
import type { Guest } from './door.ts';

/** Of a chat that names no number; with tokens a day it isn't let beyond. */
const CHAT_TOKENS = 2_048;
/** What a region takes for a completion that names none. */
const COMPLETION_TOKENS = 16;

interface Reserve {
  /** Prompt and all choices. */
  readonly tokens: number;
  /** Of one choice. */
  readonly answerTokens: number;
}

export function reserveFor({ path, body, promptTokens }: Pick<Ask, 'path' | 'body' | 'promptTokens'>): Reserve {
  const { max_tokens: max, max_completion_tokens: maxCompletion, n, prompt } = body;
  const answerTokens =
    path === '/v1/completions'
      ? (number(max) ?? COMPLETION_TOKENS)
      : (number(maxCompletion) ?? number(max) ?? CHAT_TOKENS);
  const prompts = Array.isArray(prompt) && typeof prompt[0] !== 'number' ? prompt.length : 1;
  return { tokens: promptTokens + answerTokens * (number(n) ?? 1) * prompts, answerTokens };
}

/** With tokens a day an answer may not go beyond what is reserved for it. */
export function boundBy(
  changes: RuleChanges,
  { standing }: Pick<Guest, 'standing'>,
  { answerTokens }: Reserve,
): RuleChanges {
  if (standing.tokens === undefined) return changes;
  return { ...changes, maxTokens: Math.min(changes.maxTokens ?? answerTokens, answerTokens) };
}

/**
 * What a request is charged that has ended: what its region counted, else what passed. A region that read the prompt is paid for that, too, where the app left it;
 * one that failed, or refused, isn't.
 *
 * @param promptTokens as far as its length tells, where no region has counted.
 */
export function chargeFor({ ending, usage }: Outcome, promptTokens: number): number {
  if (usage !== undefined) return (usage.promptTokens ?? promptTokens) + usage.completionTokens;
  return ending === 'whole' || ending === 'left' ? promptTokens : 0;
}

function number(value: unknown): number | undefined {
  return typeof value === 'number' ? value : undefined;
}
