import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { gumbel } from '../sampling/philox.ts';
import { readTokenizerFiles } from '../tokenizer/files.ts';
import { tokenBytes } from '../tokenizer/token-bytes.ts';
import { Automaton } from './automaton.ts';
import { type GrammarSpec, Grammars, grammarRule } from './grammars.ts';
import { randomText } from './testing.ts';
import { VocabularyTree } from './vocabulary.ts';

const STOP = 0;
const BASE = join(import.meta.dirname, '../../../models/demo/base');
const { tokenizer } = await readTokenizerFiles(BASE);
if (tokenizer === undefined) throw new Error('the demo has a tokenizer');
const bytes = tokenBytes(tokenizer, BASE);
const vocabulary = new VocabularyTree(bytes, bytes.length);
const grammars = new Grammars(vocabulary);

/** Uniform in [0, 1): what Gumbel's distribution function makes of its values. */
const uniform = (seed: number, place: number) => Math.exp(-Math.exp(-gumbel({ seed, choice: 0, place }, 0)));

function accepts(spec: GrammarSpec, text: string): boolean {
  const automaton = new Automaton(grammarRule(spec));
  let state: Automaton['start'] | undefined = automaton.start;
  for (const byte of new TextEncoder().encode(text)) state = state && automaton.step(state, byte);
  return state?.isComplete === true;
}

function texts(spec: GrammarSpec, count: number, seed = 0): string[] {
  return Array.from({ length: count }, (_, i) => {
    let draw = 0;
    return randomText(grammars.constraint(spec, [STOP]), vocabulary, STOP, () => uniform(seed + i, draw++));
  }).filter((text) => text !== undefined);
}

const schemaSpec = (schema: unknown): GrammarSpec => ({ kind: 'schema', schema });

/** A schema, and values that are valid under it, members in order. */
interface Case {
  readonly schema: object;
  readonly values: fc.Arbitrary<unknown>;
}
const scalar: fc.Arbitrary<Case> = fc.oneof(
  fc.constant<Case>({ schema: { type: 'string' }, values: fc.string({ unit: 'grapheme' }) }),
  fc.constant<Case>({ schema: { type: 'boolean' }, values: fc.boolean() }),
  fc.constant<Case>({ schema: { type: ['string', 'null'] }, values: fc.option(fc.string()) }),
  fc.constant<Case>({ schema: { type: 'number' }, values: fc.integer({ min: -1e6, max: 1e6 }).map((n) => n / 64) }),
  fc.tuple(fc.integer({ min: -20_000, max: 20_000 }), fc.nat(20_000)).map(
    ([min, size]): Case => ({
      schema: { type: 'integer', minimum: min, maximum: min + size },
      values: fc.integer({ min, max: min + size }),
    }),
  ),
  fc.tuple(fc.integer({ min: -300, max: 300 }), fc.nat(300)).map(
    ([min, size]): Case => ({
      schema: { type: 'number', minimum: min / 100, exclusiveMaximum: (min + size + 1) / 100 },
      values: fc.integer({ min, max: min + size }).map((n) => n / 100),
    }),
  ),
  fc.tuple(fc.nat(5), fc.nat(5)).map(
    ([min, more]): Case => ({
      schema: { type: 'string', minLength: min, maxLength: min + more },
      values: fc.string({ minLength: min, maxLength: min + more }),
    }),
  ),
  fc
    .uniqueArray(fc.oneof(fc.string(), fc.integer(), fc.boolean(), fc.constant(null)), { minLength: 1, maxLength: 4 })
    .map((options): Case => ({ schema: { enum: options }, values: fc.constantFrom(...options) })),
);
const anyCase: fc.Arbitrary<Case> = fc.letrec<{ node: Case }>((tie) => ({
  node: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    scalar,
    fc.tuple(tie('node'), fc.nat(3), fc.nat(3)).map(
      ([{ schema, values }, min, more]): Case => ({
        schema: { type: 'array', items: schema, minItems: min, maxItems: min + more },
        values: fc.array(values, { minLength: min, maxLength: min + more }),
      }),
    ),
    fc
      .uniqueArray(
        fc.tuple(
          fc.string({ maxLength: 4 }).filter((name) => name !== '__proto__'),
          tie('node'),
          fc.boolean(),
        ),
        {
          maxLength: 4,
          selector: ([name]) => name,
        },
      )
      .map((members): Case => {
        const properties = Object.fromEntries(members.map(([name, { schema }]) => [name, schema]));
        const required = members.filter(([, , isRequired]) => isRequired).map(([name]) => name);
        return {
          schema: { type: 'object', properties, required, additionalProperties: false },
          values: fc
            .record(Object.fromEntries(members.map(([name, { values }]) => [name, values])), {
              requiredKeys: required,
            })
            .map((value) =>
              // In the order of the schema, whatever order the object came in.
              Object.fromEntries(
                Object.keys(properties)
                  .filter((name) => name in value)
                  .map((name) => [name, value[name]]),
              ),
            ),
        };
      }),
  ),
})).node;

