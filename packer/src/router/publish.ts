/**
 * Publishing a router: its files by digest, then the pointer that edges look at.
 */
import { sha256 } from '@signpost/contracts';
import { ROUTER_POINTER_KEY, type RouterPointer, routerObjectKey } from '@signpost/contracts/router';
import type { ObjectStore } from '@signpost/store';
import { checkRouter, requireUsable } from './check.ts';
import { readRouter } from './evaluate.ts';

/**
 * Writes the router in `dir` into the bucket that the edge reads.
 *
 * @throws Problem when the edge can't run it; nothing is written then.
 */
export async function publishRouter(store: ObjectStore, dir: string): Promise<RouterPointer> {
  requireUsable(dir, await checkRouter(dir));
  const { manifest, manifestFile, tokenizer, model } = await readRouter(dir);
  const pointer: RouterPointer = {
    manifest: await sha256(manifestFile),
    tokenizer: manifest.tokenizer.digest,
    model: manifest.model.digest,
  };
  for (const [part, bytes] of Object.entries({ manifest: manifestFile, tokenizer, model } satisfies Record<
    keyof RouterPointer,
    Uint8Array
  >))
    await store.write(routerObjectKey(pointer[part as keyof RouterPointer]), bytes);
  await store.write(ROUTER_POINTER_KEY, new TextEncoder().encode(JSON.stringify(pointer)));
  return pointer;
}
