/**
 * Whole steps on the GPU: joined ops against the reference's single ones, what a step costs in dispatches, and that nothing is created once each kind of
 * step has been seen.
 */
import { noise } from '@signpost/kernels/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ModelConfig } from '../../checkpoint/config.ts';
import { createWorkspace, forward, groupsOf, workspaceShapes } from '../../model/forward.ts';
import { modelParams, sectionsOf } from '../../model/params.ts';
import { ropeTable } from '../../model/rope.ts';
import { type SamplingParams, samplingParams } from '../../sampling/params.ts';
import type { Activations, Device, DeviceConfig, ParamDelta, StepBatch } from '../device.ts';
import { floatToBrain } from '../float.ts';
import { ReferenceDevice } from '../reference/reference-device.ts';
import { openTestGpu } from './testing.ts';
import { WebGpuDevice } from './webgpu-device.ts';

const gpu = await openTestGpu();
afterAll(() => gpu?.close());

const LAYERS = 2;
const CONFIG: ModelConfig = {
  family: 'qwen3',
  hidden: 64,
  ffn: 96,
  layers: LAYERS,
  heads: 4,
  kvHeads: 2,
  headDim: 16,
  vocabSize: 50,
  maxPositions: 64,
  rmsNormEps: 1e-5,
  ropeTheta: 10_000,
  ropeScaling: { kind: 'none' },
  slidingWindow: 0,
  tiedHead: false,
  qkvBias: true,
  outBias: true,
  mlpBias: true,
  qkNorm: true,
  eosIds: [],
};
const PARAMS = modelParams(CONFIG);
const ROPE = ropeTable(CONFIG, CONFIG.maxPositions);
const SLOTS = 3;
const ROWS = 48;
const BLOCK_TOKENS = 4;
const DEVICE: DeviceConfig = {
  params: PARAMS.specs,
  slots: SLOTS,
  kv: { layers: LAYERS, blocks: 200, blockTokens: BLOCK_TOKENS, kvHeads: CONFIG.kvHeads, headDim: CONFIG.headDim },
};

/** Every parameter random; slot 0 changes all of them, slot 1 matrices only, with scales of columns, slot 2 every second one. */
function fill(device: Device): void {
  const next = noise(7);
  const brains = (count: number) => Uint16Array.from({ length: count }, () => floatToBrain(next() * 0.3));
  for (const [param, { shape }] of PARAMS.specs.entries()) {
    const [out, inDim] = shape;
    device.loadParam(param, 'BF16', new Uint8Array(brains(out * (inDim ?? 1)).buffer), 'stored');
    const plane = (columns: number, isScaled: boolean) => ({
      signs: Uint32Array.from({ length: out * Math.ceil(columns / 32) }, () => next() * 2 ** 31),
      rowScale: Float32Array.from({ length: out }, () => next() * 0.1),
      ...(isScaled && { colScale: Float32Array.from({ length: columns }, next) }),
    });
    const deltas: ParamDelta[] =
      inDim === undefined
        ? [{ planes: [], exact: brains(out) }]
        : [{ planes: [plane(inDim, false)] }, { planes: [plane(inDim, true), plane(inDim, false)] }];
    for (const [slot, delta] of deltas.entries()) device.loadDelta(slot, param, delta);
    if (param % 2 === 0 && deltas[0] !== undefined) device.loadDelta(2, param, deltas[0]);
  }
}

interface Rows {
  readonly rows: number;
  readonly past: number;
  readonly terms: readonly (readonly [slot: number, weight: number])[];
}

/** @param seed of the tokens. */
function batchOf(sequences: readonly Rows[], logitRows: 'all' | 'last', seed = 3): StepBatch {
  const next = noise(seed);
  const flat = sequences.flatMap(({ rows, past, terms }) =>
    Array.from({ length: rows }, (_, i) => ({ position: past + i, terms })),
  );
  const starts = [0];
  for (const { rows } of sequences) starts.push((starts.at(-1) ?? 0) + rows);
  const mixtureStart = [0];
  for (const { terms } of flat) mixtureStart.push((mixtureStart.at(-1) ?? 0) + terms.length);
  const blocksPerSequence = CONFIG.maxPositions / BLOCK_TOKENS;
  return {
    tokens: Int32Array.from(flat, () => Math.floor((next() + 1) * 0.5 * CONFIG.vocabSize)),
    positions: Int32Array.from(flat, ({ position }) => position),
    sequenceStart: Int32Array.from(starts),
    blockTable: Int32Array.from({ length: sequences.length * blocksPerSequence }, (_, i) => (i * 7 + 3) % 200),
    blocksPerSequence,
    mixtureStart: Int32Array.from(mixtureStart),
    mixtureSlots: Int32Array.from(
      flat.flatMap(({ terms }) => terms),
      (_, i) => flat.flatMap(({ terms }) => terms)[i]?.[0] ?? -1,
    ),
    mixtureWeights: Float32Array.from(flat.flatMap(({ terms }) => terms.map(([, weight]) => weight))),
    logitRows: logitRows === 'all' ? Int32Array.from(flat.keys()) : Int32Array.from(starts.slice(1), (end) => end - 1),
  };
}

