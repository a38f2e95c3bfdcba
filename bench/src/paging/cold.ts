/**
 * How long the first token of a cold expert takes, beside its transfer and its prompt's prefill alone: what of the shorter the longer doesn't hide.
 */
import { SHAPE_360M } from '../random-checkpoint.ts';
import { ALL_CORES_BUT_ONE, complete, type Region, startRegion } from '../server.ts';
import { freshPrompt, LINK, median, openStand, PlainDownload, type Stand } from './stand.ts';

/** Prefill as a share of the transfer. */
const PREFILL_SHARES = [0.5, 1, 2];
const PROBE_TOKENS = 128;

export async function measureCold(rounds: number): Promise<void> {
  const stand = await openStand(SHAPE_360M, 2);
  try {
    await measure(stand, 'loopback', rounds);
    const unshape = await stand.shape();
    await measure(stand, `${LINK.megabits} Mbit/s, ${LINK.roundTripMs} ms`, rounds);
    await unshape();
  } finally {
    await stand.close();
  }
}

/** Milliseconds. */
interface Trial {
  readonly cold: number;
  readonly transfer: number;
  readonly prefill: number;
}

async function measure({ base, store, experts }: Stand, what: string, rounds: number): Promise<void> {
  // One expert in the slot and in memory: the other one is cold.
  const [a, b] = experts;
  if (a === undefined || b === undefined) throw new Error('two experts are needed');
  const region = await startRegion(base, store, [
    ...ALL_CORES_BUT_ONE,
    '--slots',
    '1',
    '--host-cache-bytes',
    String(a.bytes),
  ]);
  const plain = new PlainDownload(store);
  try {
    let turn = 0;
    const trial = async (tokens: number): Promise<Trial> => {
      const index = turn++ % 2;
      const cold = (await complete(region, `expert-${index}`, freshPrompt(tokens), 1)).firstTokenMs;
      const transfer = await plain.ms(index === 0 ? a : b);
      const prefill = await warm(region, `expert-${index}`, tokens);
      return { cold, transfer, prefill };
    };
    // Connections are open from here on.
    await trial(PROBE_TOKENS);
    const probe = await trial(PROBE_TOKENS);
    for (const share of PREFILL_SHARES) {
      const tokens = Math.max(1, Math.round((share * probe.transfer * PROBE_TOKENS) / probe.prefill));
      const trials: Trial[] = [];
      for (let round = 0; round < rounds; round++) trials.push(await trial(tokens));
      const unhidden = trials.map(
        ({ cold, transfer, prefill }) => (cold - Math.max(transfer, prefill)) / Math.min(transfer, prefill),
      );
      const ms = (name: keyof Trial) => `${median(trials.map((one) => one[name])).toFixed(0)} ms`;
      console.log(
        `${what}, ${tokens} tokens: transfer ${ms('transfer')}, prefill ${ms('prefill')}, first token of a cold expert ${ms('cold')}: the longer and ${(100 * median(unhidden)).toFixed(0)} % of the shorter (rounds: ${unhidden.map((one) => (100 * one).toFixed(0)).join(' ')})`,
      );
    }
  } finally {
    await region.close();
  }
}

async function warm(region: Region, expert: string, tokens: number): Promise<number> {
  return (await complete(region, expert, freshPrompt(tokens), 1)).firstTokenMs;
}
