/**
 * A streamed answer as it comes: its text, and how fast. No I/O, and no clock of its own.
 */
import { Refusal } from '../api/refusal.ts';

export interface Progress {
  readonly text: string;
  /** From the request's start; undefined before the first token. */
  readonly firstTokenMs: number | undefined;
  /** Tokens: as the region counts them once it has said so, chunks until then. */
  readonly tokens: number;
  /** Of the tokens after the first. */
  readonly tokensPerSecond: number | undefined;
  readonly finish: string | undefined;
}

interface Chunk {
  readonly choices?: readonly {
    readonly delta?: { readonly content?: string | null };
    readonly finish_reason?: string | null;
  }[];
  readonly usage?: { readonly completion_tokens: number } | null;
  readonly error?: { readonly message: string; readonly code: string };
}

export const NOTHING_YET: Progress = {
  text: '',
  firstTokenMs: undefined,
  tokens: 0,
  tokensPerSecond: undefined,
  finish: undefined,
};

/**
 * What is there after one more event.
 *
 * @param atMs since the request's start
 * @throws Refusal for an event that tells of an error
 */
export function advance(before: Progress, data: string, atMs: number): Progress {
  const { choices, usage, error } = JSON.parse(data) as Chunk;
  if (error !== undefined) throw new Refusal(error.message, 200, error.code);
  const [choice] = choices ?? [];
  const content = choice?.delta?.content ?? '';
  const firstTokenMs = before.firstTokenMs ?? (content === '' ? undefined : atMs);
  const tokens = usage?.completion_tokens ?? before.tokens + (content === '' ? 0 : 1);
  // The count at the end comes after the last token: it says how many there were, not how long they took.
  const rate = content === '' ? undefined : rateOf(tokens, firstTokenMs, atMs);
  return {
    text: before.text + content,
    firstTokenMs,
    tokens,
    tokensPerSecond: rate ?? before.tokensPerSecond,
    finish: choice?.finish_reason ?? before.finish,
  };
}

function rateOf(tokens: number, firstTokenMs: number | undefined, atMs: number): number | undefined {
  if (firstTokenMs === undefined || atMs <= firstTokenMs || tokens < 2) return undefined;
  return (1_000 * (tokens - 1)) / (atMs - firstTokenMs);
}
