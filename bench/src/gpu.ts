/**
 * The GPU's speed on the shapes of 1B, 3B and 8B models with random weights: decode as a share of the adapter's own copy bandwidth, prefill as a share of a
 * plain matmul's speed, what experts and choosing tokens cost, how fast an expert comes in, and what many steps leave behind.
 *
 * Run: `npm run bench:gpu -- [--shapes 1B,3B,8B,360M,tiny] [--layers N] [--weights bf16|q8|q4] [--steps N] [--prompt N] [--long N] [--allow-software-gpu]
 * [--shrink N] [--copy-mib N]`. `--layers` measures only so many of a model's layers, `--shrink` divides its widths (for adapters in software);
 * `--long 10000` runs so many steps instead of measuring, and counts what is created; `--only start` measures how long a model takes to load.
 */
import { parseArgs } from 'node:util';
import { type Gpu, openGpu } from '../../engine/src/device/webgpu/adapter.ts';
import { tuned } from '../../engine/src/device/webgpu/autotune.ts';
import { NOTHING_MEASURED } from '../../engine/src/device/webgpu/tuning.ts';
import { longRun } from './gpu/long-run.ts';
import { plainMatmulSpeed } from './gpu/plain-matmul.ts';
import { RandomModel, SHAPES } from './gpu/random-model.ts';
import { secondsOf } from './gpu/seconds.ts';

const { values: flags } = parseArgs({
  options: {
    shapes: { type: 'string', default: '1B,3B,8B' },
    layers: { type: 'string' },
    weights: { type: 'string', default: 'bf16' },
    steps: { type: 'string', default: '32' },
    prompt: { type: 'string', default: '256' },
    long: { type: 'string', default: '0' },
    shrink: { type: 'string', default: '1' },
    only: { type: 'string' },
    'copy-mib': { type: 'string', default: '512' },
    'allow-software-gpu': { type: 'boolean', default: false },
  },
});
const EXPERTS = 8;
const STEPS = Number(flags.steps);
const PROMPT = Number(flags.prompt);
const LONG_STEPS = Number(flags.long);
const COPIES = 8;
const STEPS_AT_ONCE = 4;

if (flags.only !== undefined && flags.only !== 'start') throw new Error(`--only ${flags.only} is not start`);
const weights = flags.weights;
if (weights !== 'bf16' && weights !== 'q8' && weights !== 'q4')
  throw new Error(`--weights ${weights} is none of bf16, q8, q4`);

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

/** Floating-point operations a second of the device's own matmul alone, on the model's gate and up. */
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

const shown = (value: number, digits = 3) => Number(value.toPrecision(digits));

const gpu = await openGpu({ software: flags['allow-software-gpu'] ? 'allowed' : 'refused' });
const bandwidth = await copyBandwidth(gpu, Number(flags['copy-mib']) * 2 ** 20);
console.log(JSON.stringify({ adapter: gpu.identity.name, features: gpu.features, copyGBs: shown(bandwidth / 1e9) }));
const measured =
  flags.only === 'start'
    ? NOTHING_MEASURED
    : await tuned(gpu, { formats: weights === 'q4' ? ['q4', 'q8'] : [weights] });
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
  const { loadSeconds, compileSeconds } = model.start;
  const weightMB = Math.round(model.device.paramBytes / 1e6);
  const start = { loadSeconds: shown(loadSeconds), compileSeconds: shown(compileSeconds) };
  console.log(JSON.stringify({ shape: name, layers: `${layers} of ${shape.layers}`, weights, weightMB, start }));
  if (flags.only === 'start') {
    await model.device.close();
    continue;
  }
  let expertBytes = 0;
  for (let slot = 0; slot < EXPERTS; slot++) expertBytes = await model.loadExpert(slot);
  if (LONG_STEPS > 0) {
    const run = { steps: LONG_STEPS, sequences: EXPERTS, prompt: PROMPT };
    await longRun(gpu, model, run, (line) => console.log(JSON.stringify({ shape: name, ...line })));
  } else console.log(JSON.stringify(await measure(name, model, layers, expertBytes)));
  await model.device.close();
}
gpu.close();

async function measure(name: string, model: RandomModel, layers: number, expertBytes: number): Promise<object> {
  const pageIn = await secondsOf(1, async () => {
    await model.loadExpert(0);
  });
  const prefill = await secondsOf(1, () => model.step(model.batch(1, PROMPT, 0, 'base')));
  const prefillExpert = await secondsOf(1, () => model.step(model.batch(1, PROMPT, 0, 'experts')));
  const decode = (sequences: number, experts: 'base' | 'experts') =>
    secondsOf(STEPS, (step) => model.step(model.batch(sequences, 1, PROMPT + step, experts)));
  const choose = (sequences: number, steps: number) =>
    secondsOf(STEPS / steps, (step) =>
      model.choose(model.batch(sequences, 1, PROMPT + step * steps, 'base'), { topK: 50, topP: 0.9 }, steps),
    );
  const [one, oneExpert] = [await decode(1, 'base'), await decode(1, 'experts')];
  const [eight, eightExperts] = [await decode(EXPERTS, 'base'), await decode(EXPERTS, 'experts')];
  const [chosen, chosenAtOnce] = [await choose(1, 1), await choose(1, STEPS_AT_ONCE)];
  const { hidden, ffn } = model.config;
  const plain = await plainMatmulSpeed(gpu, { rows: PROMPT, outs: ffn, columns: hidden });
  const own = await matmulSpeed(model);
  const flops = (model.flopsPerToken * PROMPT) / prefill;
  const read = (model.readBytes * STEPS) / one;
  return {
    shape: name,
    layers,
    hidden,
    ffn,
    decode: { tokensPerSecond: shown(STEPS / one), GBs: shown(read / 1e9), ofCopyBandwidth: shown(read / bandwidth) },
    prefill: {
      tokensPerSecond: shown(PROMPT / prefill),
      TFLOPs: shown(flops / 1e12),
      ofPlainMatmul: shown(flops / plain.flops),
      matmulOfPlain: shown(own / plain.flops),
      plain: { value: plain.value, TFLOPs: shown(plain.flops / 1e12) },
    },
    expert: {
      MB: shown(expertBytes / 1e6),
      pageInGBs: shown(expertBytes / pageIn / 1e9),
      decodeOfBase: shown(one / oneExpert),
      prefillOfBase: shown(prefill / prefillExpert),
      eightOfBase: shown(eight / eightExperts),
    },
    choosing: { ofReadingLogits: shown(one / chosen), fourAtOnceOfReadingLogits: shown(one / chosenAtOnce) },
  };
}
