/**
 * How fast a cold expert comes in, beside a plain parallel download of the same object: on loopback and over the shaped link, and how true that is.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { SHAPE_360M } from '../random-checkpoint.ts';
import { ALL_CORES_BUT_ONE, complete, metric, startRegion } from '../server.ts';
import { freshPrompt, LINK, median, openStand, PARALLEL_READS, PlainDownload, type Stand, startLink } from './stand.ts';

const LINK_BYTES = 50e6;
const PINGS = 20;
/** Before anything is measured: the region copies its base onto huge pages, in the background. */
const SETTLING_MS = 5_000;
/** Before each measurement: what the one before left to do is done, such as memory made ready for the next file. */
const QUIET_MS = 500;

export async function measurePageIn(rounds: number): Promise<void> {
  const stand = await openStand(SHAPE_360M, rounds + 1);
  try {
    await round(stand, 'loopback');
    await checkLink();
    const unshape = await stand.shape();
    await round(stand, `${LINK.megabits} Mbit/s, ${LINK.roundTripMs} ms`);
    await unshape();
  } finally {
    await stand.close();
  }
}

async function round({ base, store, experts }: Stand, what: string): Promise<void> {
  const region = await startRegion(base, store, [...ALL_CORES_BUT_ONE, '--slots', '2']);
  const plain = new PlainDownload(store);
  const [loads, downloads]: [number[], number[]] = [[], []];
  try {
    await sleep(SETTLING_MS);
    for (const [i, version] of experts.entries()) {
      await sleep(QUIET_MS);
      const before = await metric(region, 'signpost_page_in_seconds_total').catch(() => 0);
      await complete(region, `expert-${i}`, freshPrompt(1), 1);
      const load = ((await metric(region, 'signpost_page_in_seconds_total')) - before) * 1e3;
      await sleep(QUIET_MS);
      const download = await plain.ms(version);
      // The first finds no connection open.
      if (i === 0) continue;
      loads.push(load);
      downloads.push(download);
    }
  } finally {
    await region.close();
  }
  const ratios = loads.map((load, i) => (downloads[i] ?? Number.NaN) / load);
  const rate = (ms: number) => `${((experts[0]?.bytes ?? 0) / 1e3 / ms).toFixed(1)} MB/s`;
  console.log(
    `${what}: page-in ${median(loads).toFixed(0)} ms (${rate(median(loads))}), plain download ${median(downloads).toFixed(0)} ms (${rate(median(downloads))}); page-in has ${(100 * median(ratios)).toFixed(0)} % of its rate (rounds: ${ratios.map((ratio) => (100 * ratio).toFixed(0)).join(' ')})`,
  );
}

/** What the link gives to bare TCP. */
async function checkLink(): Promise<void> {
  const server = createServer((socket) => {
    socket.setNoDelay(true);
    socket.on('data', (data) => {
      if (data.byteLength === 1) socket.write(data);
      else socket.end(Buffer.alloc(LINK_BYTES / PARALLEL_READS));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const link = await startLink((server.address() as AddressInfo).port);
  const dial = async () => {
    const socket = connect(link.port, '127.0.0.1').setNoDelay(true);
    await once(socket, 'connect');
    return socket;
  };
  const one = await dial();
  const pings: number[] = [];
  for (let i = 0; i < PINGS; i++) {
    const start = performance.now();
    one.write('1');
    await once(one, 'data');
    // The first opens the connection.
    if (i > 0) pings.push(performance.now() - start);
  }
  one.destroy();
  const sockets = await Promise.all(Array.from({ length: PARALLEL_READS }, dial));
  const start = performance.now();
  await Promise.all(
    sockets.map(async (socket) => {
      socket.resume().write('all of it');
      await once(socket, 'end');
      socket.destroy();
    }),
  );
  // The request opens the connection, and goes one way; the first byte comes the other.
  const seconds = (performance.now() - start - 2 * LINK.roundTripMs) / 1e3;
  await link.close();
  server.close();
  console.log(
    `the link: round trip ${median(pings).toFixed(1)} ms, ${((8 * LINK_BYTES) / 1e6 / seconds).toFixed(1)} Mbit/s over ${PARALLEL_READS} connections`,
  );
}
