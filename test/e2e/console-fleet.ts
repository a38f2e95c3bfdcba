/**
 * What the console is looked at with: the real Worker before two real regions, each a process that can be killed.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CATALOGUE_KEY } from '@signpost/contracts';
import { freePort, prepareDemoStore } from '@signpost/demo';
import { buildWorker, type EdgeHandle, startEdge } from '@signpost/edge';
import { openStore } from '@signpost/store';
import { DEMO_BASE } from '../chaos/family.ts';
import { Region } from '../chaos/region.ts';

export const OPERATOR_KEY = 'an-operator-who-looks-at-the-console';
/** The first is the nearer. */
export const REGIONS = [
  { name: 'frankfurt', latitude: 50, longitude: 9 },
  { name: 'virginia', latitude: 39, longitude: -78 },
] as const;
const STANDS = { latitude: '52', longitude: '13', continent: 'EU', country: 'DE', colo: 'TXL' };

export interface ConsoleFleet {
  readonly edge: EdgeHandle;
  readonly regions: readonly Region[];
  close(): Promise<void>;
}

export async function startConsoleFleet(): Promise<ConsoleFleet> {
  const state = await mkdtemp(join(tmpdir(), 'signpost-console-'));
  const [{ url: store }] = await Promise.all([prepareDemoStore(state), buildWorker()]);
  // Each has to know the other's address.
  const port = await freePort();
  const regions = REGIONS.map(({ name }) => {
    const flags = ['--base', DEMO_BASE, '--store', store, '--region', name, '--threads', '1', '--slots', '2'];
    return new Region([...flags, '--edge', `http://127.0.0.1:${port}`], {});
  });
  const close = async (edge?: EdgeHandle) => {
    await edge?.close();
    await Promise.all(regions.map((region) => region.stop('SIGKILL')));
    await rm(state, { recursive: true, force: true });
  };
  try {
    await Promise.all(regions.map((region) => region.start()));
    const edge = await startEdge({
      port,
      regions: REGIONS.map((region, i) => ({ ...region, url: regions[i]?.url ?? '' })),
      artifacts: { [CATALOGUE_KEY]: (await openStore(store).read(CATALOGUE_KEY)).data },
      adminKeys: { [OPERATOR_KEY]: 'ada' },
      // The playground is everybody's here.
      variables: { ALLOW_ANONYMOUS: 'true' },
      place: STANDS,
    });
    return { edge, regions, close: () => close(edge) };
  } catch (error) {
    await close();
    throw error;
  }
}
