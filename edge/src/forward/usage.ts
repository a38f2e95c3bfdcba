/**
 * What an answer took, as its region counts it. Streams tell only those that ask: the edge asks on its own behalf, and takes it out again where the app didn't.
 */
import type { TokenUsage } from './outcome.ts';

type Fields = Readonly<Record<string, unknown>>;

interface StreamOptions {
  readonly include_usage?: boolean;
}

export function wantsUsage({ stream_options: options }: Fields): boolean {
  return (options as StreamOptions | null | undefined)?.include_usage === true;
}

/** A stream's fields that ask for its usage. */
export function askingForUsage(fields: Fields): Fields {
  if (wantsUsage(fields)) return fields;
  return { ...fields, stream_options: { ...(fields.stream_options as StreamOptions | null), include_usage: true } };
}

/** Places that look like it: a text or token that is just that word, `"content":"usage"`. Usage stands after them. */
const MAX_LOOKS = 64;
/** Longer than any: a handful of numbers. */
const MAX_USAGE_CHARS = 2_000;

/**
 * The usage in an answer's JSON, found from its end without reading the rest: inside of strings its quotes would be escaped.
 */
export function usageIn(json: string): TokenUsage | undefined {
  let from = json.length;
  for (let look = 0; look < MAX_LOOKS && from >= 0; look++) {
    const at = json.lastIndexOf('"usage"', from);
    if (at === -1) return undefined;
    from = at - 1;
    const usage = objectAfter(json, at + '"usage"'.length);
    if (usage !== undefined) return readUsage(usage);
  }
  return undefined;
}

/** The object behind a colon; undefined where there is another value. It has no strings, so that braces are braces. */
function objectAfter(json: string, from: number): string | undefined {
  const start = json.indexOf('{', from);
  if (start === -1 || !/^\s*:\s*$/.test(json.slice(from, start))) return undefined;
  let depth = 0;
  for (let i = start; i < Math.min(json.length, start + MAX_USAGE_CHARS); i++) {
    const unit = json.charCodeAt(i);
    if (unit === OPENING) depth++;
    else if (unit === CLOSING && --depth === 0) return json.slice(start, i + 1);
  }
  return undefined;
}

const OPENING = '{'.charCodeAt(0);
const CLOSING = '}'.charCodeAt(0);

function readUsage(json: string): TokenUsage | undefined {
  try {
    return tokenUsage(JSON.parse(json));
  } catch {
    return undefined;
  }
}

/** OpenAI's `usage` object; undefined for anything that is none. */
export function tokenUsage(usage: unknown): TokenUsage | undefined {
  if (typeof usage !== 'object' || usage === null) return undefined;
  const { prompt_tokens: prompt, completion_tokens: completion, prompt_tokens_details: details } = usage as Fields;
  if (typeof completion !== 'number') return undefined;
  const cached = (details as { readonly cached_tokens?: unknown } | null | undefined)?.cached_tokens;
  return {
    promptTokens: typeof prompt === 'number' ? prompt : undefined,
    completionTokens: completion,
    cachedTokens: typeof cached === 'number' ? cached : undefined,
    countedBy: 'region',
  };
}

/** A stream's usage, on its way: for streams that are passed on unread otherwise. */
export class UsageWatch {
  readonly #isWanted: boolean;
  /** As the app knows it. */
  readonly #model: unknown;
  readonly #used: (usage: TokenUsage) => void;
  #chunks = 0;

  constructor(fields: Fields, used: (usage: TokenUsage) => void) {
    this.#isWanted = wantsUsage(fields);
    this.#model = fields.model;
    this.#used = used;
  }

  /** Of each chunk a token; undefined before there was one. */
  get counted(): { readonly promptTokens: undefined; readonly completionTokens: number } | undefined {
    return this.#chunks === 0 ? undefined : { promptTokens: undefined, completionTokens: this.#chunks };
  }

  /** An event's payload as the app is to have it, which is mostly the same; undefined for one that it hasn't asked for. */
  pass(data: string): string | undefined {
    const usage = data.includes('"usage":{') ? usageIn(data) : undefined;
    if (usage !== undefined) this.#used(usage);
    const isUsageAlone = usage !== undefined && /"choices":\s*\[\]/.test(data);
    if (!isUsageAlone) this.#chunks++;
    if (this.#isWanted) return data;
    return isUsageAlone ? undefined : data.replace(',"usage":null', '');
  }

  /** The same for a server that isn't ours, whose JSON may be spelled in any way, and whose model has another name. @throws SyntaxError for what is no JSON. */
  passForeign(data: string): string | undefined {
    const { usage: said, ...chunk } = JSON.parse(data) as Fields;
    const usage = tokenUsage(said);
    if (usage !== undefined) this.#used(usage);
    const isUsageAlone = usage !== undefined && Array.isArray(chunk.choices) && chunk.choices.length === 0;
    if (!isUsageAlone) this.#chunks++;
    if (isUsageAlone && !this.#isWanted) return undefined;
    const own = this.#isWanted && said !== undefined ? { usage: said } : {};
    return JSON.stringify({ ...chunk, ...own, model: this.#model });
  }
}