describe('a JSON schema', () => {
  it('lets every value through that is valid under it', () => {
    fc.assert(
      fc.property(
        anyCase.chain(({ schema, values }) => fc.tuple(fc.constant(schema), values)),
        ([schema, value]) => {
          expect(accepts(schemaSpec(schema), JSON.stringify(value))).toBe(true);
        },
      ),
      { numRuns: 500 },
    );
  });

  it('lets a model that knows nothing write only what is valid under it', () => {
    let written = 0;
    fc.assert(
      fc.property(anyCase, fc.nat(), ({ schema }, seed) => {
        const validator = z.fromJSONSchema(schema as never);
        for (const text of texts(schemaSpec(schema), 3, seed)) {
          written++;
          const value: unknown = JSON.parse(text);
          expect(validator.safeParse(value), `${text} under ${JSON.stringify(schema)}`).toMatchObject({
            success: true,
          });
        }
      }),
      { numRuns: 60 },
    );
    expect(written).toBeGreaterThan(120);
  });

  it('may be recursive, have alternatives, maps and formats', () => {
    const schema = {
      $defs: {
        node: {
          type: 'object',
          properties: {
            value: { anyOf: [{ type: 'integer' }, { type: 'null' }] },
            children: { type: 'array', items: { $ref: '#/$defs/node' } },
          },
          required: ['value', 'children'],
          additionalProperties: false,
        },
      },
      type: 'object',
      properties: {
        tree: { $ref: '#/$defs/node' },
        when: { type: 'string', format: 'date-time' },
        code: { type: 'string', pattern: '^[A-Z]{2}-\\d+"$' },
        kind: {
          oneOf: [
            { type: 'object', properties: { t: { const: 'a' } }, required: ['t'] },
            { type: 'object', properties: { t: { const: 'b' } }, required: ['t'] },
          ],
        },
        tags: { type: 'object', additionalProperties: { type: 'integer' } },
      },
      required: ['tree', 'when', 'code', 'kind', 'tags'],
      additionalProperties: false,
    };
    const value = {
      tree: { value: 1, children: [{ value: null, children: [] }] },
      when: '2024-02-28T12:00:00Z',
      code: 'AB-12"',
      kind: { t: 'b' },
      tags: { x: 1 },
    };
    expect(accepts(schemaSpec(schema), JSON.stringify(value))).toBe(true);
    expect(accepts(schemaSpec(schema), JSON.stringify(value, null, 2))).toBe(true);
    expect(accepts(schemaSpec(schema), JSON.stringify({ ...value, code: 'AB-"' }))).toBe(false);
    expect(accepts(schemaSpec(schema), JSON.stringify({ ...value, when: '2024-13-28T12:00:00Z' }))).toBe(false);
    const validator = z.fromJSONSchema(schema as never);
    for (const text of texts(schemaSpec(schema), 10))
      expect(validator.safeParse(JSON.parse(text)), text).toMatchObject({ success: true });
  });

  it('that allows other members never lets them take a name that is spoken for', () => {
    const schema = {
      type: 'object',
      properties: { ab: { type: 'integer' }, a: { type: 'null' } },
      additionalProperties: { type: 'string' },
    };
    for (const name of ['b', 'abc', 'aa', '', 'A', 'ä'])
      expect(accepts(schemaSpec(schema), JSON.stringify({ [name]: 'x' })), name).toBe(true);
    for (const text of ['{"ab":"x"}', '{"a":"x"}', '{"\\u0061":"x"}', '{"ab":1,"ab":"x"}'])
      expect(accepts(schemaSpec(schema), text), text).toBe(false);
  });

  it.each([
    [{ type: 'array', uniqueItems: true }, /#\/uniqueItems/],
    [{ type: 'object', properties: { a: { not: {} } } }, /#\/properties\/a\/not: is not supported/],
    [{ type: 'object', patternProperties: {} }, /#\/patternProperties/],
    [{ type: 'string', format: 'iri' }, /"iri" is not supported; known: date/],
    [{ type: 'string', pattern: '(?=a)' }, /look-around/],
    [{ type: 'text' }, /"text" is no type/],
    [{ $ref: '#/$defs/x' }, /there is nothing at #\/\$defs\/x/],
    [{ $ref: 'https://x.example/schema' }, /only references within/],
    [{ type: 'object', properties: { a: { $ref: '#' } }, required: ['a'] }, /nested for ever/],
    [{ oneOf: [{ type: 'integer' }, { type: 'number' }] }, /may overlap/],
    [{ type: 'integer', minimum: 2.1, maximum: 2.9 }, /no integer/],
    [{ type: 'number', multipleOf: 3 }, /multipleOf/],
    [{ allOf: [{}, {}] }, /only one schema/],
    [false, /allows no value/],
  ])('%j is refused by what is not supported in it', (schema, message) => {
    expect(() => grammarRule(schemaSpec(schema))).toThrow(message);
  });
});

describe('a regular expression', () => {
  const anyPattern = fc
    .array(
      fc.constantFrom(
        'a',
        'b',
        'é',
        '\\d',
        '\\w',
        '[^a]',
        '[a-c]',
        '.',
        '(ab|c)',
        '(?:a|b|)',
        '\\.',
        '🙂',
        '[\\s\\S]',
        '\\u0061',
      ),
      { minLength: 1, maxLength: 4 },
    )
    .chain((parts) =>
      fc
        .array(fc.constantFrom('', '*', '+', '?', '{2}', '{1,3}', '{0,}', '+?'), {
          minLength: parts.length,
          maxLength: parts.length,
        })
        .map((quantifiers) => parts.map((part, i) => part + (quantifiers[i] ?? '')).join('')),
    );
  const anyText = fc.string({ unit: fc.constantFrom('a', 'b', 'c', 'é', '1', '.', '🙂', ' ', '\n'), maxLength: 8 });

  it('matches what ECMAScript matches, as a whole', () => {
    fc.assert(
      fc.property(anyPattern, fc.array(anyText, { minLength: 20, maxLength: 20 }), (pattern, list) => {
        const regex = new RegExp(`^(?:${pattern})$`, 'u');
        for (const text of list)
          expect(accepts({ kind: 'regex', pattern }, text), `${text} by ${pattern}`).toBe(regex.test(text));
      }),
      { numRuns: 500 },
    );
  });

  it('searches in a JSON schema, but for its anchors', () => {
    fc.assert(
      fc.property(anyPattern, anyText, fc.boolean(), fc.boolean(), (pattern, text, atStart, atEnd) => {
        const anchored = `${atStart ? '^' : ''}${pattern}${atEnd ? '$' : ''}`;
        const spec = schemaSpec({ type: 'string', pattern: anchored });
        expect(accepts(spec, JSON.stringify(text)), `${text} by ${anchored}`).toBe(
          new RegExp(anchored, 'u').test(text),
        );
      }),
      { numRuns: 500 },
    );
  });

  it.each(['(a', 'a)', '[b-a]', 'a**', '\\1', '(?<=a)b', 'a$b', '\\p{L}', '{1', '[]'])(
    '%s is refused with its place',
    (pattern) => {
      expect(() => grammarRule({ kind: 'regex', pattern })).toThrow(/at character \d+/);
    },
  );
});

describe('token masks', () => {
  it('allow exactly the tokens whose bytes the grammar reads, and the end where the text is complete', () => {
    const specs: GrammarSpec[] = [
      { kind: 'json' },
      { kind: 'choice', choices: ['yes', 'yes please', 'né'] },
      { kind: 'regex', pattern: '(é|ab)+' },
    ];
    for (const spec of specs) {
      const automaton = new Automaton(grammarRule(spec));
      const constraint = grammars.constraint(spec, [STOP]);
      let state = automaton.start;
      for (let step = 0; step < 12; step++) {
        const mask = constraint.allowed();
        const allowed: number[] = [];
        for (const [id, token] of bytes.entries()) {
          let next: typeof state | undefined = token === undefined ? undefined : state;
          for (const byte of token ?? []) next = next && automaton.step(next, byte);
          const isAllowed = id === STOP ? state.isComplete : next !== undefined;
          expect(((mask[id >>> 5] ?? 0) >>> (id & 31)) & 1, `token ${id}`).toBe(isAllowed ? 1 : 0);
          if (isAllowed && id !== STOP) allowed.push(id);
        }
        const token = allowed[Math.floor(uniform(1, step) * allowed.length)];
        if (token === undefined) break;
        constraint.accept(token);
        for (const byte of bytes[token] ?? []) state = automaton.step(state, byte) ?? state;
      }
    }
  });

  it('are the same after the states have been forgotten to save memory', () => {
    const spec = schemaSpec({ type: 'string', minLength: 3000, maxLength: 4000 });
    const constraint = grammars.constraint(spec, [STOP]);
    const [a = -1] = [bytes.findIndex((token) => token?.length === 1 && token[0] === 0x61)];
    const quote = bytes.findIndex((token) => token?.length === 1 && token[0] === 0x22);
    constraint.accept(quote);
    const isAllowed = (id: number) => ((constraint.allowed()[id >>> 5] ?? 0) >>> (id & 31)) & 1;
    for (let i = 0; i < 2_999; i++) constraint.accept(a);
    expect([isAllowed(a), isAllowed(quote)]).toEqual([1, 0]);
    constraint.accept(a);
    expect([isAllowed(a), isAllowed(quote)]).toEqual([1, 1]);
  });

  it('hold a tool call to its tool and parameters', () => {
    const tools = [
      {
        name: 'weather',
        parameters: {
          type: 'object',
          properties: { city: { type: 'string' }, days: { type: 'integer', minimum: 1, maximum: 9 } },
          required: ['city', 'days'],
        },
      },
      { name: 'now' },
    ];
    for (const text of texts({ kind: 'tool calls', format: 'hermes', tools, maxCalls: 1 }, 20)) {
      const call = JSON.parse(/^<tool_call>\n(.*)\n<\/tool_call>$/s.exec(text)?.[1] ?? '') as {
        name: string;
        arguments: object;
      };
      expect(Object.keys(call)).toEqual(['name', 'arguments']);
      if (call.name === 'weather')
        expect(call.arguments).toEqual({ city: expect.any(String), days: expect.any(Number) });
      else expect(call.name).toBe('now');
    }
  });
});
