/**
 * `POST /v1/chat/completions`: OpenAI's wire format, with vLLM's further sampling fields.
 */
import { z } from 'zod';
import type { FinishReason, Usage } from '../openai.ts';
import { generationSchema, refused } from './fields.ts';

const contentSchema = z.union([
  z.string(),
  z
    .array(
      z.object({ type: z.literal('text', { error: 'only parts of type "text" are supported' }), text: z.string() }),
    )
    .transform((parts) => parts.map((part) => part.text).join('')),
]);

const toolCallSchema = z.object({
  id: z.string(),
  type: z.literal('function'),
  function: z.object({ name: z.string().min(1), arguments: z.string() }),
});

const said = z.object({
  role: z.enum(['system', 'developer', 'user']).transform((role) => (role === 'developer' ? 'system' : role)),
  content: contentSchema,
});
const answered = z
  .object({
    role: z.literal('assistant'),
    content: contentSchema.nullish().transform((content) => content ?? ''),
    tool_calls: z.array(toolCallSchema).nullish(),
  })
  .refine(({ content, tool_calls }) => content !== '' || (tool_calls?.length ?? 0) > 0, {
    error: 'must have content or tool_calls',
    path: ['content'],
  });
const returned = z.object({ role: z.literal('tool'), content: contentSchema, tool_call_id: z.string() });
const messageSchema = z.discriminatedUnion('role', [said, answered, returned]);
export type ChatMessage = z.output<typeof messageSchema>;

const toolSchema = z.object({
  type: z.literal('function', { error: 'only tools of type "function" are supported' }),
  function: z.object({
    name: z.string().regex(/^[\w.-]{1,64}$/, 'must be 1 to 64 letters, digits, ".", "_" or "-"'),
    description: z.string().nullish(),
    parameters: z.record(z.string(), z.unknown()).nullish(),
    strict: z.boolean().nullish(),
  }),
});
export type ChatTool = z.output<typeof toolSchema>;

const toolChoiceSchema = z.union(
  [
    z.enum(['none', 'auto', 'required']),
    z.object({ type: z.literal('function'), function: z.object({ name: z.string() }) }),
  ],
  { error: 'must be "none", "auto", "required" or name a function' },
);

export const chatRequestSchema = generationSchema(
  {
    messages: z.array(messageSchema).min(1, 'must hold at least one message'),
    max_tokens: z.number().int().positive().nullish(),
    max_completion_tokens: z.number().int().positive().nullish(),
    logprobs: z.boolean().nullish(),
    top_logprobs: z.number().int().min(0).max(20).nullish(),
    tools: z.array(toolSchema).max(128).nullish(),
    tool_choice: toolChoiceSchema.nullish(),
    parallel_tool_calls: z.boolean().nullish(),
    functions: refused([]),
    function_call: refused('none', 'auto'),
    modalities: refused(['text']),
    audio: refused(),
    reasoning_effort: refused(),
    verbosity: refused(),
    web_search_options: refused(),
    echo: refused(false),
    add_generation_prompt: refused(true),
    continue_final_message: refused(false),
    chat_template: refused(),
    chat_template_kwargs: refused({}),
    documents: refused([]),
  },
  ({ logprobs, top_logprobs, tools, tool_choice, response_format, ...guided }) => {
    const found: [string, string][] = [];
    if (top_logprobs != null && logprobs !== true) found.push(['top_logprobs', 'needs logprobs: true']);
    const mustCall = tool_choice === 'required' || (typeof tool_choice === 'object' && tool_choice !== null);
    const names = new Set(tools?.map((tool) => tool.function.name));
    if (mustCall && names.size === 0) found.push(['tool_choice', 'needs tools']);
    if (names.size < (tools?.length ?? 0)) found.push(['tools', 'must have different names']);
    if (typeof tool_choice === 'object' && tool_choice !== null && !names.has(tool_choice.function.name))
      found.push(['tool_choice', `"${tool_choice.function.name}" is not among the tools`]);
    const isFormatted =
      (response_format != null && response_format.type !== 'text') ||
      [guided.guided_json, guided.guided_regex, guided.guided_choice].some((format) => format != null);
    if (isFormatted && names.size > 0 && tool_choice !== 'none')
      found.push(['tools', 'can only be combined with a format for the answer where tool_choice is "none"']);
    if (mustCall && (guided.ignore_eos === true || (guided.min_tokens ?? 0) > 0))
      found.push([
        'tool_choice',
        "can't be combined with ignore_eos or min_tokens: the calls say where the answer ends",
      ]);
    return found;
  },
);
export type ChatRequest = z.output<typeof chatRequestSchema>;

export interface ToolCall {
  readonly id: string;
  readonly type: 'function';
  readonly function: { readonly name: string; readonly arguments: string };
}

/** A token's log-probability, and its bytes: a character may span tokens. */
export interface TokenLogprob {
  readonly token: string;
  readonly logprob: number;
  readonly bytes: readonly number[] | null;
}

export interface ChatLogprobs {
  readonly content: readonly (TokenLogprob & { readonly top_logprobs: readonly TokenLogprob[] })[];
  readonly refusal: null;
}

export interface ChatChoice {
  readonly index: number;
  readonly message: {
    readonly role: 'assistant';
    readonly content: string | null;
    readonly refusal: null;
    readonly tool_calls?: readonly ToolCall[];
  };
  readonly logprobs: ChatLogprobs | null;
  readonly finish_reason: FinishReason;
  readonly token_ids?: readonly number[];
}

export interface ChatCompletion {
  readonly id: string;
  readonly object: 'chat.completion';
  readonly created: number;
  readonly model: string;
  readonly choices: readonly ChatChoice[];
  readonly usage: Usage;
  readonly prompt_token_ids?: readonly number[];
}

/** What a chunk adds to a choice's message. */
export interface ChatDelta {
  readonly role?: 'assistant';
  readonly content?: string;
  readonly tool_calls?: readonly {
    readonly index: number;
    readonly id?: string;
    readonly type?: 'function';
    readonly function: { readonly name?: string; readonly arguments: string };
  }[];
}

export interface ChatCompletionChunk {
  readonly id: string;
  readonly object: 'chat.completion.chunk';
  readonly created: number;
  readonly model: string;
  readonly choices: readonly {
    readonly index: number;
    readonly delta: ChatDelta;
    readonly logprobs: ChatLogprobs | null;
    readonly finish_reason: FinishReason | null;
    readonly token_ids?: readonly number[];
  }[];
  readonly usage?: Usage | null;
  readonly prompt_token_ids?: readonly number[];
}
