/**
 * A resource's schema from its generated bindings: `index.d.ts` has the arguments with their names in Terraform (in links to the registry) and whether they are
 * optional or blocks, `index.js` what the provider tells of a resource.
 */
import { Problem } from '@signpost/contracts';
import type { Attribute, Block, Body } from './schema.ts';

export interface Bindings {
  /** Text of index.d.ts. */
  readonly types: string;
  /** Text of index.js. */
  readonly code: string;
}

interface Member {
  readonly name: string;
  readonly isOptional: boolean;
  readonly isBlock: boolean;
  /** As TypeScript has it. */
  readonly type: string;
}

const INTERFACE =
  /^export interface (?<name>\w+)(?<config> extends cdktf\.TerraformMetaArguments)? \{\n(?<body>[\s\S]*?)^\}/gm;
const MEMBER = /\/\*\*(?<comment>[\s\S]*?)\*\/\s+readonly \w+(?<optional>\?)?: (?<type>(?:\{[^{}]*\}|[^;{}])+);/g;
const CLASS = /^class (?<name>\w+) extends cdktf\.\w+ \{\n(?<body>[\s\S]*?)^\}/gm;
/** `return this.getStringAttribute('arn')`, or a field that holds what is nested: `this._result = new ThingResultList(this, "result", false)`. */
const GIVEN =
  /this\.get(?<kind>\w+?)Attribute\('(?<name>\w+)'\)|new (?<holder>(?:cdktf\.)?\w+)\(this, "(?<nested>\w+)"/g;

const SIMPLE: Readonly<Record<string, string>> = {
  string: 'string',
  number: 'number',
  boolean: 'bool',
  any: 'any',
  'string[]': 'list(string)',
  'number[]': 'list(number)',
  'boolean[]': 'list(bool)',
  'Array<boolean>': 'list(bool)',
};
const GIVEN_TYPES: Readonly<Record<string, string>> = {
  String: 'string',
  Number: 'number',
  Boolean: 'bool',
  List: 'list(string)',
  NumberList: 'list(number)',
  Any: 'any',
  AnyMap: 'map(any)',
  StringMap: 'map(string)',
  NumberMap: 'map(number)',
  BooleanMap: 'map(bool)',
  'cdktf.StringMap': 'map(string)',
  'cdktf.NumberMap': 'map(number)',
  'cdktf.BooleanMap': 'map(bool)',
  'cdktf.AnyMap': 'map(any)',
  'cdktf.StringMapList': 'list(any)',
  'cdktf.StringListList': 'list(any)',
  'cdktf.StringListMap': 'map(any)',
};

/** @throws Problem where the bindings aren't written as those of CDK for Terraform 0.21. */
export function extractSchema({ types, code }: Bindings): Body {
  const interfaces = new Map<string, readonly Member[]>();
  let top: string | undefined;
  for (const { groups } of types.matchAll(INTERFACE)) {
    const { name = '', config, body = '' } = groups ?? {};
    interfaces.set(name, members(body));
    if (config !== undefined) top = name;
  }
  if (top === undefined)
    throw new Problem('these bindings have no interface of a resource, "… extends cdktf.TerraformMetaArguments"');
  const classes = new Map(
    [...code.matchAll(CLASS)].map(({ groups }) => [groups?.name ?? '', groups?.body ?? ''] as const),
  );
  const main = /^class (\w+) extends cdktf\.Terraform(?:Resource|DataSource) /m.exec(code)?.[1];
  if (main === undefined) throw new Problem('these bindings have no class of a resource or data source');

  function bodyOf(struct: string, holder: string): Body {
    const attributes: Record<string, Attribute> = {};
    const blocks: Record<string, Block> = {};
    for (const member of interfaces.get(struct) ?? []) {
      const use = member.isOptional ? 'optional' : 'required';
      const nested = nestedType(member.type, interfaces);
      if (nested === undefined) {
        attributes[member.name] = { type: simpleType(member), use };
      } else {
        const body = bodyOf(nested.struct, `${nested.struct}OutputReference`);
        if (member.isBlock)
          blocks[member.name] = { nesting: nested.nesting === 'single' ? 'single' : 'list', use, body };
        else attributes[member.name] = { nested: { nesting: nested.nesting, body }, use };
      }
    }
    for (const { groups } of (classes.get(holder) ?? '').matchAll(GIVEN)) {
      const name = groups?.name ?? groups?.nested ?? '';
      if (name in attributes || name in blocks) continue;
      const type = GIVEN_TYPES[groups?.kind ?? groups?.holder ?? ''];
      attributes[name] = type === undefined ? given(groups?.holder ?? '', name) : { type, use: 'computed' };
    }
    return {
      attributes: sorted(attributes),
      ...(Object.keys(blocks).length === 0 ? {} : { blocks: sorted(blocks) }),
    };
  }

  function given(holder: string, name: string): Attribute {
    const { struct, shape } = /^(?<struct>\w+?)(?<shape>List|Map|OutputReference)$/.exec(holder)?.groups ?? {};
    if (struct === undefined) throw new Problem(`attribute "${name}" is told as a ${holder}, which is not known here`);
    const nesting = shape === 'List' ? 'list' : shape === 'Map' ? 'map' : 'single';
    return { nested: { nesting, body: bodyOf(struct, `${struct}OutputReference`) }, use: 'computed' };
  }

  return bodyOf(top, main);
}

function members(body: string): Member[] {
  return [...body.matchAll(MEMBER)].map(({ groups }) => {
    const { comment = '', optional, type = '' } = groups ?? {};
    const name = /\{@link \S+#(\w+) /.exec(comment)?.[1];
    if (name === undefined) throw new Problem(`an argument of type ${type} has no link to the registry that names it`);
    return {
      name,
      isOptional: optional !== undefined,
      isBlock: new RegExp(`^\\s*\\* ${name} block$`, 'm').test(comment),
      type: type
        .replace(/\s*\|\s*cdktf\.IResolvable/g, '')
        .replace(/\s+/g, ' ')
        .replace(/\((\w+)\)/g, '$1')
        .trim(),
    };
  });
}

function nestedType(
  type: string,
  interfaces: ReadonlyMap<string, unknown>,
): { readonly struct: string; readonly nesting: 'single' | 'list' | 'map' } | undefined {
  const { list, map, single } =
    /^(?:(?<list>\w+)\[\]|\{ \[key: string\]: (?<map>\w+); \}|(?<single>\w+))$/.exec(type)?.groups ?? {};
  const struct = list ?? map ?? single;
  if (struct === undefined || !interfaces.has(struct)) return undefined;
  return { struct, nesting: list !== undefined ? 'list' : map !== undefined ? 'map' : 'single' };
}

function simpleType({ name, type }: Member): string {
  const map = /^\{ \[key: string\]: (?<of>\w+(?:\[\])?); \}$/.exec(type)?.groups?.of;
  // Deeper than two levels nobody looks.
  const simple = map === undefined ? SIMPLE[type] : `map(${map.endsWith('[]') ? 'any' : (SIMPLE[map] ?? 'any')})`;
  if (simple === undefined && /\[\]\[\]$|\}\[\]$/.test(type)) return 'list(any)';
  if (simple === undefined) throw new Problem(`argument "${name}" has the type ${type}, which is not known here`);
  return simple;
}

/** In one order whatever the bindings' own, so that a new version's differences can be read. */
function sorted<T>(record: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
}
