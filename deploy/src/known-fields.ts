/**
 * Fields that Kubernetes doesn't know. Its own schema check passes over them, and an API server refuses them only where it is asked to be strict: a probe that is
 * misspelt is then no probe. What it knows is read off the type declarations of `kubernetes-models`, which are made from its OpenAPI document.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const MODELS = dirname(createRequire(import.meta.url).resolve('kubernetes-models/package.json'));

interface Shape {
  readonly fields: ReadonlyMap<string, string>;
  /** Where the types that the fields have are declared. */
  readonly imports: ReadonlyMap<string, string>;
}

const shapes = new Map<string, Shape>();

/** Paths of fields that aren't known, in an object of `apps/v1` `Deployment`, say. */
export function unknownFields(object: unknown, apiVersion: string, kind: string): string[] {
  return unknownIn(object, join(MODELS, apiVersion, `${kind}.d.ts`), kind);
}

function unknownIn(value: unknown, declaration: string, where: string): string[] {
  if (typeof value !== 'object' || value === null) return [];
  const { fields, imports } = shapeOf(declaration);
  return Object.entries(value).flatMap(([name, inner]) => {
    const at = `${where}.${name}`;
    const type = fields.get(name);
    if (type === undefined) return [at];
    const element = /^Array<(\w+)>$/.exec(type)?.[1];
    const next = imports.get(element ?? type);
    if (next === undefined) return [];
    if (element === undefined) return unknownIn(inner, next, at);
    return (Array.isArray(inner) ? inner : []).flatMap((one, i) => unknownIn(one, next, `${at}[${i}]`));
  });
}

function shapeOf(path: string): Shape {
  const known = shapes.get(path);
  if (known !== undefined) return known;
  const text = readFileSync(path, 'utf8');
  const imports = new Map<string, string>();
  for (const [, types = '', from = ''] of text.matchAll(/^import \{ (.+) \} from "(.+)";$/gm))
    for (const type of types.split(', ')) imports.set(type, locate(path, from));
  const body = /^export interface \w+(?: extends \w+)? \{\n([\s\S]*?)^\}/m.exec(text)?.[1] ?? '';
  const fields = new Map(
    [...body.matchAll(/^ {4}"([^"]+)"\??: (.+?);?$/gm)].map(([, name = '', type = '']) => [name, type]),
  );
  const shape = { fields, imports };
  shapes.set(path, shape);
  return shape;
}

function locate(from: string, module: string): string {
  return `${module.startsWith('.') ? join(dirname(from), module) : join(MODELS, '..', module)}.d.ts`;
}
