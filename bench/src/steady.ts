/**
 * Whether the engine's memory grows: 10,000 steps of mixed traffic on the demo model in its real thread, more experts than slots, mixtures, prompts that
 * begin alike, a cache too small for all, scored prompts, clients that leave. Run: `npx tsx bench/src/steady.ts`.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExpertVersion } from '@signpost/contracts';
import { openCheckpoint, samplingParams } from '@signpost/engine';
import { pack, publish } from '@signpost/packer';
import { openStore } from '@signpost/store';
import { EngineClient } from '../../gpu-backend/src/runner/engine-client.ts';
import type { StepStats } from '../../gpu-backend/src/runner/protocol.ts';

const STEPS = 10_000;
/** Growth counts from here: by then every buffer has had its largest step. */
const WARM_STEPS = 1_000;
const CLIENTS = 12;
const DEMO = join(import.meta.dirname, '../../models/demo');
const MIB = 2 ** 20;

let state = 1;
/** A seeded whole number below `n`. */
function draw(n: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % n;
}

async function publishExperts(dir: string, store: string): Promise<ExpertVersion[]> {
  const base = await openCheckpoint(join(DEMO, 'base'));
  const versions: ExpertVersion[] = [];
  for (const name of ['chat', 'math', 'code']) {
    const out = join(dir, `${name}.delta.safetensors`);
    await pack(base, await openCheckpoint(join(DEMO, 'experts', name)), { name, out, scale: 'row', planes: 1 });
    versions.push((await publish(openStore(store), out)).version);
  }
  return versions;
}

/** A client that asks again and again, until `isOver`. */
async function ask(engine: EngineClient, experts: readonly ExpertVersion[], isOver: () => boolean): Promise<void> {
  while (!isOver()) {
    const shared = Array.from({ length: 16 * draw(5) }, (_, i) => 300 + i);
    const own = Array.from({ length: 1 + draw(40) }, () => 300 + draw(3_000));
    const mixture = experts.filter(() => draw(3) === 0).slice(0, 2);
    const leavesAfter = draw(8) === 0 ? draw(20) : Number.POSITIVE_INFINITY;
    const request = {
      prompt: [...shared, ...own],
      generated: [],
      maxTokens: 1 + draw(60),
      tenant: `tenant-${draw(3)}`,
      timeoutMs: undefined,
      mixture: mixture.map((version) => ({ version, weight: 1 / (1 + draw(2)) })),
      sampling: samplingParams({ temperature: 0 }),
      stopIds: [],
      scoresPrompt: draw(10) === 0,
      logprobs: undefined,
    };
    let events = 0;
    for await (const _ of engine.generate(request, new AbortController().signal)) {
      if (events++ > leavesAfter) break;
    }
  }
}

const dir = await mkdtemp(join(tmpdir(), 'signpost-steady-'));
try {
  const store = join(dir, 'store');
  const experts = await publishExperts(dir, store);
  let steps = 0;
  const rss: number[] = [];
  const totals = { rows: 0, preemptions: 0, queries: 0, hits: 0 };
  const onStep = (step: StepStats) => {
    steps++;
    totals.rows += step.prefillTokens + step.decodeTokens;
    totals.preemptions += step.preemptions;
    totals.queries += step.prefixQueries;
    totals.hits += step.prefixHits;
    if (steps % 100 !== 0) return;
    rss.push(process.memoryUsage.rss() / MIB);
    if (steps % WARM_STEPS === 0)
      console.log(`step ${String(steps).padStart(6)}: ${rss.at(-1)?.toFixed(1)} MiB resident`);
  };
  const observer = { onStep, onToken() {}, onRequestEnd() {} };
  const engine = await EngineClient.start(
    {
      base: join(DEMO, 'base'),
      store,
      device: 'cpu',
      gpu: {},
      weights: 'bf16',
      slots: 2,
      hostCacheBytes: 2 ** 28,
      diskCache: undefined,
      kvTokens: 640,
      maxStepTokens: 64,
      maxSequences: 8,
      maxStepExperts: 2,
      decodeSteps: 1,
      blockTokens: 16,
    },
    { maxRequests: 2 * CLIENTS, maxQueuedTokens: 65_536, onDeath: (error) => console.error(error), observer },
  );
  const started = performance.now();
  await Promise.all(Array.from({ length: CLIENTS }, () => ask(engine, experts, () => steps >= STEPS)));
  const seconds = (performance.now() - started) / 1e3;
  await engine.close();
  const sample = (step: number) => rss[step / 100 - 1] ?? Number.NaN;
  const hits = ((100 * totals.hits) / totals.queries).toFixed(0);
  console.log(
    `${steps} steps in ${seconds.toFixed(0)} s: ${totals.rows} rows, ${totals.preemptions} preemptions, ${hits} % of prompt tokens from the prefix cache`,
  );
  const after = rss.slice(WARM_STEPS / 100);
  const range = `${Math.min(...after).toFixed(1)} to ${Math.max(...after).toFixed(1)} MiB`;
  const growth = (sample(STEPS) - sample(WARM_STEPS)).toFixed(1);
  console.log(
    `growth from step ${WARM_STEPS} to ${STEPS}: ${growth} MiB (in between, as garbage is collected: ${range})`,
  );
} finally {
  await rm(dir, { recursive: true, force: true });
}
