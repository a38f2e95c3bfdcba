/**
 * What paging costs, of random experts in an S3 server on this machine, also behind a link of 200 Mbit/s and a round trip of 50 ms.
 *
 * Run: `npx tsx bench/src/paging.ts page-in|cold [--rounds N]`.
 */
import { parseArgs } from 'node:util';
import { measureCold } from './paging/cold.ts';
import { measurePageIn } from './paging/page-in.ts';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: 'string', default: '5' } },
});
const rounds = Number(flags.rounds);
const benchmarks: Record<string, () => Promise<void>> = {
  'page-in': () => measurePageIn(rounds),
  cold: () => measureCold(rounds),
};
const benchmark = benchmarks[positionals[0] ?? ''];
if (benchmark === undefined) {
  console.error(`say what to measure: ${Object.keys(benchmarks).join(', ')}`);
  process.exit(1);
}
await benchmark();
