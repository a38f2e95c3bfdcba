/**
 * What a router may weigh, so that an isolate of 128 MB holds it: beside the Worker, and beside the router whose place it takes (docs/router.md has the measurement).
 * Kept by who makes one and by who reads one.
 */
import { Problem } from '../problem.ts';
import type { RouterKind, RouterManifest } from './manifest.ts';

/** The files that a manifest names. */
export type RouterPart = 'tokenizer' | 'model';

export const MAX_MANIFEST_BYTES = 65_536;

const LIMIT_BYTES: Readonly<Record<RouterKind, Readonly<Record<RouterPart, number>>>> = {
  features: { tokenizer: 1.5e6, model: 12e6 },
  transformer: { tokenizer: 1.5e6, model: 24e6 },
};

/** Bytes. */
export function routerLimit({ kind = 'features' }: RouterManifest, part: RouterPart): number {
  return LIMIT_BYTES[kind][part];
}

/** @throws Problem saying the size and the limit. */
export function assertRouterFits(manifest: RouterManifest, part: RouterPart, bytes: number, where: string): void {
  const limit = routerLimit(manifest, part);
  if (bytes > limit)
    throw new Problem(
      `${where} has ${bytes} bytes, and this router's ${part} may have ${limit}: an isolate of the edge has no room for more`,
    );
}
