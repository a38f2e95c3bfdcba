/**
 * How models write tool calls, and grammars for them.
 */
import { Problem } from '@signpost/contracts';
import { ANY_OBJECT, array, COMMA, constant, member, object } from './json.ts';
import { schemaRule } from './json-schema.ts';
import { choice, list, literal, type Rule, sequence } from './rule.ts';

/**
 * - `hermes` (Qwen too): `<tool_call>\n{"name": …, "arguments": {…}}\n</tool_call>`, one after the other
 * - `llama3`: `{"name": …, "parameters": {…}}`, all of the answer
 * - `mistral`: `[TOOL_CALLS][{"name": …, "arguments": {…}}, …]`
 */
export type ToolCallFormat = 'hermes' | 'llama3' | 'mistral';

export interface ToolGrammar {
  readonly kind: 'tool calls';
  readonly format: ToolCallFormat;
  /** What may be called; `parameters` is a JSON schema, any object where it is left out. */
  readonly tools: readonly { readonly name: string; readonly parameters?: unknown }[];
  readonly maxCalls: number;
}

/** What a format writes before its calls, where that is one special token in the vocabulary. */
export const CALL_MARKS: Readonly<Record<ToolCallFormat, readonly string[]>> = {
  hermes: ['<tool_call>', '</tool_call>'],
  llama3: ['<|python_tag|>'],
  mistral: ['[TOOL_CALLS]'],
};

/** How a chat template has tools called, told by the marks in it; `unknown` where it takes tools in a way that isn't known here. */
export function toolCallFormat(template: string): ToolCallFormat | 'unknown' | undefined {
  if (!/\btools\b/.test(template)) return undefined;
  if (template.includes('<tool_call>')) return 'hermes';
  if (template.includes('[TOOL_CALLS]')) return 'mistral';
  return template.includes('<|python_tag|>') || /"parameters"/.test(template) ? 'llama3' : 'unknown';
}

/** Calls, and nothing else. Of `mistral` without the mark before them, which is a token of its own. @throws Problem naming what isn't supported. */
export function toolCallsRule({ format, tools, maxCalls }: ToolGrammar): Rule {
  const call = choice(...tools.map(({ name, parameters }) => callRule(name, parameters, format)));
  switch (format) {
    case 'hermes':
      return list(sequence(literal('<tool_call>\n'), call, literal('\n</tool_call>')), literal('\n'), 1, maxCalls);
    case 'llama3':
      return call;
    case 'mistral':
      return array(list(call, COMMA, 1, maxCalls));
    default:
      return format satisfies never;
  }
}

function callRule(name: string, parameters: unknown, format: ToolCallFormat): Rule {
  const key = format === 'llama3' ? 'parameters' : 'arguments';
  return object(
    sequence(member(constant('name'), constant(name)), COMMA, member(constant(key), argumentsRule(name, parameters))),
  );
}

function argumentsRule(name: string, parameters: unknown): Rule {
  if (parameters === undefined) return ANY_OBJECT;
  try {
    return schemaRule(parameters);
  } catch (error) {
    if (error instanceof Problem) throw new Problem(`parameters of "${name}": ${error.message}`, { cause: error });
    throw error;
  }
}
