/**
 * Many steps of all kinds, and what they leave behind: what was created on the GPU since the device was warm, and how the process grew.
 */
import type { Gpu } from '../../../engine/src/device/webgpu/adapter.ts';
import type { SamplingParams } from '../../../engine/src/sampling/params.ts';
import type { RandomModel } from './random-model.ts';

const EVERY = 1000;
const MIB = 2 ** 20;

const WAYS: readonly Partial<SamplingParams>[] = [
  { temperature: 0 },
  { temperature: 1 },
  { topK: 40, topP: 0.9 },
  { temperature: 0.7, frequencyPenalty: 0.5 },
];

interface LongRun {
  readonly steps: number;
  /** Most of a step. */
  readonly sequences: number;
  readonly prompt: number;
}

/**
 * Prompts, answers of one and of many sequences, on the base and under experts; logits read back, and tokens chosen, one or several steps at once.
 *
 * @param tell takes a line every thousand steps.
 */
export async function longRun(gpu: Gpu, model: RandomModel, run: LongRun, tell: (line: object) => void): Promise<void> {
  const watch = watchCreations(gpu);
  let rss = process.memoryUsage().rss;
  for (let step = 0; step < run.steps; ) {
    const begun = performance.now();
    const goal = Math.min(run.steps, step + EVERY);
    while (step < goal) step += await someSteps(model, run, step);
    const now = process.memoryUsage();
    tell({
      steps: step,
      msPerStep: Number(((performance.now() - begun) / EVERY).toFixed(2)),
      rssMiB: Math.round(now.rss / MIB),
      rssGrowthMiB: Number(((now.rss - rss) / MIB).toFixed(1)),
      heapMiB: Math.round(now.heapUsed / MIB),
      created: { ...watch.counts },
    });
    rss = now.rss;
  }
  watch.end();
}

/** Gives how many. */
async function someSteps(model: RandomModel, { sequences, prompt }: LongRun, step: number): Promise<number> {
  const experts = step % 3 === 0 ? 'base' : 'experts';
  const count = [1, sequences, 3, sequences, 2][step % 5] ?? 1;
  const past = prompt + (step % 32);
  const params = WAYS[step % WAYS.length] ?? {};
  if (step % 50 === 0) await model.choose(model.batch(1, prompt, 0, experts), params, 1);
  else if (step % 10 === 1) await model.step(model.batch(count, 1, past, experts));
  else if (step % 10 < 6) await model.choose(model.batch(count, 1, past, experts), params, 1);
  else {
    await model.choose(model.batch(count, 1, past, experts), params, 4);
    return 4;
  }
  return 1;
}

/** Counts what is made on any device from now on. */
function watchCreations({ device }: Gpu): { readonly counts: Record<string, number>; end(): void } {
  const names = ['createBuffer', 'createBindGroup', 'createComputePipeline', 'createComputePipelineAsync'] as const;
  const prototype = Object.getPrototypeOf(device);
  const before = names.map((name) => prototype[name]);
  const counts: Record<string, number> = Object.fromEntries(names.map((name) => [name, 0]));
  for (const [i, name] of names.entries()) {
    prototype[name] = function (...args: unknown[]) {
      counts[name] = (counts[name] ?? 0) + 1;
      return before[i].apply(this, args);
    };
  }
  return {
    counts,
    end() {
      for (const [i, name] of names.entries()) prototype[name] = before[i];
    },
  };
}
