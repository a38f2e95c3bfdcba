/**
 * What a router may weigh, so that an isolate of 128 MB holds it: beside the Worker, and beside the one whose place it takes. Kept by who publishes and by who reads.
 */
import { Problem } from '../problem.ts';

/** Files of a router, by their part in it. */
export type RouterPart = 'manifest' | 'tokenizer' | 'model';

export const ROUTER_LIMIT_BYTES: Readonly<Record<RouterPart, number>> = {
  manifest: 65_536,
  tokenizer: 4e6,
  model: 12e6,
};

/** @throws Problem saying the size and the limit. */
export function assertRouterFits(part: RouterPart, bytes: number, where: string): void {
  const limit = ROUTER_LIMIT_BYTES[part];
  if (bytes > limit)
    throw new Problem(
      `${where} has ${bytes} bytes, and a router's ${part} may have ${limit}: the edge has no room for more`,
    );
}
