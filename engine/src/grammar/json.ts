/**
 * JSON (RFC 8259) as rules: what any value may look like.
 *
 * Narrower than the RFC where that costs no value: at most one line break or space between tokens, so that a model can't fill an answer with blanks,
 * and numbers of a bounded length, which every reader can hold.
 */
import {
  type CharRange,
  chars,
  choice,
  complement,
  list,
  literal,
  optional,
  type Reference,
  type Rule,
  repeat,
  sequence,
} from './rule.ts';

const HEX = chars([
  [0x30, 0x39],
  [0x41, 0x46],
  [0x61, 0x66],
]);
export const DIGIT = chars([[0x30, 0x39]]);
const DIGIT_1_TO_9 = chars([[0x31, 0x39]]);
/** 10 to this power is beyond what doubles count exactly. */
export const MAX_INTEGER_DIGITS = 15;
const MAX_FRACTION_DIGITS = 16;
const MAX_INDENT = 20;

/** Between tokens: nothing, a space, or a line break and its indentation. */
const SPACE = choice(
  literal(''),
  literal(' '),
  sequence(
    literal('\n'),
    repeat(
      chars([
        [0x20, 0x20],
        [0x09, 0x09],
      ]),
      0,
      MAX_INDENT,
    ),
  ),
);

/** What a string can't hold as it is: controls, the quotation mark, the backslash. */
export const ESCAPED: readonly CharRange[] = [
  [0, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
];
const UNESCAPED = complement(ESCAPED);
/** Without surrogates, which would only be characters in pairs. */
const UNICODE_ESCAPE = sequence(
  literal('\\u'),
  choice(
    sequence(
      chars([
        [0x30, 0x39],
        [0x41, 0x43],
        [0x45, 0x46],
        [0x61, 0x63],
        [0x65, 0x66],
      ]),
      HEX,
    ),
    sequence(
      chars([
        [0x44, 0x44],
        [0x64, 0x64],
      ]),
      chars([[0x30, 0x37]]),
    ),
  ),
  HEX,
  HEX,
);
const ESCAPE = choice(
  sequence(literal('\\'), chars([...'"\\/bfnrt'].map((c): CharRange => [c.charCodeAt(0), c.charCodeAt(0)]))),
  UNICODE_ESCAPE,
);
export const CHAR = choice(chars(UNESCAPED), ESCAPE);
/** Of one UTF-16 unit: where length counts, so that both ways of counting agree. */
export const SHORT_CHAR = choice(
  chars(UNESCAPED.map(([low, high]): CharRange => [low, Math.min(high, 0xffff)])),
  ESCAPE,
);

export function quoted(content: Rule): Rule {
  return sequence(literal('"'), content, literal('"'));
}

export const STRING = quoted(repeat(CHAR, 0, Number.POSITIVE_INFINITY));
export const INTEGER = sequence(
  optional(literal('-')),
  choice(literal('0'), sequence(DIGIT_1_TO_9, repeat(DIGIT, 0, MAX_INTEGER_DIGITS - 1))),
);
export const NUMBER = sequence(
  INTEGER,
  optional(sequence(literal('.'), repeat(DIGIT, 1, MAX_FRACTION_DIGITS))),
  optional(
    sequence(choice(literal('e'), literal('E')), optional(choice(literal('+'), literal('-'))), repeat(DIGIT, 1, 2)),
  ),
);
export const BOOLEAN = choice(literal('true'), literal('false'));
export const NULL = literal('null');
export const COMMA = sequence(literal(','), SPACE);

export function member(key: Rule, value: Rule): Rule {
  return sequence(key, literal(':'), SPACE, value);
}

/** `members` may be empty. */
export function object(members: Rule): Rule {
  return sequence(literal('{'), SPACE, members, SPACE, literal('}'));
}

export function array(items: Rule): Rule {
  return sequence(literal('['), SPACE, items, SPACE, literal(']'));
}

const anyValue: Reference = { kind: 'reference', target: undefined };
export const ANY_OBJECT = object(list(member(STRING, anyValue), COMMA, 0, Number.POSITIVE_INFINITY));
export const ANY_ARRAY = array(list(anyValue, COMMA, 0, Number.POSITIVE_INFINITY));
export const ANY_VALUE = choice(ANY_OBJECT, ANY_ARRAY, STRING, NUMBER, BOOLEAN, NULL);
anyValue.target = ANY_VALUE;

/** A value's text, as `JSON.stringify` writes it. */
export function constant(value: unknown): Rule {
  return literal(JSON.stringify(value));
}
