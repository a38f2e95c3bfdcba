/**
 * JSON Schema (draft 2020-12) as rules: every text that follows them is valid under the schema.
 *
 * The other way round is given up where it may be: members come in the order of `properties`, and where a schema doesn't say that others are allowed
 * there are none (as OpenAI's strict mode demands it). A keyword that can't be kept is refused by its place, never passed over.
 */
import { Problem } from '@signpost/contracts';
import {
  ANY_ARRAY,
  ANY_OBJECT,
  ANY_VALUE,
  array,
  BOOLEAN,
  CHAR,
  COMMA,
  constant,
  ESCAPED,
  INTEGER,
  member,
  NULL,
  NUMBER,
  object,
  quoted,
  SHORT_CHAR,
  STRING,
} from './json.ts';
import { integerRange, numberRange } from './number-range.ts';
import { regexRule } from './regex.ts';
import {
  alwaysEnds,
  type CharRange,
  chars,
  choice,
  complement,
  list,
  literal,
  normalise,
  optional,
  type Reference,
  type Rule,
  repeat,
  sequence,
} from './rule.ts';

type Schema = Readonly<Record<string, unknown>>;

/** Say nothing about what is valid. */
const ANNOTATIONS = new Set([
  '$schema',
  '$id',
  '$comment',
  '$defs',
  'definitions',
  'title',
  'description',
  'default',
  'example',
  'examples',
  'deprecated',
  'readOnly',
  'writeOnly',
  'discriminator',
  'contentMediaType',
  'contentEncoding',
]);
const OF_TYPE = {
  object: ['properties', 'required', 'additionalProperties'],
  array: ['items', 'prefixItems', 'minItems', 'maxItems', 'uniqueItems'],
  string: ['minLength', 'maxLength', 'pattern', 'format'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'],
  integer: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'],
  boolean: [],
  null: [],
} as const satisfies Record<string, readonly string[]>;
type TypeName = keyof typeof OF_TYPE;

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

const MAX_DEPTH = 64;
/** Of a schema's own nodes; a larger one is more likely an attack than a format. */
const MAX_NODES = 10_000;

/** @throws Problem naming the place and the keyword that isn't supported. */
export function schemaRule(schema: unknown): Rule {
  const rule = new SchemaCompiler(schema).compile(schema, '#', 0);
  if (!alwaysEnds(rule)) throw new Problem('#: a value under this schema would have to be nested for ever');
  return rule;
}

class SchemaCompiler {
  readonly #root: unknown;
  readonly #references = new Map<string, Reference>();
  #nodes = 0;

  constructor(root: unknown) {
    this.#root = root;
  }

  compile(schema: unknown, path: string, depth: number): Rule {
    if (++this.#nodes > MAX_NODES) throw new Problem(`the schema has more than ${MAX_NODES} parts`);
    if (depth > MAX_DEPTH) throw new Problem(`${path}: nested deeper than ${MAX_DEPTH}`);
    if (schema === true) return ANY_VALUE;
    if (schema === false) throw new Problem(`${path}: false allows no value`);
    if (!isSchema(schema)) throw new Problem(`${path}: a schema is an object or a boolean`);
    const keywords = Object.keys(schema).filter((key) => !ANNOTATIONS.has(key) && schema[key] !== undefined);
    const combinator = ['$ref', 'const', 'enum', 'anyOf', 'oneOf', 'allOf'].find((key) => keywords.includes(key));
    if (combinator !== undefined) {
      const also = combinator === 'const' || combinator === 'enum' ? [combinator, 'type'] : [combinator];
      refuseOthers(keywords, also, path, `beside ${combinator}`);
      return this.#combined(combinator, schema, path, depth + 1);
    }
    const types = typesOf(schema, keywords, path);
    if (types.length === 0 && keywords.length === 0) return ANY_VALUE;
    const known = types.flatMap((type): readonly string[] => OF_TYPE[type]);
    refuseOthers(
      keywords,
      ['type', ...known],
      path,
      types.length === 0 ? 'without a type' : `for ${types.join(' or ')}`,
    );
    return choice(...types.map((type) => this.#typed(type, schema, path, depth + 1)));
  }

  #combined(combinator: string, schema: Schema, path: string, depth: number): Rule {
    const value = schema[combinator];
    const at = `${path}/${combinator}`;
    if (combinator === '$ref') return this.#reference(value, at, depth);
    if (combinator === 'const') return this.#constants([value], schema, path);
    if (!Array.isArray(value) || value.length === 0)
      throw new Problem(`${at}: must be an array with at least one entry`);
    if (combinator === 'enum') return this.#constants(value, schema, path);
    if (combinator === 'allOf' && value.length > 1)
      throw new Problem(`${at}: only one schema is supported here; merge them`);
    if (combinator === 'oneOf')
      refuseOverlap(
        value.map((option) => this.#resolved(option)),
        at,
      );
    return choice(...value.map((option, i) => this.compile(option, `${at}/${i}`, depth)));
  }

  #constants(values: readonly unknown[], { type }: Schema, path: string): Rule {
    const types = type === undefined ? undefined : [type].flat();
    const fitting =
      types === undefined ? values : values.filter((value) => types.some((name) => isOfType(value, name)));
    if (fitting.length === 0) throw new Problem(`${path}: none of its values is of the type it names`);
    return choice(...fitting.map(constant));
  }

  #reference(target: unknown, path: string, depth: number): Rule {
    if (typeof target !== 'string' || !target.startsWith('#'))
      throw new Problem(`${path}: only references within the schema are supported ("#/$defs/…")`);
    const known = this.#references.get(target);
    if (known !== undefined) return known;
    const reference: Reference = { kind: 'reference', target: undefined };
    this.#references.set(target, reference);
    reference.target = this.compile(this.#lookUp(target, path), target, depth);
    return reference;
  }

  #lookUp(target: string, path: string): unknown {
    let found = this.#root;
    for (const part of target.split('/').slice(1)) {
      const key = decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~');
      const isThere = typeof found === 'object' && found !== null && Object.hasOwn(found, key);
      if (!isThere) throw new Problem(`${path}: there is nothing at ${target}`);
      found = (found as Record<string, unknown>)[key];
    }
    return found;
  }

  /** What a schema that only refers to another says. */
  #resolved(schema: unknown): unknown {
    const seen = new Set<unknown>();
    let resolved = schema;
    while (isSchema(resolved) && typeof resolved.$ref === 'string' && !seen.has(resolved)) {
      seen.add(resolved);
      resolved = this.#lookUp(resolved.$ref, '$ref');
    }
    return resolved;
  }

  #typed(type: TypeName, schema: Schema, path: string, depth: number): Rule {
    switch (type) {
      case 'object':
        return this.#object(schema, path, depth);
      case 'array':
        return this.#array(schema, path, depth);
      case 'string':
        return stringRule(schema, path);
      case 'number':
      case 'integer':
        return numeric(type, schema, path);
      case 'boolean':
        return BOOLEAN;
      case 'null':
        return NULL;
      default:
        return type satisfies never;
    }
  }

  #object(schema: Schema, path: string, depth: number): Rule {
    const { properties = {}, required = [], additionalProperties: others } = schema;
    if (!isSchema(properties)) throw new Problem(`${path}/properties: must be an object`);
    if (!Array.isArray(required)) throw new Problem(`${path}/required: must be an array of names`);
    if (schema.properties === undefined && required.length === 0 && (others === undefined || others === true))
      return ANY_OBJECT;
    const names = [...new Set([...Object.keys(properties), ...required.map(String)])];
    const other =
      others === undefined || others === false
        ? undefined
        : this.compile(others, `${path}/additionalProperties`, depth);
    const rest = other && member(quoted(nameOtherThan(names)), other);
    // From the last member to the first: what may follow one that is there, and what may stand first.
    let after = rest === undefined ? literal('') : repeat(sequence(COMMA, rest), 0, Number.POSITIVE_INFINITY);
    let first = rest === undefined ? literal('') : list(rest, COMMA, 0, Number.POSITIVE_INFINITY);
    for (const name of names.toReversed()) {
      const isKnown = Object.hasOwn(properties, name);
      if (!isKnown && other === undefined) throw new Problem(`${path}/required: "${name}" is not among the properties`);
      const value = isKnown
        ? this.compile(properties[name], `${path}/properties/${name}`, depth)
        : (other ?? ANY_VALUE);
      const one = member(constant(name), value);
      const isRequired = required.includes(name);
      first = isRequired ? sequence(one, after) : choice(sequence(one, after), first);
      after = isRequired ? sequence(COMMA, one, after) : sequence(optional(sequence(COMMA, one)), after);
    }
    return object(first);
  }

  #array(schema: Schema, path: string, depth: number): Rule {
    const { items, prefixItems = [], uniqueItems } = schema;
    if (uniqueItems !== undefined && uniqueItems !== false) throw new Problem(`${path}/uniqueItems: is not supported`);
    const [min, max] = bounds(schema, 'Items', path);
    if (!Array.isArray(prefixItems)) throw new Problem(`${path}/prefixItems: must be an array`);
    if (prefixItems.length > 0) {
      if (items !== false || min > prefixItems.length || max < prefixItems.length)
        throw new Problem(`${path}/prefixItems: only with "items": false, and all of them`);
      const entries = prefixItems.map((item, i) => this.compile(item, `${path}/prefixItems/${i}`, depth));
      return array(sequence(...entries.flatMap((entry, i) => (i === 0 ? [entry] : [COMMA, entry]))));
    }
    if (items === undefined && min === 0 && max === Number.POSITIVE_INFINITY) return ANY_ARRAY;
    if (items === false && min === 0) return array(literal(''));
    return array(list(items === undefined ? ANY_VALUE : this.compile(items, `${path}/items`, depth), COMMA, min, max));
  }
}

