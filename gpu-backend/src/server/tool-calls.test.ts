import type { ToolCallFormat } from '@signpost/engine';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ToolCallParser } from './tool-calls.ts';

interface Parsed {
  text: string;
  readonly calls: { readonly name: string; arguments: string }[];
}

function parse(format: ToolCallFormat, pieces: readonly string[]): Parsed {
  const parser = new ToolCallParser(format, 'in text');
  const parsed: Parsed = { text: '', calls: [] };
  for (const part of [...pieces.flatMap((piece) => parser.push(piece)), ...parser.flush()]) {
    if (part.kind === 'text') parsed.text += part.text;
    else if (part.kind === 'call') parsed.calls.push({ name: part.name, arguments: '' });
    else {
      const last = parsed.calls.at(-1);
      if (last !== undefined) last.arguments += part.text;
    }
  }
  return parsed;
}

const value = { city: 'Köln "}', days: [1, { a: '\\' }] };
const json = JSON.stringify(value);
const call = { name: 'weather', arguments: json };

const CASES: [ToolCallFormat, string, Parsed][] = [
  ['hermes', `<tool_call>\n{"name": "weather", "arguments": ${json}}\n</tool_call>`, { text: '', calls: [call] }],
  [
    'hermes',
    `I'll look.\n\n<tool_call>\n{"name": "weather", "arguments": ${json}}\n</tool_call>\n<tool_call>{"name":"now","arguments":{}}</tool_call>\n`,
    { text: "I'll look.", calls: [call, { name: 'now', arguments: '{}' }] },
  ],
  [
    'hermes',
    `<tool_call>{"arguments": ${json}, "name": "weather"}</tool_call> Done.`,
    { text: ' Done.', calls: [call] },
  ],
  ['hermes', '<tool_call>\nno call</tool_call>', { text: '<tool_call>\nno call</tool_call>', calls: [] }],
  ['hermes', '<tool_call>\n{"name": "weather", "argu', { text: '<tool_call>\n{"name": "weather", "argu', calls: [] }],
  [
    'hermes',
    '<tool_call>{"name": "now", "arguments": {"a": 1',
    { text: '', calls: [{ name: 'now', arguments: '{"a": 1' }] },
  ],
  ['hermes', 'a < b, 1 <tool', { text: 'a < b, 1 <tool', calls: [] }],
  ['llama3', `{"name": "weather", "parameters": ${json}}`, { text: '', calls: [call] }],
  [
    'llama3',
    `<|python_tag|>{"type": "function", "name": "weather", "parameters": ${json}}; {"name": "now", "parameters": {}}`,
    { text: '', calls: [call, { name: 'now', arguments: '{}' }] },
  ],
  ['llama3', 'It is {"a": 1}.', { text: 'It is {"a": 1}.', calls: [] }],
  ['llama3', '{"a": 1} is JSON', { text: '{"a": 1} is JSON', calls: [] }],
  [
    'mistral',
    `[TOOL_CALLS] [{"name": "weather", "arguments": ${json}}, {"name": "now", "arguments": {}}]`,
    { text: '', calls: [call, { name: 'now', arguments: '{}' }] },
  ],
  ['mistral', 'None [of these].', { text: 'None [of these].', calls: [] }],
];

describe('tool calls', () => {
  it.each(CASES)('of %s in %j', (format, text, expected) => {
    expect(parse(format, [text])).toEqual(expected);
  });

  it('are the same wherever the text is cut', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...CASES),
        fc.array(fc.nat(200), { maxLength: 30 }),
        ([format, text, expected], cuts) => {
          const borders = [...new Set([0, ...cuts.map((cut) => cut % text.length), text.length])].sort((a, b) => a - b);
          const pieces = borders.slice(1).map((border, i) => text.slice(borders[i], border));
          expect(parse(format, pieces)).toEqual(expected);
        },
      ),
      { numRuns: 1000 },
    );
  });

  it('pass on arguments as they come', () => {
    const parser = new ToolCallParser('hermes', 'in text');
    expect(parser.push('<tool_call>\n{"name": "now", "arguments": {"zo')).toEqual([
      { kind: 'call', name: 'now' },
      { kind: 'arguments', text: '{"zo' },
    ]);
    expect(parser.push('ne": "U')).toEqual([{ kind: 'arguments', text: 'ne": "U' }]);
  });
});
