/**
 * Choosing tokens where their logits are, beside reading the logits back and choosing on the host: by vocabulary, rows and way of sampling. Ratios above 1
 * mean that the GPU is faster. Run: `npx tsx bench/src/gpu-sampling.ts`; `--allow-software-gpu` takes an adapter that computes on the CPU, too.
 *
 * Both ways take turns within a round; medians over rounds are printed.
 */
import { parseArgs } from 'node:util';
import { Sampler, type SamplingParams, SamplingScratch, samplingParams } from '@signpost/engine';
import { openGpu } from '../../engine/src/device/webgpu/adapter.ts';
import { Downloads, UnderWay, USAGE } from '../../engine/src/device/webgpu/buffers.ts';
import { DeviceSampler } from '../../engine/src/device/webgpu/sampling/device-sampler.ts';
import { Shaders } from '../../engine/src/device/webgpu/shader.ts';
import { median } from './percentiles.ts';

const { values } = parseArgs({
  options: { 'allow-software-gpu': { type: 'boolean', default: false }, rounds: { type: 'string', default: '15' } },
});
const ROUNDS = Number(values.rounds);
const VOCABULARIES = [32_000, 128_256];
const ROWS = [1, 8];
const CASES: Readonly<Record<string, Partial<SamplingParams>>> = {
  greedy: { temperature: 0 },
  'temperature 1': {},
  'top_k 50, top_p 0.9': { topK: 50, topP: 0.9 },
  'all penalties': { repetitionPenalty: 1.1, presencePenalty: 0.5, frequencyPenalty: 0.5, topP: 0.9 },
};

/** As a trained model's: most tokens far below the few that fit. Box and Muller's normal, with a heavy upper tail. */
function logitsOf(size: number): Float32Array {
  return Float32Array.from({ length: size }, () => {
    const normal = Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
    return 2.5 * normal + (Math.random() < 0.001 ? 8 : 0);
  });
}

const gpu = await openGpu({ software: values['allow-software-gpu'] ? 'allowed' : 'refused' });
const { device } = gpu;
const reduce = gpu.features.subgroups === undefined ? 'workgroup' : 'subgroups';
const downloads = new Downloads(gpu, new UnderWay());
const step = device.createBuffer({ size: 1024, usage: USAGE.storage });
console.log(`${gpu.identity.name}\n`);
for (const [id, [vocab, capacity]] of VOCABULARIES.flatMap((size) =>
  ROWS.map((rows) => [size, rows] as const),
).entries()) {
  const stride = Math.ceil(vocab / 32) * 32;
  const buffer = device.createBuffer({
    size: capacity * stride * 4,
    usage: USAGE.storage | USAGE.copySource | USAGE.copyTarget,
  });
  const x = { id, buffer, cols: vocab, stride, capacity };
  for (let row = 0; row < capacity; row++) device.queue.writeBuffer(buffer, row * stride * 4, logitsOf(vocab));
  const sampler = new DeviceSampler(gpu, Shaders.of(gpu, { reduce, kv: 'f32' }), step);
  const scratch = new SamplingScratch(vocab);
  const context = { prompt: Array.from({ length: 200 }, (_, i) => i * 7), generated: [], stopIds: [] };
  for (const [name, params] of Object.entries(CASES)) {
    const samplers = Array.from(
      { length: capacity },
      (_, seed) => new Sampler(samplingParams({ ...params, seed }), scratch, context),
    );
    const onGpu = async () => {
      const run = sampler.begin(
        x,
        samplers.flatMap((one) => one.choice(undefined) ?? []),
        1,
      );
      const encoder = device.createCommandEncoder();
      run.encode(encoder);
      device.queue.submit([encoder.finish()]);
      await run.read(downloads);
    };
    const onHost = async () => {
      await downloads.read(buffer, capacity * stride * 4, (read) => {
        const logits = read.slice();
        for (const [row, one] of samplers.entries()) one.next(logits.subarray(row * stride, row * stride + vocab));
      });
    };
    const ms: { gpu: number[]; host: number[] } = { gpu: [], host: [] };
    // The first round makes what the others use.
    for (let round = 0; round <= ROUNDS; round++) {
      for (const [way, run] of [
        ['gpu', onGpu],
        ['host', onHost],
      ] as const) {
        const started = performance.now();
        await run();
        if (round > 0) ms[way].push(performance.now() - started);
      }
    }
    const [there, here] = [median(ms.gpu), median(ms.host)];
    console.log(
      `${String(vocab).padStart(7)} tokens, ${capacity} rows, ${name.padEnd(20)} ${there.toFixed(2)} ms on the GPU, ${here.toFixed(2)} ms read back: ${(here / there).toFixed(2)}×`,
    );
  }
  sampler.close();
  buffer.destroy();
}
gpu.close();
