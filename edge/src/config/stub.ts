/**
 * The Durable Object of versions as the rest of the edge calls it.
 */
import type { ConfigKeeper } from '../admin/config-routes.ts';
import type { ConfigLog } from './config-object.ts';

export function configKeeper(objects: DurableObjectNamespace<ConfigLog>): ConfigKeeper {
  // Made for each use: a stub is good for the request that made it.
  const object = () => objects.getByName('config');
  return {
    // Copies: what comes over RPC is to be disposed of.
    current: async () => structuredClone(await object().current()),
    put: async (put) => structuredClone(await object().put(put)),
    list: async (limit) => structuredClone([...(await object().list(limit))]),
    byNumber: async (number) => structuredClone(await object().byNumber(number)),
  };
}
