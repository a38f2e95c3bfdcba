/**
 * Resources' arguments against their provider's schema: names, what must be there, blocks and attributes, and literals' types.
 */
import type { Attribute, Block, Body, Schemas } from '../schemas/schema.ts';
import type { Json, JsonObject } from './hcl.ts';
import { blocks, type Finding, isObject, type Module, nameOf } from './module.ts';

/** Terraform's own, which any resource takes. */
const META = new Set([
  'count',
  'for_each',
  'provider',
  'depends_on',
  'lifecycle',
  'connection',
  'provisioner',
  'dynamic',
]);

export function checkArguments(module: Module, schemas: Schemas): Finding[] {
  return module.resources.flatMap((resource) => {
    const at = `${module.name}: ${nameOf(resource)}`;
    const schema = schemas.find(resource.kind, resource.type);
    if (schema === undefined)
      return [
        {
          at,
          problem: `no schema knows this ${resource.kind}: is the type right? Then npm run schemas -w @signpost/terraform`,
        },
      ];
    return checkBody(resource.body, schema, META).map((problem) => ({ at, problem }));
  });
}

function checkBody(body: JsonObject, schema: Body, known: ReadonlySet<string> = new Set(['dynamic'])): string[] {
  const given = withDynamic(body);
  const names = [...Object.keys(schema.attributes), ...Object.keys(schema.blocks ?? {})];
  return [
    ...Object.entries(given).flatMap(([name, value]) => {
      const attribute = schema.attributes[name];
      if (attribute !== undefined) return checkAttribute(name, value, attribute);
      const block = schema.blocks?.[name];
      if (block !== undefined) return checkBlock(name, value, block);
      return known.has(name) ? [] : [`"${name}" is no argument here; there are ${names.sort().join(', ')}`];
    }),
    ...Object.entries({ ...schema.attributes, ...schema.blocks }).flatMap(([name, { use }]) =>
      use === 'required' && given[name] === undefined ? [`lacks "${name}"`] : [],
    ),
  ];
}

/** Blocks that are written once for each of a list count as one of them. */
function withDynamic(body: JsonObject): JsonObject {
  const given: Record<string, Json> = { ...body };
  delete given.dynamic;
  for (const group of blocks(body.dynamic))
    for (const [name, entries] of Object.entries(group)) {
      const written = blocks(body[name]);
      given[name] = [...written, ...blocks(entries).flatMap(({ content }) => blocks(content))];
    }
  return given;
}

function checkAttribute(name: string, value: Json, attribute: Attribute): string[] {
  if (attribute.use === 'computed') return [`"${name}" can't be given: the provider tells it`];
  // What an expression gives is known when it is applied.
  if (value === null || isExpression(value)) return [];
  if (attribute.nested === undefined) return checkType(name, value, attribute.type ?? 'any');
  const { nesting, body } = attribute.nested;
  const within = (inner: Json) =>
    isObject(inner)
      ? checkBody(inner, body).map((problem) => `${name}: ${problem}`)
      : isExpression(inner)
        ? []
        : [`"${name}" is made of objects`];
  if (nesting === 'single') return isObject(value) ? within(value) : [`"${name}" is an object: ${name} = { … }`];
  if (nesting === 'list')
    return Array.isArray(value) ? value.flatMap(within) : [`"${name}" is a list: ${name} = [ … ]`];
  return isObject(value) ? Object.values(value).flatMap(within) : [`"${name}" is a map: ${name} = { … }`];
}

function checkBlock(name: string, value: Json, { nesting, body }: Block): string[] {
  if (!Array.isArray(value)) return [`"${name}" is a block: it is written without "="`];
  const problems = blocks(value).flatMap((inner) => checkBody(inner, body).map((problem) => `${name}: ${problem}`));
  return nesting === 'single' && value.length > 1 ? [...problems, `"${name}" may be there once`] : problems;
}

function checkType(name: string, value: Json, type: string): string[] {
  const { container, of } = /^(?:(?<container>list|map)\()?(?<of>\w+)\)?$/.exec(type)?.groups ?? {};
  const isIt =
    container === 'list'
      ? Array.isArray(value) && value.every((item) => isScalar(item, of))
      : container === 'map'
        ? isObject(value) && Object.values(value).every((item) => isScalar(item, of))
        : isScalar(value, of);
  return isIt ? [] : [`"${name}" takes a ${type}, not ${JSON.stringify(value)}`];
}

/** As Terraform converts: numbers and truth values are texts, too. */
function isScalar(value: Json, type: string | undefined): boolean {
  if (value === null || type === 'any' || isExpression(value)) return true;
  switch (type) {
    case 'string':
      return typeof value !== 'object';
    case 'number':
      return typeof value === 'number' || (typeof value === 'string' && value !== '' && Number.isFinite(Number(value)));
    case 'bool':
      return typeof value === 'boolean' || value === 'true' || value === 'false';
    default:
      return false;
  }
}

function isExpression(value: Json): boolean {
  return typeof value === 'string' && /[$%]\{/.test(value.replace(/\$\$\{|%%\{/g, ''));
}
