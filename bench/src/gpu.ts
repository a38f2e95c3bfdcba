/**
 * The GPU's speed on the shapes of 1B, 3B and 8B models with random weights: decode as a share of the adapter's own copy bandwidth, prefill as a share of a
 * plain matmul's speed, what experts cost, how fast one comes in, and whether anything is created once steps repeat.
 *
 * Run: `npm run bench:gpu -- [--shapes 1B,3B,8B] [--layers N] [--weights bf16|q8|q4] [--steps N] [--prompt N] [--long N] [--allow-software-gpu] [--shrink N]`.
 * `--layers` measures only so many of a model's layers, `--shrink` divides its widths (for adapters in software); `--long 10000` is the run that counts
 * creations.
 */
import { parseArgs } from 'node:util';
import { type Gpu, openGpu } from '../../engine/src/device/webgpu/adapter.ts';
import { tuned } from '../../engine/src/device/webgpu/autotune.ts';
import { RandomModel, SHAPES } from './gpu/random-model.ts';
import { median } from './percentiles.ts';

const { values: flags } = parseArgs({
  options: {
    shapes: { type: 'string', default: '1B,3B,8B' },
    layers: { type: 'string' },
    weights: { type: 'string', default: 'bf16' },
    steps: { type: 'string', default: '32' },
    prompt: { type: 'string', default: '256' },
    long: { type: 'string', default: '0' },
    shrink: { type: 'string', default: '1' },
    'copy-mib': { type: 'string', default: '512' },
    'allow-software-gpu': { type: 'boolean', default: false },
  },
});
const EXPERTS = 8;
const STEPS = Number(flags.steps);
const PROMPT = Number(flags.prompt);
const LONG_STEPS = Number(flags.long);
/** Steps that are run first, and not counted. */
const WARM_STEPS = 2;
const COPIES = 8;
const ROUNDS = 3;

const weights = flags.weights;
if (weights !== 'bf16' && weights !== 'q8' && weights !== 'q4')
  throw new Error(`--weights ${weights} is none of bf16, q8, q4`);

/** Seconds that `steps` calls take, the median of some rounds. */
async function secondsOf(steps: number, one: (step: number) => Promise<void>): Promise<number> {
  for (let step = 0; step < WARM_STEPS; step++) await one(step);
  const rounds: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const start = performance.now();
    for (let step = 0; step < steps; step++) await one(step);
    rounds.push((performance.now() - start) / 1e3);
  }
  return median(rounds);
}

/** Bytes a second read and written by copies from one buffer to another. */
async function copyBandwidth({ device }: Gpu, bytes: number): Promise<number> {
  const size = Math.min(bytes, device.limits.maxBufferSize);
  const [from, to] = [0, 1].map(() => device.createBuffer({ size, usage: 4 | 8 }));
  if (from === undefined || to === undefined) throw new Error('no buffers');
  const seconds = await secondsOf(1, async () => {
    const encoder = device.createCommandEncoder();
    for (let i = 0; i < COPIES; i++) encoder.copyBufferToBuffer(from, 0, to, 0, size);
    device.queue.submit([encoder.finish()]);
    await device.queue.onSubmittedWorkDone();
  });
  for (const buffer of [from, to]) buffer.destroy();
  return (2 * size * COPIES) / seconds;
}

/** Floating-point operations a second of matmul alone, on the model's own gate and up. */
async function matmulSpeed(model: RandomModel): Promise<number> {
  const { device, config, params } = model;
  const [layer] = params.layers;
  if (layer === undefined) throw new Error('a model without layers');
  const x = device.activations(PROMPT, config.hidden);
  const [gate, up] = [device.activations(PROMPT, config.ffn), device.activations(PROMPT, config.ffn)];
  const repeats = 4;
  const seconds = await secondsOf(1, async () => {
    device.begin(model.batch(1, PROMPT, 0, 'base'));
    for (let i = 0; i < repeats; i++)
      device.linears(x, [
        { out: gate, param: layer.gate.weight },
        { out: up, param: layer.up.weight },
      ]);
    device.begin(model.batch(1, PROMPT, 0, 'base'));
    await device.loaded();
  });
  return (repeats * 2 * 2 * PROMPT * config.hidden * config.ffn) / seconds;
}

