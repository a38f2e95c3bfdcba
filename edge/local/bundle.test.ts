/**
 * What is uploaded to Cloudflare fits there.
 */
import { expect, it } from 'vitest';
import { buildWorker } from './build.ts';

const MIB = 2 ** 20;
/** Cloudflare takes 64 MiB before compression, and less means a faster start. */
const MAX_BYTES = 20 * MIB;

it('the Worker is at most 20 MiB, raw', async () => {
  const modules = await buildWorker();
  const sizes = modules.map(({ path, contents }) => ({
    path,
    bytes: typeof contents === 'string' ? Buffer.byteLength(contents) : contents.byteLength,
  }));
  const total = sizes.reduce((sum, { bytes }) => sum + bytes, 0);
  const parts = sizes.map(({ path, bytes }) => `${path.replace(/^[0-9a-f]+-/, '')} ${(bytes / MIB).toFixed(2)}`);
  console.log(`bundle: ${(total / MIB).toFixed(2)} MiB raw of ${MAX_BYTES / MIB} (${parts.join(', ')})`);
  expect(total).toBeLessThanOrEqual(MAX_BYTES);
});
