/**
 * What paging costs, of random experts in an S3 server on this machine, also behind a link of 200 Mbit/s and a round trip of 50 ms.
 *
 * Run: `npx tsx bench/src/paging.ts page-in [--rounds N]`, `cold [--rounds N]`, `switch [--rounds N] [--peer DIR]`, `zipf [--charts DIR]`. The peer's DIR
 * (or SIGNPOST_PEER) is a folder in which `npm i node-llama-cpp@3.22` was run.
 */
import { parseArgs } from 'node:util';
import { measureCold } from './paging/cold.ts';
import { measurePageIn } from './paging/page-in.ts';
import { measureSwitch } from './paging/switch.ts';
import { measureZipf } from './paging/zipf.ts';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '5' },
    peer: { type: 'string' },
    charts: { type: 'string' },
  },
});
const rounds = Number(flags.rounds);
const benchmarks: Record<string, () => Promise<void>> = {
  'page-in': () => measurePageIn(rounds),
  cold: () => measureCold(rounds),
  switch: () => measureSwitch(rounds, flags.peer ?? process.env.SIGNPOST_PEER),
  zipf: () => measureZipf(flags.charts),
};
const benchmark = benchmarks[positionals[0] ?? ''];
if (benchmark === undefined) {
  console.error(`say what to measure: ${Object.keys(benchmarks).join(', ')}`);
  process.exit(1);
}
await benchmark();
