/**
 * What a request pays whose expert is in memory but in no slot, beside llama.cpp loading the full model of the same shape from the page cache.
 */
import type { ChildProcess } from 'node:child_process';
import { askPeer, startPeer } from '../peer.ts';
import { SHAPE_360M } from '../random-checkpoint.ts';
import { complete, metric, startRegion } from '../server.ts';
import { freshPrompt, median, openStand } from './stand.ts';

const PROMPT_TOKENS = 16;

/** @param peerDir in which node-llama-cpp is installed; without it there are no figures of llama.cpp. */
export async function measureSwitch(rounds: number, peerDir: string | undefined): Promise<void> {
  const stand = await openStand(SHAPE_360M, 2);
  let peer: ChildProcess | undefined;
  try {
    if (peerDir !== undefined) peer = await startPeer(peerDir, stand.base, { bf16: 'BF16' });
    const region = await startRegion(stand.base, stand.store, ['--slots', '1']);
    try {
      const ask = async (expert: number) =>
        (await complete(region, `expert-${expert}`, freshPrompt(PROMPT_TOKENS), 1)).firstTokenMs;
      for (const expert of [0, 1]) await ask(expert);
      const [switched, stayed, fills]: [number[], number[], number[]] = [[], [], []];
      const [mapped, read]: [number[], number[]] = [[], []];
      for (let round = 0; round < rounds; round++) {
        const before = await metric(region, 'signpost_page_in_seconds_total');
        switched.push(await ask(round % 2));
        fills.push(1e3 * ((await metric(region, 'signpost_page_in_seconds_total')) - before));
        stayed.push(await ask(round % 2));
        if (peer === undefined) continue;
        const load = { model: 'bf16', kind: 'load' };
        mapped.push((await askPeer(peer, { ...load, useMmap: true })).loadMs);
        read.push((await askPeer(peer, { ...load, useMmap: false })).loadMs);
      }
      const cost = switched.map((ms, round) => ms - (stayed[round] ?? Number.NaN));
      console.log(
        `an expert in memory: first token of ${PROMPT_TOKENS} after ${median(switched).toFixed(0)} ms, ${median(stayed).toFixed(0)} ms where it is in its slot; switching costs ${median(cost).toFixed(0)} ms, filling the slot ${median(fills).toFixed(0)} ms`,
      );
      if (peer === undefined) return;
      const share = (loads: readonly number[]) => median(loads.map((ms, round) => ms / (cost[round] ?? Number.NaN)));
      console.log(
        `llama.cpp loads the model in ${median(mapped).toFixed(0)} ms mapped, ${median(read).toFixed(0)} ms read; switching costs 1/${share(mapped).toFixed(1)} and 1/${share(read).toFixed(1)} of that`,
      );
    } finally {
      await region.close();
    }
  } finally {
    peer?.kill();
    await stand.close();
  }
}
