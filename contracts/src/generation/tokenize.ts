/**
 * `POST /tokenize` and `POST /detokenize`, in vLLM's wire format.
 */
import { z } from 'zod';
import { chatRequestSchema } from './chat.ts';
import { refused, tokenId } from './fields.ts';

const { messages, tools } = chatRequestSchema.shape;

export const tokenizeRequestSchema = z
  .object({
    /** Left out, the base. */
    model: z.string().min(1).max(512).nullish(),
    prompt: z.string().nullish(),
    messages: messages.nullish(),
    tools,
    /** Of a prompt: with the tokenizer's own frame. True where it is left out; a chat template writes its own. */
    add_special_tokens: z.boolean().nullish(),
    return_token_strs: z.boolean().nullish(),
    add_generation_prompt: refused(true),
    continue_final_message: refused(false),
    chat_template: refused(),
    chat_template_kwargs: refused({}),
  })
  .refine(({ prompt, messages }) => (prompt == null) !== (messages == null), {
    error: 'must be given, or messages, but not both',
    path: ['prompt'],
  });
export type TokenizeRequest = z.output<typeof tokenizeRequestSchema>;

export interface TokenizeResponse {
  readonly count: number;
  readonly max_model_len: number;
  readonly tokens: readonly number[];
  readonly token_strs: readonly string[] | null;
}

export const detokenizeRequestSchema = z.object({
  model: z.string().min(1).max(512).nullish(),
  tokens: z.array(tokenId),
});

export type DetokenizeRequest = z.output<typeof detokenizeRequestSchema>;

export interface DetokenizeResponse {
  readonly prompt: string;
}