function stringRule(schema: Schema, path: string): Rule {
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

function numeric(type: 'number' | 'integer', schema: Schema, path: string): Rule {
  const given = OF_TYPE[type].filter((key) => schema[key] !== undefined);
  if (given.length === 0) return type === 'integer' ? INTEGER : NUMBER;
  const wrong = given.find((key) => !Number.isFinite(schema[key]));
  if (wrong !== undefined) throw new Problem(`${path}/${wrong}: must be a number`);
  const range = Object.fromEntries(given.map((key) => [key, Number(schema[key])]));
  const rule = type === 'integer' ? integerRange(range) : numberRange(range);
  if (rule === undefined)
    throw new Problem(`${path}: no ${type} of at most 15 digits, and 4 after the point, is within its bounds`);
  return rule;
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
function nameOtherThan(names: readonly string[]): Rule {
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

function typesOf(schema: Schema, keywords: readonly string[], path: string): TypeName[] {
  if (schema.type !== undefined) {
    const names = [schema.type].flat();
    const unknown = names.find((name) => typeof name !== 'string' || !Object.hasOwn(OF_TYPE, name));
    if (unknown !== undefined || names.length === 0) throw new Problem(`${path}/type: "${unknown}" is no type`);
    // An integer is a number, too.
    return (names as TypeName[]).filter((name) => name !== 'integer' || !names.includes('number'));
  }
  const implied = (Object.keys(OF_TYPE) as TypeName[]).find((type) =>
    OF_TYPE[type].some((keyword) => keywords.includes(keyword)),
  );
  return implied === undefined ? [] : [implied];
}

function bounds(schema: Schema, what: 'Items' | 'Length', path: string): [min: number, max: number] {
  const [min, max] = [schema[`min${what}`] ?? 0, schema[`max${what}`] ?? Number.POSITIVE_INFINITY];
  const isCount = (value: unknown) =>
    value === Number.POSITIVE_INFINITY || (Number.isSafeInteger(value) && Number(value) >= 0);
  if (!isCount(min) || !isCount(max) || Number(min) > Number(max))
    throw new Problem(`${path}: min${what} and max${what} must be counts, in order`);
  return [Number(min), Number(max)];
}

function refuseOthers(keywords: readonly string[], known: readonly string[], path: string, where: string): void {
  const other = keywords.find((key) => !known.includes(key));
  if (other !== undefined) throw new Problem(`${path}/${other}: is not supported ${where}`);
}

/** A value may be valid under one of them only: they must differ in type, or in a required member's constants. */
function refuseOverlap(options: readonly unknown[], path: string): void {
  for (const [i, a] of options.entries()) {
    for (const b of options.slice(i + 1)) {
      if (!areDisjoint(a, b))
        throw new Problem(`${path}: its schemas may overlap; use anyOf, or give each its own const`);
    }
  }
}

function areDisjoint(a: unknown, b: unknown): boolean {
  if (!isSchema(a) || !isSchema(b)) return false;
  const constants = [constantsOf(a), constantsOf(b)];
  if (constants[0] !== undefined && constants[1] !== undefined)
    return !constants[0].some((value) => constants[1]?.includes(value));
  const [ofA, ofB] = [a, b].map(({ type }) => (type === undefined ? [] : [type].flat()));
  const overlaps = (x: unknown, y: unknown) =>
    x === y || [x, y].every((name) => name === 'number' || name === 'integer');
  if (ofA?.length && ofB?.length && !ofA.some((x) => ofB.some((y) => overlaps(x, y)))) return true;
  const required = [a, b].map((schema) => (Array.isArray(schema.required) ? schema.required.map(String) : []));
  const [propertiesA, propertiesB] = [a.properties, b.properties];
  if (!isSchema(propertiesA) || !isSchema(propertiesB)) return false;
  return (required[0] ?? []).some((name) => {
    const [x, y] = [propertiesA[name], propertiesB[name]].map((schema) =>
      isSchema(schema) ? constantsOf(schema) : undefined,
    );
    return required[1]?.includes(name) && x !== undefined && y !== undefined && !x.some((value) => y.includes(value));
  });
}

function constantsOf(schema: Schema): string[] | undefined {
  const values = schema.const !== undefined ? [schema.const] : schema.enum;
  return Array.isArray(values) ? values.map((value) => JSON.stringify(value)) : undefined;
}

function isOfType(value: unknown, type: unknown): boolean {
  if (type === 'null') return value === null;
  if (type === 'array') return Array.isArray(value);
  if (type === 'integer') return Number.isInteger(value);
  if (type === 'object') return isSchema(value);
  return typeof value === type;
}

function isSchema(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