const one = (past: number, ...terms: Rows['terms']): Rows => ({ rows: 1, past, terms });

const STEPS: readonly (readonly [string, StepBatch])[] = [
  ['a prompt under one expert', batchOf([{ rows: 40, past: 0, terms: [[0, 1]] }], 'all')],
  [
    'two prompts under mixtures',
    batchOf(
      [20, 17].map((rows) => ({
        rows,
        past: 0,
        terms: [
          [1, 0.7],
          [2, 0.4],
        ],
      })),
      'last',
    ),
  ],
  ['one answer', batchOf([one(12, [0, 1])], 'last')],
  ['three answers of two experts and the base', batchOf([one(12, [0, 1]), one(5, [1, 1]), one(8)], 'last')],
  [
    'eight answers, some of mixtures',
    batchOf(
      [3, 4, 5, 6, 7, 8, 9, 10].map((past) => one(past, [past % 3, 1], [0, 0.2])),
      'last',
    ),
  ],
  [
    'more answers than one tile, all different',
    batchOf(
      Array.from({ length: 12 }, (_, i) => one(i, [i % 3, 0.5 + i / 10])),
      'last',
    ),
  ],
];

async function step<A extends Activations>(
  device: Device<A>,
  space: ReturnType<typeof createWorkspace<A>>,
  batch: StepBatch,
): Promise<Float32Array> {
  const logits = await forward(device, CONFIG, PARAMS, ROPE, [{ batch, space }], (x) => device.read(x));
  return logits ?? new Float32Array(0);
}

describe.skipIf(gpu === undefined)('a whole step on the GPU', () => {
  let device: WebGpuDevice;
  let space: ReturnType<typeof createWorkspace<ReturnType<WebGpuDevice['activations']>>>;
  beforeAll(async () => {
    if (gpu === undefined) return;
    const shapes = workspaceShapes(CONFIG, ROWS, ROWS);
    device = await WebGpuDevice.open({ ...gpu, close() {} }, DEVICE, {
      storage: PARAMS.specs.map(() => ({ dtype: 'BF16', format: 'stored' })),
      groups: PARAMS.layers.flatMap(groupsOf),
      sections: sectionsOf(PARAMS),
      rows: ROWS,
      heads: CONFIG.heads,
      kvFormat: 'f32',
      measured: { matvec: {}, matmul: { bf16: { kernel: 'matmul', outLanes: 8, rowLanes: 16, groups: 2 } } },
      scratch: {
        activations: Object.values(shapes),
        logits: shapes.logits,
        positions: CONFIG.maxPositions,
      },
    });
    fill(device);
    space = createWorkspace(device, CONFIG, ROWS, ROWS);
    const batch = batchOf([one(0)], 'last');
    await forward(device, CONFIG, PARAMS, ROPE, [{ batch, space }], (logits) => device.warmUp(logits));
  });
  afterAll(() => device?.close());

  it('gives the logits of the reference, for prompts and answers of experts, mixtures and the base', async () => {
    const reference = new ReferenceDevice(DEVICE);
    fill(reference);
    const plain = createWorkspace(reference, CONFIG, ROWS, ROWS);
    for (const [name, batch] of STEPS) {
      const [got, want] = [await step(device, space, batch), await step(reference, plain, batch)];
      expect(got.length, name).toBe(batch.logitRows.length * CONFIG.vocabSize);
      const worst = want.reduce((most, value, i) => Math.max(most, Math.abs(value - (got[i] ?? Number.NaN))), 0);
      expect(worst, name).toBeLessThan(1e-3);
    }
  }, 120_000);

  it('is one submit, one pass, and at most nine dispatches a layer, its logits read back or tokens chosen', async () => {
    const counts = { submits: 0, passes: 0, dispatches: 0 };
    const restore = await counting(counts);
    try {
      for (const [name, batch] of STEPS) {
        // Embedding, gather, norm and logits come once.
        const most = 9 * LAYERS + 4;
        Object.assign(counts, { submits: 0, passes: 0, dispatches: 0 });
        await step(device, space, batch);
        expect(counts, name).toMatchObject({ submits: 1, passes: 1 });
        expect(counts.dispatches, name).toBeLessThanOrEqual(most);
        for (const [params, dispatches] of WAYS) {
          Object.assign(counts, { submits: 0, passes: 0, dispatches: 0 });
          await choose(device, space, batch, params, 1);
          expect(counts, name).toMatchObject({ submits: 1, passes: 1 });
          expect(counts.dispatches, name).toBeLessThanOrEqual(most + dispatches);
        }
      }
      Object.assign(counts, { submits: 0, passes: 0, dispatches: 0 });
      const [, answers] = STEPS[3] ?? ['', batchOf([], 'last')];
      await choose(device, space, { ...answers, ahead: 3 }, { topK: 3 }, 4);
      expect(counts).toMatchObject({ submits: 4, passes: 4 });
    } finally {
      restore();
    }
  });

  it('creates no buffer, bind group or pipeline once the device is warm', async () => {
    const created: string[] = [];
    if (gpu === undefined) return;
    const restore = watchCreation(gpu.device, created);
    for (let i = 0; i < 40; i++) {
      const [, batch] = STEPS[i % STEPS.length] ?? ['', batchOf([], 'last')];
      const moved = batch.positions.map((position) => position + Math.floor(i / STEPS.length));
      if (i % 2 === 0) await step(device, space, { ...batch, positions: moved });
      else await choose(device, space, { ...batch, positions: moved }, WAYS[i % WAYS.length]?.[0] ?? {}, 1);
    }
    const seen = [...created];
    device.activations(1, 32);
    restore();
    expect(seen).toEqual([]);
    expect(created).toEqual(['createBuffer']);
  });
});

