/**
 * The demo experts, packed and published into the demo's own store.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openCheckpoint, openDelta } from '@signpost/engine';
import { createProgress, PACKER_VERSION, type Published, pack, publish } from '@signpost/packer';
import { openStore } from '@signpost/store';
import { DEMO_BASE, DEMO_EXPERTS, DEMO_STATE, demoExpertDir } from './paths.ts';

export interface DemoStore {
  readonly url: string;
  readonly experts: readonly Published[];
}

/** Packs what isn't packed yet (or was packed from other weights, or by another packer), and publishes it. */
export async function prepareDemoStore(state = DEMO_STATE): Promise<DemoStore> {
  const store = openStore(join(state, 'store'));
  const base = await openCheckpoint(DEMO_BASE);
  const experts: Published[] = [];
  for (const name of DEMO_EXPERTS) {
    const out = join(state, `${name}.delta.safetensors`);
    const tuned = await openCheckpoint(demoExpertDir(name));
    if (!(await isPacked(out, await base.digest(), await tuned.digest()))) {
      const progress = createProgress(`packing ${name}`);
      await pack(base, tuned, { name, out, scale: 'row', planes: 1, onProgress: progress.update });
      progress.stop();
    }
    experts.push(await publish(store, out, { name, baseName: 'signpost-demo' }));
  }
  return { url: store.url, experts };
}

async function isPacked(path: string, base: string, source: string): Promise<boolean> {
  if (!existsSync(path)) return false;
  const { metadata } = openDelta(new Uint8Array(await readFile(path)), path);
  return metadata.base === base && metadata.source === source && metadata.packer === PACKER_VERSION;
}
