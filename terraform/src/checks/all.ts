/**
 * Every check of a module.
 */
import type { Schemas } from '../schemas/schema.ts';
import { checkArguments } from './arguments.ts';
import { checkCalls, type Interfaces } from './calls.ts';
import { checkConventions } from './conventions.ts';
import type { Finding, Module } from './module.ts';
import { checkReferences } from './references.ts';
import { checkRights } from './rights.ts';
import { checkSecrets, type SensitiveOutputsOf } from './secrets.ts';

export interface CheckContext {
  readonly schemas: Schemas;
  readonly interfaces: Interfaces;
  readonly sensitiveOutputsOf: SensitiveOutputsOf;
}

export async function checkModule(
  module: Module,
  { schemas, interfaces, sensitiveOutputsOf }: CheckContext,
): Promise<Finding[]> {
  return [
    ...checkConventions(module),
    ...checkArguments(module, schemas),
    ...checkCalls(module, interfaces),
    ...(await checkReferences(module, schemas, (source, caller) => interfaces.find(source, caller)?.outputs)),
    ...checkRights(module),
    ...(await checkSecrets(module, sensitiveOutputsOf)),
  ];
}
