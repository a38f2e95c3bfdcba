/**
 * What a request pays whose expert is in memory but in no slot, beside llama.cpp loading the full model of the same shape from the page cache.
 */
import type { ChildProcess } from 'node:child_process';
import { askPeer, type PeerAnswer, startPeer } from '../peer.ts';
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
      const peers: Record<string, PeerAnswer[]> = { mapped: [], 'read into memory': [] };
      for (let round = 0; round < rounds; round++) {
        const before = await metric(region, 'signpost_page_in_seconds_total');
        switched.push(await ask(round % 2));
        fills.push(1e3 * ((await metric(region, 'signpost_page_in_seconds_total')) - before));
        stayed.push(await ask(round % 2));
        if (peer === undefined) continue;
        for (const [how, answers] of Object.entries(peers)) {
          const useMmap = how === 'mapped';
          answers.push(await askPeer(peer, { model: 'bf16', kind: 'load', tokens: PROMPT_TOKENS, useMmap }));
        }
      }
      const cost = switched.map((ms, round) => ms - (stayed[round] ?? Number.NaN));
      console.log(
        `an expert in memory: first token of ${PROMPT_TOKENS} after ${median(switched).toFixed(0)} ms, ${median(stayed).toFixed(0)} ms where it is in its slot; switching costs ${median(cost).toFixed(0)} ms, filling the slot ${median(fills).toFixed(0)} ms`,
      );
      if (peer === undefined) return;
      for (const [how, answers] of Object.entries(peers)) {
        const of = (name: 'loadMs' | 'firstAnswerMs') => answers.map((answer) => answer[name]);
        const share = (name: 'loadMs' | 'firstAnswerMs', ours: readonly number[]) =>
          (median(of(name)) / median(ours)).toFixed(1);
        console.log(
          `llama.cpp, the model ${how}: loads in ${median(of('loadMs')).toFixed(0)} ms, its first answer is ${median(of('firstAnswerMs')).toFixed(0)} ms late; filling a slot takes 1/${share('loadMs', fills)} of its load, a switch 1/${share('firstAnswerMs', cost)} of its first answer's delay`,
        );
      }
    } finally {
      await region.close();
    }
  } finally {
    peer?.kill();
    await stand.close();
  }
}
