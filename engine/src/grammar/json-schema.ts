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
  COMMA,
  constant,
  INTEGER,
  member,
  NULL,
  NUMBER,
  object,
  quoted,
} from './json.ts';
import { integerRange, numberRange } from './number-range.ts';
import { alwaysEnds, choice, list, literal, optional, type Reference, type Rule, repeat, sequence } from './rule.ts';
import { nameOtherThan, stringRule } from './schema-strings.ts';
import { bounds, isOfType, isSchema, refuseOverlap, type Schema } from './schema-values.ts';

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

function refuseOthers(keywords: readonly string[], known: readonly string[], path: string, where: string): void {
  const other = keywords.find((key) => !known.includes(key));
  if (other !== undefined) throw new Problem(`${path}/${other}: is not supported ${where}`);
}

/** A value may be valid under one of them only: they must differ in type, or in a required member's constants. */
