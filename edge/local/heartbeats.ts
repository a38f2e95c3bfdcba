/**
 * What regions say to an edge, for tests.
 */
import { randomUUID } from 'node:crypto';
import {
  type Digest,
  HEARTBEAT_AUDIENCE,
  HEARTBEAT_PATH,
  type Heartbeat,
  signingKey,
  signRequest,
} from '@signpost/contracts';

/** An idle region's, by a container of its own. */
export function heartbeatOf(region: string, more: Partial<Heartbeat> = {}): Heartbeat {
  return {
    region,
    replica: randomUUID(),
    sentAt: Date.now(),
    base: 'b'.repeat(64) as Digest,
    running: 0,
    waiting: 0,
    queuedTokens: 0,
    prefillTokensPerSecond: null,
    kvBlocks: 10,
    kvBlocksFree: 10,
    slots: 2,
    slotsFree: 2,
    experts: { device: [], host: [], loading: [] },
    pageInBytesPerSecond: { host: null, store: null },
    draining: false,
    ...more,
  };
}

/** Tells the edge at `url`. @param secret that it is signed with; not at all where left out */
export async function tellEdge(url: string, said: unknown, secret?: string): Promise<Response> {
  const body = JSON.stringify(said);
  const request = { region: HEARTBEAT_AUDIENCE, method: 'POST', path: HEARTBEAT_PATH, body };
  const headers =
    secret === undefined
      ? {}
      : { authorization: `Bearer ${await signRequest(signingKey(secret), request, { tenant: undefined })}` };
  return fetch(`${url}${HEARTBEAT_PATH}`, { method: 'POST', body, headers });
}
