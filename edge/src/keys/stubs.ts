/**
 * The Durable Objects of keys as the rest of the edge calls them.
 */
import type { KeyObject } from './admission.ts';
import type { KeyIndex } from './index-object.ts';
import type { ApiKey } from './key-object.ts';
import type { KeyPlace } from './record.ts';
import type { KeyRegistryOptions, ManagedKey } from './registry.ts';

/** @param near where the key's object is to be, if it isn't anywhere yet. */
export function keyObject(
  objects: DurableObjectNamespace<ApiKey>,
  hash: string,
  near?: KeyPlace,
): KeyObject & ManagedKey {
  // Made for each use: a stub is good for the request that made it.
  const object = objects.getByName(hash, near === undefined ? {} : { locationHint: near });
  return {
    // Copies: what comes over RPC is to be disposed of.
    admit: async (lease, tokens) => structuredClone(await object.admit(lease, tokens)),
    look: async () => structuredClone(await object.look()),
    renew: async (lease) => object.renew(lease),
    settle: async (lease, tokens) => object.settle(lease, tokens),
    create: async (record) => object.create(record),
    revoke: async (at, by) => object.revoke(at, by),
  };
}

export function keyIndex(objects: DurableObjectNamespace<KeyIndex>): KeyRegistryOptions['index'] {
  const index = () => objects.getByName('keys');
  return {
    put: async (record) => index().put(record),
    find: async (id) => structuredClone(await index().find(id)),
    list: async () => structuredClone([...(await index().list())]),
  };
}
