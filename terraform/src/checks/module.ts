/**
 * A folder of Terraform, parsed: what it declares, expressions as text (`"${var.name}"`).
 */
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { Problem } from '@signpost/contracts';
import type { Kind } from '../schemas/schema.ts';
import { type Json, type JsonObject, parseHcl } from './hcl.ts';

export interface Resource {
  readonly kind: Kind;
  readonly type: string;
  readonly name: string;
  readonly body: JsonObject;
}

interface Named {
  readonly name: string;
  readonly body: JsonObject;
}

export interface Module {
  /** For messages: `modules/edge`. */
  readonly name: string;
  readonly folder: string;
  readonly resources: readonly Resource[];
  readonly variables: readonly Named[];
  readonly outputs: readonly Named[];
  readonly locals: readonly { readonly name: string; readonly value: Json }[];
  /** Of other modules. */
  readonly calls: readonly Named[];
  /** The `terraform` block's and `provider` blocks' bodies. */
  readonly settings: readonly JsonObject[];
  readonly providers: readonly Named[];
}

/** Something wrong, and where. */
export interface Finding {
  /** `modules/edge: resource cloudflare_queue.shadows`. */
  readonly at: string;
  readonly problem: string;
}

/** @throws Problem for a folder without any .tf file, or one that isn't HCL. */
export async function readModule(folder: string, name = path.basename(folder)): Promise<Module> {
  const files = (await readdir(folder)).filter((file) => file.endsWith('.tf')).sort();
  if (files.length === 0) throw new Problem(`${folder} has no .tf files`);
  return parseModule(
    name,
    folder,
    await Promise.all(files.map(async (file) => [file, await readFile(path.join(folder, file), 'utf8')] as const)),
  );
}

export async function parseModule(
  name: string,
  folder: string,
  files: readonly (readonly [file: string, text: string])[],
): Promise<Module> {
  const parts: JsonObject[] = [];
  for (const [file, text] of files) {
    try {
      parts.push(await parseHcl(file, text));
    } catch (cause) {
      throw new Problem(`${name}/${file} is no HCL: ${cause instanceof Error ? cause.message : cause}`, { cause });
    }
  }
  const named = (key: string): Named[] =>
    parts.flatMap((part) =>
      Object.entries(objectOf(part[key])).flatMap(([name, bodies]) => blocks(bodies).map((body) => ({ name, body }))),
    );
  const resources = (kind: Kind): Resource[] =>
    parts.flatMap((part) =>
      Object.entries(objectOf(part[kind])).flatMap(([type, byName]) =>
        Object.entries(objectOf(byName)).flatMap(([name, bodies]) =>
          blocks(bodies).map((body) => ({ kind, type, name, body })),
        ),
      ),
    );
  return {
    name,
    folder,
    resources: [...resources('resource'), ...resources('data')],
    variables: named('variable'),
    outputs: named('output'),
    locals: parts.flatMap((part) =>
      blocks(part.locals).flatMap((body) => Object.entries(body).map(([name, value]) => ({ name, value }))),
    ),
    calls: named('module'),
    settings: parts.flatMap((part) => blocks(part.terraform)),
    providers: named('provider'),
  };
}

export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function objectOf(value: Json | undefined): JsonObject {
  return isObject(value) ? value : {};
}

/** Bodies of blocks: a list's objects, or the one there is. */
export function blocks(value: Json | undefined): JsonObject[] {
  return (Array.isArray(value) ? value : [value]).filter(isObject);
}

/** All texts in a value, keys included, as they may be expressions. */
function texts(value: Json): string[] {
  if (typeof value === 'string') return [value];
  if (Array.isArray(value)) return value.flatMap(texts);
  if (isObject(value)) return Object.entries(value).flatMap(([name, inner]) => [name, ...texts(inner)]);
  return [];
}

/** What stands in `${…}` and `%{…}` in a value's texts, each with its braces: a text around them may be no expression. */
export function expressions(value: Json): string[] {
  return texts(value).flatMap((text) => {
    const found: string[] = [];
    for (const { index } of text.matchAll(/(?<![$%])[$%]\{/g)) {
      const end = closing(text, index + 1);
      // One within another is part of it.
      if (!found.some((other) => other.includes(text.slice(index, end)))) found.push(text.slice(index, end));
    }
    return found;
  });
}

/** Behind the brace that closes the one at `start`. */
function closing(text: string, start: number): number {
  let depth = 0;
  for (let at = start; at < text.length; at++) {
    if (text[at] === '{') depth++;
    else if (text[at] === '}' && --depth === 0) return at + 1;
  }
  return text.length;
}

/** The name in messages. */
export function nameOf({ kind, type, name }: Resource): string {
  return `${kind} ${type}.${name}`;
}
