/**
 * What a JSON Schema says of strings, and of member names, as rules.
 */
import { Problem } from '@signpost/contracts';
import { CHAR, ESCAPED, quoted, SHORT_CHAR, STRING } from './json.ts';
import { regexRule } from './regex.ts';
import { type CharRange, chars, choice, complement, literal, normalise, type Rule, repeat, sequence } from './rule.ts';
import { bounds, type Schema } from './schema-values.ts';

const DATE =
  '[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))';
const TIME = '(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,6})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])';
const OCTET = '(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])';
const LABEL = '[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?';
/** RFC 3339, RFC 4122, RFC 2673, RFC 1123, and mail addresses without quoting; a February 29th is left out, since not every year has one. */
const FORMATS: Readonly<Record<string, string>> = {
  date: DATE,
  time: TIME,
  'date-time': `${DATE}T${TIME}`,
  uuid: '[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}',
  ipv4: `${OCTET}(?:\\.${OCTET}){3}`,
  hostname: `${LABEL}(?:\\.${LABEL}){0,3}`,
  email: `[A-Za-z0-9_+-]{1,32}(?:\\.[A-Za-z0-9_+-]{1,16})?@(?:${LABEL}\\.){1,3}[A-Za-z]{2,16}`,
};

export function stringRule(schema: Schema, path: string): Rule {
  const { pattern, format } = schema;
  const [min, max] = bounds(schema, 'Length', path);
  const isBounded = min > 0 || max !== Number.POSITIVE_INFINITY;
  if ([pattern !== undefined, format !== undefined, isBounded].filter(Boolean).length > 1)
    throw new Problem(`${path}: of pattern, format and length bounds only one is supported at a time`);
  if (isBounded) return quoted(repeat(SHORT_CHAR, min, max));
  if (pattern === undefined && format === undefined) return STRING;
  const regex = pattern ?? FORMATS[String(format)];
  if (typeof regex !== 'string') {
    throw new Problem(
      pattern === undefined
        ? `${path}/format: "${format}" is not supported; known: ${Object.keys(FORMATS).join(', ')}`
        : `${path}/pattern: must be a string`,
    );
  }
  try {
    return quoted(regexRule(regex, { chars: escapedChars, match: pattern === undefined ? 'whole' : 'search' }));
  } catch (error) {
    if (error instanceof Problem) throw new Problem(`${path}/pattern: ${error.message}`, { cause: error });
    throw error;
  }
}

/** Characters as they stand in a JSON string. */
function escapedChars(ranges: readonly CharRange[]): Rule {
  const wanted = normalise(ranges);
  const direct = complement([...complement(wanted), ...ESCAPED]);
  const escapes = ESCAPED.flatMap(([low, high]) => Array.from({ length: high - low + 1 }, (_, i) => low + i))
    .filter((code) => wanted.some(([low, high]) => code >= low && code <= high))
    .map((code) => literal(JSON.stringify(String.fromCharCode(code)).slice(1, -1)));
  return choice(chars(direct), ...escapes);
}

/** Member names that are none of `names`, and none of them spelled with escapes. */
export function nameOtherThan(names: readonly string[]): Rule {
  const anything = repeat(CHAR, 0, Number.POSITIVE_INFINITY);
  if (names.length === 0) return anything;
  const follow = new Map<number, string[]>();
  for (const name of names) {
    const [char] = name;
    const code = char?.codePointAt(0);
    if (char !== undefined && code !== undefined)
      follow.set(code, [...(follow.get(code) ?? []), name.slice(char.length)]);
  }
  const taken = [...follow.keys()].map((code): CharRange => [code, code]);
  const other = sequence(chars(complement([...taken, ...ESCAPED])), anything);
  const options = [...follow]
    .filter(([code]) => !ESCAPED.some(([low, high]) => code >= low && code <= high))
    .map(([code, tails]) => sequence(chars([[code, code]]), nameOtherThan(tails)));
  // The name that ends here is taken by the one that ends here.
  return names.includes('') ? choice(other, ...options) : choice(literal(''), other, ...options);
}
