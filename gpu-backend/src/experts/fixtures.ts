/**
 * Experts for tests that need no real ones.
 */
import type { Digest, ExpertVersion } from '@signpost/contracts';

export const digestOf = (name: number) => String(name).padStart(64, '0') as Digest;

export const versionOf = (name: number, bytes = 1): ExpertVersion => ({
  digest: digestOf(name),
  base: digestOf(0),
  key: `experts/${name}`,
  bytes,
  method: 'sign',
  published: '2026-01-01T00:00:00Z',
});
