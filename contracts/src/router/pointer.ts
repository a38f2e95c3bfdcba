/**
 * How a router stands in object storage: its files by digest, and a pointer to them.
 */
import { z } from 'zod';
import { digestSchema } from '../digest.ts';

/** Replaced last, so that it never points at what isn't there. */
export const ROUTER_POINTER_KEY = 'router/current.json';
/** Object key of a file. */
export const routerObjectKey = (digest: string) => `router/${digest}`;

export const routerPointerSchema = z.strictObject({
  manifest: digestSchema,
  tokenizer: digestSchema,
  model: digestSchema,
});
export type RouterPointer = z.output<typeof routerPointerSchema>;
