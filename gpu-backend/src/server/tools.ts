/**
 * What a chat request's tools mean for its prompt, its answer and the text of it.
 */
import { ApiError, type ChatRequest, type ChatTool } from '@signpost/contracts';
import type { GrammarSpec, Tokenizer, ToolCallFormat } from '@signpost/engine';
import { checked } from './formats.ts';

export interface ToolUse {
  /** For the chat template. */
  readonly tools: readonly ChatTool[];
  readonly format: ToolCallFormat;
  /** Token that the prompt ends with, so that the answer begins within its calls. */
  readonly mark: number | undefined;
  /** Where the answer must be calls. */
  readonly grammar: GrammarSpec | undefined;
  /** Calls beyond these are left out. */
  readonly maxCalls: number;
}

const MAX_CALLS = 64;

/**
 * Undefined where the model isn't told of tools.
 *
 * @throws ApiError (400) where its chat template doesn't take what the request has.
 */
export function toolUse(tokenizer: Tokenizer, request: ChatRequest): ToolUse | undefined {
  refuseUnknownMessages(tokenizer, request);
  const { tools, tool_choice: toolChoice, parallel_tool_calls } = request;
  if (tools == null || tools.length === 0 || toolChoice === 'none') return undefined;
  const format = tokenizer.toolFormat;
  if (format === undefined) throw unsupported('tools', "this model's chat template takes no tools");
  if (format === 'unknown')
    throw unsupported(
      'tools',
      "this model's chat template has tools called in a way that isn't known here (Hermes and Qwen, Llama 3 and Mistral are)",
    );
  const maxCalls = parallel_tool_calls === false ? 1 : MAX_CALLS;
  if (toolChoice == null || toolChoice === 'auto')
    return { tools, format, mark: undefined, grammar: undefined, maxCalls };
  const named = toolChoice === 'required' ? undefined : toolChoice.function.name;
  const callable = tools.filter(({ function: { name } }) => named === undefined || name === named);
  const grammar = {
    kind: 'tool calls' as const,
    format,
    maxCalls: named === undefined ? maxCalls : 1,
    tools: callable.map(({ function: { name, parameters } }) => (parameters == null ? { name } : { name, parameters })),
  };
  return { tools, format, mark: tokenizer.callMark(format), grammar: checked(grammar, 'tools'), maxCalls };
}

function refuseUnknownMessages(tokenizer: Tokenizer, { messages }: ChatRequest): void {
  if (tokenizer.takesToolMessages) return;
  const index = messages.findIndex(
    (message) => message.role === 'tool' || (message.role === 'assistant' && (message.tool_calls?.length ?? 0) > 0),
  );
  if (index === -1) return;
  const what = messages[index]?.role === 'tool' ? 'no messages of the role "tool"' : 'no tool_calls';
  throw unsupported(`messages.${index}`, `this model's chat template takes ${what}`);
}

function unsupported(param: string, why: string): ApiError {
  return new ApiError('invalid_request_error', 'unsupported_tools', `${param}: ${why}`, { param });
}