/** How tokens are chosen, and what that takes in dispatches. */
const WAYS: readonly (readonly [params: Partial<SamplingParams>, dispatches: number])[] = [
  [{ temperature: 0 }, 2],
  [{}, 3],
  [{ topK: 5, topP: 0.9, frequencyPenalty: 0.5 }, 4],
];

async function choose(
  device: WebGpuDevice,
  space: ReturnType<typeof createWorkspace<ReturnType<WebGpuDevice['activations']>>>,
  batch: StepBatch,
  params: Partial<SamplingParams>,
  steps: number,
): Promise<void> {
  const choice = { params: samplingParams({ seed: 1, ...params }), place: 0, edits: [], alternatives: 2 };
  const choices = Array.from(batch.logitRows, () => choice);
  await forward(device, CONFIG, PARAMS, ROPE, [{ batch, space }], (x) => device.choose(x, choices, steps));
}

/** Counts submits, passes and dispatches from now on, of all devices. */
async function counting(counts: { submits: number; passes: number; dispatches: number }): Promise<() => void> {
  const encoder = gpu?.device.createCommandEncoder();
  const pass = encoder?.beginComputePass();
  if (encoder === undefined || pass === undefined) throw new Error('there is no GPU');
  pass.end();
  encoder.finish();
  const [encoders, passes] = [Object.getPrototypeOf(encoder), Object.getPrototypeOf(pass)];
  const { beginComputePass } = encoders;
  const { dispatchWorkgroups } = passes;
  const queues = Object.getPrototypeOf(gpu?.device.queue);
  const { submit } = queues;
  queues.submit = function (...args: unknown[]) {
    counts.submits++;
    return submit.apply(this, args);
  };
  encoders.beginComputePass = function (...args: unknown[]) {
    counts.passes++;
    return beginComputePass.apply(this, args);
  };
  passes.dispatchWorkgroups = function (...args: unknown[]) {
    counts.dispatches++;
    return dispatchWorkgroups.apply(this, args);
  };
  return () => {
    encoders.beginComputePass = beginComputePass;
    passes.dispatchWorkgroups = dispatchWorkgroups;
    queues.submit = submit;
  };
}

/** Notes what is created from now on. */
function watchCreation(device: GPUDevice, created: string[]): () => void {
  const names = [
    'createBuffer',
    'createBindGroup',
    'createComputePipeline',
    'createComputePipelineAsync',
    'createShaderModule',
  ] as const;
  const prototype = Object.getPrototypeOf(device);
  const before = names.map((name) => prototype[name]);
  for (const [i, name] of names.entries())
    prototype[name] = function (...args: unknown[]) {
      created.push(name);
      return before[i].apply(this, args);
    };
  return () => {
    for (const [i, name] of names.entries()) prototype[name] = before[i];
  };
}
