/**
 * An edge with two regions, one of them next to the app: for tests of which is asked.
 */
import { type EdgeHandle, startEdge } from './edge.ts';
import { Upstream } from './upstream.ts';

export interface NearAndFar {
  readonly edge: EdgeHandle;
  readonly near: Upstream;
  readonly far: Upstream;
  close(): Promise<void>;
}

export async function startNearAndFar(): Promise<NearAndFar> {
  const [near, far] = await Promise.all([Upstream.start(), Upstream.start()]);
  const edge = await startEdge({
    regions: [
      { name: 'near', url: near.url, latitude: 50, longitude: 9 },
      { name: 'far', url: far.url, latitude: 50, longitude: 20 },
    ],
    place: { latitude: '50', longitude: '9' },
  });
  const close = async () => {
    await edge.close();
    await Promise.all([near.close(), far.close()]);
  };
  return { edge, near, far, close };
}
