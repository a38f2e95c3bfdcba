/**
 * Where the embedded demo family stands in the repository, and where its packed experts go.
 */
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');
export const DEMO_MODELS = join(ROOT, 'models/demo');
export const DEMO_BASE = join(DEMO_MODELS, 'base');
export const DEMO_EXPERTS = ['chat', 'math', 'code'] as const;
export type DemoExpert = (typeof DEMO_EXPERTS)[number];
/** Packed deltas and the demo's store; made on first start, safe to delete. */
export const DEMO_STATE = join(ROOT, '.signpost/demo');

export function demoExpertDir(name: DemoExpert): string {
  return join(DEMO_MODELS, 'experts', name);
}
