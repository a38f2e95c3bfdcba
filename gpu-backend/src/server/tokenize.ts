/**
 * `POST /tokenize` and `POST /detokenize`.
 */
import type { DetokenizeRequest, DetokenizeResponse, TokenizeRequest, TokenizeResponse } from '@signpost/contracts';
import type { Tokenizer } from '@signpost/engine';
import type { EngineFacts } from '../runner/protocol.ts';

/** Token ids of a prompt, or of a conversation as its chat template writes it. */
export function tokenize(tokenizer: Tokenizer, facts: EngineFacts, request: TokenizeRequest): TokenizeResponse {
  const { prompt, messages, tools, add_special_tokens, return_token_strs } = request;
  const tokens =
    messages != null
      ? tokenizer.encodeChat(messages, tools ?? undefined)
      : add_special_tokens === false
        ? tokenizer.encodePart(prompt ?? '')
        : tokenizer.encode(prompt ?? '');
  return {
    count: tokens.length,
    max_model_len: Math.min(facts.maxPositions, facts.kvTokens),
    tokens,
    token_strs: return_token_strs === true ? tokens.map((id) => tokenizer.tokenText(id)) : null,
  };
}

/** Text of token ids, special ones included: what was encoded. */
export function detokenize(tokenizer: Tokenizer, { tokens }: DetokenizeRequest): DetokenizeResponse {
  return { prompt: tokenizer.decodeAll(tokens) };
}
