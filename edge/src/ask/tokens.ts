/**
 * Asks for the tokens of a prompt (`/tokenize`) or their text (`/detokenize`): routed like the prompt itself, so that they are those of the model that would answer it.
 */
import {
  type DetokenizeRequest,
  detokenizeRequestSchema,
  readBody,
  type TokenizeRequest,
  tokenizeRequestSchema,
} from '@signpost/contracts';
import { type Ask, type RuleChanges, upstreamFields } from './ask.ts';

export type TokensPath = '/tokenize' | '/detokenize';

const SCHEMAS = { '/tokenize': tokenizeRequestSchema, '/detokenize': detokenizeRequestSchema };

/** To rules it is the request whose tokens they are: a chat, or a completion. @throws ApiError (400 or 413) naming the field that is wrong. */
export async function readTokensAsk(request: Request, path: TokensPath): Promise<Ask> {
  const { value, raw } = await readBody<TokenizeRequest | DetokenizeRequest>(request, SCHEMAS[path]);
  const messages = 'messages' in value ? value.messages : undefined;
  const prompt = 'prompt' in value ? value.prompt : undefined;
  return {
    path: messages == null ? '/v1/completions' : '/v1/chat/completions',
    // As a region has it.
    model: value.model ?? 'base',
    delivery: 'whole',
    prompt: prompt ?? messages?.findLast(({ role }) => role === 'user')?.content ?? '',
    // Nothing is computed for it.
    text: '',
    promptTokens: 0,
    body: raw as Record<string, unknown>,
  };
}

/** The body's fields that a region gets. */
export function tokensFields(ask: Ask, model: string, { systemPrefix }: RuleChanges): Record<string, unknown> {
  return upstreamFields(ask, model, { maxTokens: undefined, systemPrefix });
}
