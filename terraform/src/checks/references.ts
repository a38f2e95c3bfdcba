/**
 * What expressions refer to is there: variables, locals, resources and their attributes, other modules' outputs. And what is declared is referred to.
 */
import type { Kind, Schemas } from '../schemas/schema.ts';
import { type Json, referencesIn } from './hcl.ts';
import { blocks, expressions, type Finding, isObject, type Module } from './module.ts';

/** Outputs of a module that is called, by the call's `source`; undefined where nothing is known of it. */
export type OutputsOf = (source: string, caller: Module) => ReadonlySet<string> | undefined;

interface Place {
  readonly at: string;
  readonly value: Json;
  /** Names that stand for what a block is repeated for. */
  readonly iterators: ReadonlySet<string>;
}

export async function checkReferences(module: Module, schemas: Schemas, outputsOf: OutputsOf): Promise<Finding[]> {
  const declared = {
    var: new Set(module.variables.map(({ name }) => name)),
    local: new Set(module.locals.map(({ name }) => name)),
    module: new Map(module.calls.map(({ name, body }) => [name, outputsOf(String(body.source), module)])),
  };
  const used = new Set<string>();

  function problem(reference: string, text: string, iterators: ReadonlySet<string>): string | undefined {
    const [first = '', second = '', third] = reference.split('.');
    used.add(`${first}.${second}`);
    switch (first) {
      case 'each':
      case 'count':
      case 'path':
      case 'self':
      case 'terraform':
        return undefined;
      case 'var':
      case 'local':
        return declared[first].has(second) ? undefined : `${first}.${second} is not declared`;
      case 'module': {
        if (!declared.module.has(second)) return `module.${second} is not called`;
        const outputs = declared.module.get(second);
        const output = third ?? after(text, `module.${second}`);
        return outputs === undefined || output === undefined || outputs.has(output)
          ? undefined
          : `module.${second} has no output "${output}"; it has ${[...outputs].join(', ')}`;
      }
      default:
        return iterators.has(first) ? undefined : resourceProblem(reference, text);
    }
  }

  function resourceProblem(reference: string, text: string): string | undefined {
    const isData = reference.startsWith('data.');
    const [type = '', name = '', direct] = reference.split('.').slice(isData ? 1 : 0);
    const kind: Kind = isData ? 'data' : 'resource';
    const address = `${isData ? 'data.' : ''}${type}.${name}`;
    if (
      !module.resources.some((resource) => resource.kind === kind && resource.type === type && resource.name === name)
    )
      return `${address} is not declared`;
    const schema = schemas.find(kind, type);
    const attribute = direct !== undefined && /^[a-z]\w*$/.test(direct) ? direct : after(text, address);
    if (schema === undefined || attribute === undefined) return undefined;
    return attribute in schema.attributes || attribute in (schema.blocks ?? {})
      ? undefined
      : `${address} has no attribute "${attribute}"`;
  }

  const findings: Finding[] = [];
  for (const { at, value, iterators } of places(module))
    for (const text of expressions(value))
      for (const reference of await referencesIn(module.name, text)) {
        const found = problem(reference, text, iterators);
        if (found !== undefined) findings.push({ at, problem: found });
      }
  for (const kind of ['var', 'local'] as const)
    for (const name of declared[kind])
      if (!used.has(`${kind}.${name}`))
        findings.push({ at: module.name, problem: `${kind}.${name} is declared, but nothing uses it` });
  return findings;
}

/** The attribute behind an index or a splat: `id` in `aws_subnet.private[*].id`. */
function after(text: string, address: string): string | undefined {
  const escaped = address.replaceAll('.', '\\.');
  return new RegExp(`\\b${escaped}(?:\\[(?:[^\\[\\]]|\\[[^\\]]*\\])*\\])\\.([a-z]\\w*)`).exec(text)?.[1];
}

function places(module: Module): Place[] {
  const none = new Set<string>();
  return [
    ...module.resources.map(({ kind, type, name, body }) => ({
      at: `${module.name}: ${kind} ${type}.${name}`,
      // Lifecycles name the resource's own arguments.
      value: { ...body, lifecycle: blocks(body.lifecycle).map(({ ignore_changes: _, ...rest }) => rest) },
      iterators: iterators(body),
    })),
    ...module.calls.map(({ name, body }) => ({
      at: `${module.name}: module ${name}`,
      value: { ...body, providers: null },
      iterators: none,
    })),
    ...module.locals.map(({ name, value }) => ({ at: `${module.name}: local ${name}`, value, iterators: none })),
    ...module.outputs.map(({ name, body }) => ({ at: `${module.name}: output ${name}`, value: body, iterators: none })),
    // A variable's validation is no use of it: a type isn't an expression either.
    ...module.variables.flatMap(({ name, body }) =>
      blocks(body.validation).map((validation) => ({
        at: `${module.name}: variable ${name}`,
        value: JSON.parse(JSON.stringify(validation).replaceAll(`var.${name}`, 'path.module')) as Json,
        iterators: none,
      })),
    ),
  ];
}

function iterators(value: Json): ReadonlySet<string> {
  if (Array.isArray(value)) return new Set(value.flatMap((item) => [...iterators(item)]));
  if (!isObject(value)) return new Set();
  const own = blocks(value.dynamic).flatMap((group) =>
    Object.entries(group).flatMap(([name, entries]) =>
      blocks(entries).map(({ iterator }) => (typeof iterator === 'string' ? iterator.replace(/[${}]/g, '') : name)),
    ),
  );
  return new Set([...own, ...Object.values(value).flatMap((inner) => [...iterators(inner)])]);
}
