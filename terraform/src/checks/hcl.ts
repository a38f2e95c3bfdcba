/**
 * HashiCorp's own parser, as WebAssembly. Required untyped: its types bring the browser's into the whole program.
 */
import { createRequire } from 'node:module';

/** JSON of HCL: blocks are lists of objects. */
export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [name: string]: Json;
}

interface Hcl2Json {
  parse(file: string, text: string): Promise<JsonObject>;
  getReferencesInExpression(file: string, expression: string): Promise<readonly { readonly value: string }[]>;
}

const require = createRequire(import.meta.url);
const hcl2json: Hcl2Json = require('@cdktf/hcl2json');

export function parseHcl(file: string, text: string): Promise<JsonObject> {
  return hcl2json.parse(file, text);
}

/** What an expression, `${…}` with its braces, refers to: `var.name`, `aws_vpc.region.0.id`. Names of its own loops are left out. */
export async function referencesIn(file: string, expression: string): Promise<string[]> {
  return (await hcl2json.getReferencesInExpression(file, expression)).map(({ value }) => value);
}