/** What is created on the GPU while `run` runs. */
async function creations({ device }: Gpu, run: () => Promise<void>): Promise<Record<string, number>> {
  const names = ['createBuffer', 'createBindGroup', 'createComputePipeline', 'createShaderModule'] as const;
  const prototype = Object.getPrototypeOf(device);
  const before = names.map((name) => prototype[name]);
  const counts: Record<string, number> = {};
  for (const [i, name] of names.entries()) {
    counts[name] = 0;
    prototype[name] = function (...args: unknown[]) {
      counts[name] = (counts[name] ?? 0) + 1;
      return before[i].apply(this, args);
    };
  }
  await run();
  for (const [i, name] of names.entries()) prototype[name] = before[i];
  return counts;
}

const shown = (value: number, digits = 3) => Number(value.toPrecision(digits));

const gpu = await openGpu({ software: flags['allow-software-gpu'] ? 'allowed' : 'refused' });
const bandwidth = await copyBandwidth(gpu, Number(flags['copy-mib']) * 2 ** 20);
console.log(JSON.stringify({ adapter: gpu.identity.name, features: gpu.features, copyGBs: shown(bandwidth / 1e9) }));
const measured = await tuned(gpu, { formats: weights === 'q4' ? ['q4', 'q8'] : [weights] });
console.log(JSON.stringify({ measured }));

for (const name of flags.shapes.split(',')) {
  const shape = SHAPES[name as keyof typeof SHAPES];
  if (shape === undefined) throw new Error(`--shapes ${name} is none of ${Object.keys(SHAPES).join(', ')}`);
  const layers = Math.min(shape.layers, Number(flags.layers ?? shape.layers));
  const model = await RandomModel.open(gpu, shape, {
    layers,
    shrink: Number(flags.shrink),
    weights,
    slots: EXPERTS,
    rows: Math.max(PROMPT, EXPERTS),
    sequences: EXPERTS,
    positions: PROMPT + STEPS + 64,
    measured,
  });
  const pageIn = await secondsOf(1, async () => {
    await model.loadExpert(0);
  });
  let expertBytes = 0;
  for (let slot = 0; slot < EXPERTS; slot++) expertBytes = await model.loadExpert(slot);
  const prefill = await secondsOf(1, () => model.step(model.batch(1, PROMPT, 0, 'base')));
  const prefillExpert = await secondsOf(1, () => model.step(model.batch(1, PROMPT, 0, 'experts')));
  const decode = (sequences: number, experts: 'base' | 'experts') =>
    secondsOf(STEPS, (step) => model.step(model.batch(sequences, 1, PROMPT + step, experts)));
  const [one, oneExpert] = [await decode(1, 'base'), await decode(1, 'experts')];
  const [eight, eightExperts] = [await decode(EXPERTS, 'base'), await decode(EXPERTS, 'experts')];
  const plain = await matmulSpeed(model);
  const flops = (model.flopsPerToken * PROMPT) / prefill;
  const read = (model.readBytes * STEPS) / one;
  console.log(
    JSON.stringify({
      shape: name,
      layers: `${layers} of ${shape.layers}`,
      weights,
      weightMB: Math.round(model.device.paramBytes / 1e6),
      decode: { tokensPerSecond: shown(STEPS / one), GBs: shown(read / 1e9), ofCopyBandwidth: shown(read / bandwidth) },
      prefill: {
        tokensPerSecond: shown(PROMPT / prefill),
        TFLOPs: shown(flops / 1e12),
        ofPlainMatmul: shown(flops / plain),
      },
      expert: {
        MB: shown(expertBytes / 1e6),
        pageInGBs: shown(expertBytes / pageIn / 1e9),
        decodeOfBase: shown(one / oneExpert),
        prefillOfBase: shown(prefill / prefillExpert),
        eightOfBase: shown(eight / eightExperts),
      },
    }),
  );
  if (LONG_STEPS > 0) {
    const created = await creations(gpu, async () => {
      for (let step = 0; step < LONG_STEPS; step++)
        await model.step(model.batch(step % 2 === 0 ? 1 : EXPERTS, 1, PROMPT + (step % STEPS), 'experts'));
    });
    console.log(JSON.stringify({ shape: name, steps: LONG_STEPS, created }));
  }
  await model.device.close();
}
gpu.close();
