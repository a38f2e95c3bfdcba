/**
 * Calls of modules: inputs that exist, and all that are required; sources and versions that are pinned.
 */
import path from 'node:path';
import type { JsonObject } from './hcl.ts';
import type { Finding, Module } from './module.ts';

const META = new Set(['source', 'version', 'count', 'for_each', 'providers', 'depends_on']);

interface Interface {
  readonly inputs: ReadonlyMap<string, 'required' | 'optional'>;
  readonly outputs: ReadonlySet<string>;
}

function interfaceOf(module: Module): Interface {
  return {
    inputs: new Map(
      module.variables.map(({ name, body }) => [name, 'default' in body ? 'optional' : 'required'] as const),
    ),
    outputs: new Set(module.outputs.map(({ name }) => name)),
  };
}

/** What a call's source is, of the modules here and the stand-ins for those of others. */
export class Interfaces {
  readonly #byFolder: ReadonlyMap<string, Interface>;
  readonly #bySource: ReadonlyMap<string, Interface>;

  /** @param standIns by the sources of others' modules */
  constructor(modules: readonly Module[], standIns: ReadonlyMap<string, Module>) {
    this.#byFolder = new Map(modules.map((module) => [module.folder, interfaceOf(module)]));
    this.#bySource = new Map([...standIns].map(([source, module]) => [source, interfaceOf(module)]));
  }

  find(source: string, caller: Module): Interface | undefined {
    return source.startsWith('.')
      ? this.#byFolder.get(path.resolve(caller.folder, source))
      : this.#bySource.get(source);
  }
}

export function checkCalls(module: Module, interfaces: Interfaces): Finding[] {
  return module.calls.flatMap(({ name, body }) =>
    checkCall(body, module, interfaces).map((problem) => ({ at: `${module.name}: module ${name}`, problem })),
  );
}

function checkCall(body: JsonObject, caller: Module, interfaces: Interfaces): string[] {
  const source = String(body.source);
  const found = interfaces.find(source, caller);
  if (found === undefined)
    return [
      `nothing is known of "${source}": a path that isn't there, or a module of others without a stand-in (terraform/stand-ins)`,
    ];
  return [
    // A range would bring, some day, what nobody has looked at.
    ...(source.startsWith('.') || /^\d+\.\d+\.\d+$/.test(String(body.version))
      ? []
      : [`pin "${source}" to one version`]),
    ...Object.keys(body)
      .filter((name) => !META.has(name) && !found.inputs.has(name))
      .map((name) => `"${name}" is no input of "${source}"`),
    ...[...found.inputs]
      .filter(([name, use]) => use === 'required' && !(name in body))
      .map(([name]) => `lacks the input "${name}"`),
  ];
}
