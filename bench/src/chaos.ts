/**
 * What a region's death adds to streams: three real regions behind the Worker, 64 greedy streams, and the nearest region killed (SIGKILL) in the midst of them;
 * beside the same streams undisturbed, by turns, in the same run.
 * Run: `npx tsx bench/src/chaos.ts [--rounds N] [--all-in-nearest]`.
 *
 * A stream's own two runs are held against each other, of those that the region's death interrupts. Prompts are new in each round, and the nearest region's process is
 * new in each run: none is in a prefix cache, there or where it goes on. All regions have their experts in slots, are 80 ms further away than the one before, and send
 * their heartbeats, by which the edge spreads the streams. With `--all-in-nearest` that one is said to compute prompts in no time, so that all streams begin in the
 * region that dies. All three compute on this machine's cores.
 */
import { parseArgs } from 'node:util';
import { breakAll, Fleet, NAMES } from '../../test/chaos/fleet.ts';
import { MODELS, STREAMS, type Streamed } from '../../test/chaos/streams.ts';
import { percentile } from './percentiles.ts';

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '3' }, 'all-in-nearest': { type: 'boolean', default: false } },
});
const ROUNDS = Number(values.rounds);

interface Pair {
  readonly undisturbed: Streamed;
  readonly killed: Streamed;
}

function line(what: string, ms: readonly number[]): string {
  const column = (share: number) => `${percentile(ms, share).toFixed(0)} ms`.padStart(10);
  return `  ${what.padEnd(14)}${column(0.5)}${column(0.95)}${column(1)}`;
}

function print(what: string, pairs: readonly Pair[], of: (streamed: Streamed) => number): void {
  console.log(`${what.padEnd(16)}${['p50', 'p95', 'most'].map((name) => name.padStart(10)).join('')}`);
  console.log(
    line(
      'undisturbed',
      pairs.map(({ undisturbed }) => of(undisturbed)),
    ),
  );
  console.log(
    line(
      'killed',
      pairs.map(({ killed }) => of(killed)),
    ),
  );
  console.log(
    line(
      'added',
      pairs.map(({ undisturbed, killed }) => of(killed) - of(undisturbed)),
    ),
  );
}

const fleet = await Fleet.start();
/** Its experts in slots, its code run. */
async function warmUp(): Promise<void> {
  await fleet.untilNearestIsAsked();
  await Promise.all(MODELS.map((_, i) => fleet.stream(i)));
  if (values['all-in-nearest']) await fleet.drawToNearest();
}
try {
  // What it says itself would be the truth.
  if (values['all-in-nearest']) fleet.at(0).beats.intercept = breakAll;
  const all: Pair[] = [];
  let resumed = 0;
  // Those that all regions warm up with are none that are measured.
  await fleet.streamManyWhileNearestDies();
  for (let round = 1; round <= ROUNDS; round++) {
    const from = round * STREAMS;
    await warmUp();
    const undisturbed = await fleet.streamMany({ from });
    await fleet.at(0).region.stop('SIGKILL');
    await fleet.at(0).region.start();
    await warmUp();
    const before = fleet.resumed;
    const killed = await fleet.streamManyWhileNearestDies({ from });
    resumed += fleet.resumed - before;
    all.push(
      ...undisturbed.flatMap((one, i) => killed.slice(i, i + 1).map((two) => ({ undisturbed: one, killed: two }))),
    );
  }
  const broken = all.filter(({ killed }) => !killed.hasEnded).length;
  const altered = all.filter(({ undisturbed, killed }) => killed.text !== undisturbed.text).length;
  const pairs = all.filter(({ killed }) => killed.region === NAMES[0]);
  console.log(
    `${ROUNDS} times ${STREAMS} streams, ${resumed} gone on with elsewhere: ${broken} broken, ${altered} altered`,
  );
  if (broken > 0 || altered > 0 || all.length < ROUNDS * STREAMS) process.exitCode = 1;
  print('first event', pairs, ({ firstMs }) => firstMs);
  print('longest gap', pairs, ({ longestGapMs }) => longestGapMs);
  print('whole answer', pairs, ({ totalMs }) => totalMs);
} finally {
  await fleet.close();
}
