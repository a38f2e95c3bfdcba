/**
 * What an app asks for: a checked request body, and the text in it that routing looks at.
 */
import {
  type ChatRequest,
  type CompletionRequest,
  chatRequestSchema,
  checkBody,
  completionRequestSchema,
  promptsOf,
  readJson,
} from '@signpost/contracts';

export type GenerationPath = '/v1/chat/completions' | '/v1/completions';

export interface Ask {
  readonly path: GenerationPath;
  /** As the app wrote it. */
  readonly model: string;
  readonly delivery: 'stream' | 'whole';
  /** The last user message, or the text to complete; of several all, a line each, since one decision is made for them. Empty where there is none (token ids). */
  readonly prompt: string;
  /** All that is to be read before the first token, as JSON: tools, then messages or prompt, so that a conversation grows at its end. */
  readonly text: string;
  /** Its tokens, as far as its length in characters tells. */
  readonly promptTokens: number;
  /** The body as the app sent it, fields unknown to us included. */
  readonly body: Readonly<Record<string, unknown>>;
}

type Checked = Omit<Ask, 'body' | 'text' | 'promptTokens'>;

function chat(raw: unknown): Checked {
  const request = checkBody(raw, chatRequestSchema.sparse(raw));
  const prompt = request.messages.findLast(({ role }) => role === 'user')?.content ?? '';
  return { path: '/v1/chat/completions', ...common(request), prompt };
}

function completion(raw: unknown): Checked {
  const request = checkBody(raw, completionRequestSchema.sparse(raw));
  const texts = promptsOf(request.prompt).filter((one) => typeof one === 'string');
  const prompt = texts.join('\n');
  return { path: '/v1/completions', ...common(request), prompt };
}

/** Either kind, told apart by its fields, so that errors name what is wrong with the one that was meant. */
function either(raw: unknown): Checked {
  return typeof raw === 'object' && raw !== null && 'prompt' in raw ? completion(raw) : chat(raw);
}

const CHECKS = { '/v1/chat/completions': chat, '/v1/completions': completion, '/v1/route': either };

/**
 * Reads the body of a request to `path`. `/v1/route` takes the body of either generating endpoint.
 *
 * @throws ApiError (400 or 413) naming the field that is wrong.
 */
export async function readAsk(request: Request, path: keyof typeof CHECKS): Promise<Ask> {
  const raw = await readJson(request);
  const value = CHECKS[path](raw);
  // An object: the schema has passed it.
  const body = raw as Record<string, unknown>;
  const { tools, messages, prompt } = body;
  const text = `${tools == null ? '' : JSON.stringify(tools)}${JSON.stringify(messages ?? prompt ?? '')}`;
  const isTokens = Array.isArray(prompt) && prompt.every((part) => typeof part === 'number');
  return { ...value, text, promptTokens: isTokens ? prompt.length : Math.ceil(text.length / CHARS_PER_TOKEN), body };
}

/** English text under the usual vocabularies. */
export const CHARS_PER_TOKEN = 4;

function common({ model, stream }: ChatRequest | CompletionRequest): Pick<Ask, 'model' | 'delivery'> {
  return { model, delivery: stream === true ? 'stream' : 'whole' };
}

/** What a rule changes in a request beside its model. */
export interface RuleChanges {
  /** Bound on the answer's tokens; a request that names no number gets it as its number. */
  readonly maxTokens: number | undefined;
  /** Goes before a chat's own system prompt. */
  readonly systemPrefix: string | undefined;
}

/** The body's fields that a region gets: the app's own, with the model the rules came to and what else they change. */
export function upstreamFields(
  { path, body }: Ask,
  model: string,
  { maxTokens, systemPrefix }: RuleChanges,
): Record<string, unknown> {
  const messages = systemPrefix === undefined ? {} : { messages: prefixed(body.messages, systemPrefix) };
  if (maxTokens === undefined) return { ...body, ...messages, model };
  const fields = path === '/v1/completions' ? ['max_tokens'] : ['max_completion_tokens', 'max_tokens'];
  const given = fields.filter((field) => typeof body[field] === 'number');
  const capped = Object.fromEntries(
    given.length === 0
      ? fields.slice(0, 1).map((field) => [field, maxTokens])
      : given.map((field) => [field, Math.min(Number(body[field]), maxTokens)]),
  );
  return { ...body, ...messages, model, ...capped };
}

/** Messages, checked before, whose system prompt begins with `prefix`. */
function prefixed(messages: unknown, prefix: string): unknown[] {
  const [first, ...rest] = messages as { readonly role: string; readonly content: unknown }[];
  if (first?.role !== 'system' && first?.role !== 'developer')
    return [{ role: 'system', content: prefix }, ...(messages as unknown[])];
  const content =
    typeof first.content === 'string'
      ? `${prefix}\n\n${first.content}`
      : [{ type: 'text', text: `${prefix}\n\n` }, ...(first.content as unknown[])];
  return [{ ...first, content }, ...rest];
}
