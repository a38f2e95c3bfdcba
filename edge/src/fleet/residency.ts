/**
 * Where one container has an expert, as it last said.
 */
import type { HeardBeat } from './roll.ts';

/** In a device slot, on its way into one, in memory, or nowhere nearer than the store. */
export type Residency = 'device' | 'loading' | 'host' | 'store';

/** Digests by where they are: a heartbeat's, or what the console is told of one. */
interface Container {
  readonly experts: Readonly<Record<'device' | 'loading' | 'host', readonly string[]>>;
}

export function residencyOf({ experts }: Container, digest: string): Residency {
  if (experts.device.includes(digest)) return 'device';
  if (experts.loading.includes(digest)) return 'loading';
  return experts.host.includes(digest) ? 'host' : 'store';
}

/** Of each of a region's containers; none where nothing was heard of it. */
export function residenciesIn(beats: readonly HeardBeat[], region: string, digest: string): Residency[] {
  return beats.filter(({ beat }) => beat.region === region).map(({ beat }) => residencyOf(beat, digest));
}
