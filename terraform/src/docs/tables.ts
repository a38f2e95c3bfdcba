/**
 * Tables of a module's inputs and outputs, from its own text, for its README.
 */

import type { Json } from '../checks/hcl.ts';
import { isObject, type Module } from '../checks/module.ts';
import { replaced, table } from './markdown.ts';

/** A README with its tables anew. */
export function withTables(readme: string, module: Module): string {
  return replaced(readme, 'tables', tables(module), `${module.name}/README.md`);
}

function tables(module: Module): string {
  const byName = <T extends { readonly name: string }>(items: readonly T[]) =>
    [...items].sort((a, b) => (a.name < b.name ? -1 : 1));
  const inputs = byName(module.variables).map(({ name, body }) => [
    `\`${name}\``,
    textOf(body.description),
    `\`${typeOf(body.type ?? 'any')}\``,
    'default' in body ? `\`${literal(body.default ?? null)}\`` : 'required',
  ]);
  const outputs = byName(module.outputs).map(({ name, body }) => [
    `\`${name}\``,
    textOf(body.description),
    body.sensitive === true ? 'yes' : '',
  ]);
  return [
    '### Inputs\n',
    ...(inputs.length === 0 ? ['None.\n'] : [table(['input', 'is', 'type', 'default'], inputs)]),
    '### Outputs\n',
    table(['output', 'is', 'secret'], outputs),
  ].join('\n');
}

/** `${set(string)}` as it stands in the file, in one line. */
function typeOf(type: Json): string {
  return textOf(type)
    .replace(/^\$\{|\}$/g, '')
    .replace(/\s+/g, ' ')
    .replaceAll('({ ', '({ ');
}

function literal(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(literal).join(', ')}]`;
  if (!isObject(value)) return JSON.stringify(value);
  const entries = Object.entries(value).map(([name, inner]) => `${name} = ${literal(inner)}`);
  return entries.length === 0 ? '{}' : `{ ${entries.join(', ')} }`;
}

function textOf(value: Json | undefined): string {
  return typeof value === 'string' ? value : '';
}
