/**
 * Schemas as data: what they bound, which constants they list, whether two of them can hold of one value.
 */
import { Problem } from '@signpost/contracts';

export type Schema = Readonly<Record<string, unknown>>;

export function bounds(schema: Schema, what: 'Items' | 'Length', path: string): [min: number, max: number] {
  const [min, max] = [schema[`min${what}`] ?? 0, schema[`max${what}`] ?? Number.POSITIVE_INFINITY];
  const isCount = (value: unknown) =>
    value === Number.POSITIVE_INFINITY || (Number.isSafeInteger(value) && Number(value) >= 0);
  if (!isCount(min) || !isCount(max) || Number(min) > Number(max))
    throw new Problem(`${path}: min${what} and max${what} must be counts, in order`);
  return [Number(min), Number(max)];
}

export function refuseOverlap(options: readonly unknown[], path: string): void {
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

export function isOfType(value: unknown, type: unknown): boolean {
  if (type === 'null') return value === null;
  if (type === 'array') return Array.isArray(value);
  if (type === 'integer') return Number.isInteger(value);
  if (type === 'object') return isSchema(value);
  return typeof value === type;
}

export function isSchema(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
