/**
 * A model of a known shape with random weights and experts, on the GPU, without a checkpoint on disk: what a step costs doesn't depend on the values.
 */
import type { ModelConfig } from '../../../engine/src/checkpoint/config.ts';
import type { ParamDelta, StepBatch } from '../../../engine/src/device/device.ts';
import type { Gpu } from '../../../engine/src/device/webgpu/adapter.ts';
import type { WebGpuActivations } from '../../../engine/src/device/webgpu/ops.ts';
import { matrixBytes, matrixFormat } from '../../../engine/src/device/webgpu/pack.ts';
import type { Measured } from '../../../engine/src/device/webgpu/tuning.ts';
import { WebGpuDevice } from '../../../engine/src/device/webgpu/webgpu-device.ts';
import {
  createWorkspace,
  forward,
  groupsOf,
  type Workspace,
  workspaceShapes,
} from '../../../engine/src/model/forward.ts';
import {
  type ModelParams,
  modelParams,
  paramFormat,
  sectionsOf,
  type WeightFormat,
} from '../../../engine/src/model/params.ts';
import { ropeTable } from '../../../engine/src/model/rope.ts';
import { type SamplingParams, samplingParams } from '../../../engine/src/sampling/params.ts';

const BLOCK_TOKENS = 16;

interface Sizes {
  readonly hidden: number;
  readonly ffn: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocabSize: number;
  readonly tiedHead: boolean;
}

/** Llama 3.2 1B and 3B, Llama 3.1 8B; SmolLM2 360M; and one for many steps on a GPU in software. */
export const SHAPES = {
  '360M': {
    hidden: 960,
    ffn: 2560,
    layers: 32,
    heads: 15,
    kvHeads: 5,
    headDim: 64,
    vocabSize: 49_152,
    tiedHead: true,
  },
  tiny: { hidden: 64, ffn: 128, layers: 2, heads: 4, kvHeads: 2, headDim: 16, vocabSize: 512, tiedHead: true },
  '1B': { hidden: 2048, ffn: 8192, layers: 16, heads: 32, kvHeads: 8, headDim: 64, vocabSize: 128_256, tiedHead: true },
  '3B': {
    hidden: 3072,
    ffn: 8192,
    layers: 28,
    heads: 24,
    kvHeads: 8,
    headDim: 128,
    vocabSize: 128_256,
    tiedHead: true,
  },
  '8B': {
    hidden: 4096,
    ffn: 14_336,
    layers: 32,
    heads: 32,
    kvHeads: 8,
    headDim: 128,
    vocabSize: 128_256,
    tiedHead: false,
  },
} as const satisfies Record<string, Sizes>;

export interface RandomModelOptions {
  readonly layers: number;
  /** Divides hidden, ffn, heads and vocabulary, for adapters in software. */
  readonly shrink: number;
  readonly weights: WeightFormat;
  readonly slots: number;
  readonly rows: number;
  readonly sequences: number;
  readonly positions: number;
  readonly measured: Measured;
}

export class RandomModel {
  readonly config: ModelConfig;
  readonly device: WebGpuDevice;
  readonly params: ModelParams;
  readonly #space: Workspace<WebGpuActivations>;
  readonly #rope: ReturnType<typeof ropeTable>;
  readonly #blocks: number;
  readonly #weights: WeightFormat;
  #start = { loadSeconds: 0, compileSeconds: 0 };

  private constructor(config: ModelConfig, params: ModelParams, device: WebGpuDevice, options: RandomModelOptions) {
    this.config = config;
    this.params = params;
    this.device = device;
    this.#rope = ropeTable(config, config.maxPositions);
    this.#space = createWorkspace(device, config, options.rows, options.sequences);
    this.#weights = options.weights;
    this.#blocks = Math.ceil(options.positions / BLOCK_TOKENS);
  }

  static async open(gpu: Gpu, shape: Sizes, options: RandomModelOptions): Promise<RandomModel> {
    const config = configOf(shape, options);
    const params = modelParams(config);
    const storage = params.specs.map((spec) => ({
      dtype: 'BF16' as const,
      format: paramFormat(spec, options.weights),
    }));
    const blocks = Math.ceil(options.positions / BLOCK_TOKENS) * options.sequences;
    const { layers, kvHeads, headDim } = config;
    const kv = { layers, blocks, blockTokens: BLOCK_TOKENS, kvHeads, headDim };
    const shapes = workspaceShapes(config, options.rows, options.sequences);
    const device = await WebGpuDevice.open(
      { ...gpu, close() {} },
      { params: params.specs, slots: options.slots, kv },
      {
        storage,
        groups: params.layers.flatMap(groupsOf),
        sections: sectionsOf(params),
        rows: options.rows,
        heads: config.heads,
        measured: options.measured,
        scratch: {
          activations: Object.values(shapes),
          logits: shapes.logits,
          positions: config.maxPositions,
        },
      },
    );
    const largest = Math.max(...params.specs.map(({ shape: [out, inDim = 1] }) => out * inDim));
    const values = randomBrains(largest);
    const begun = performance.now();
    for (const [param, { shape: dims }] of params.specs.entries()) {
      const [out, inDim = 1] = dims;
      const data = new Uint8Array(values.buffer, 0, out * inDim * 2);
      device.loadParam(param, 'BF16', data, dims.length === 1 ? 'stored' : (storage[param]?.format ?? 'stored'));
      await device.loaded();
    }
    const loaded = performance.now();
    const model = new RandomModel(config, params, device, options);
    await model.#forward(model.batch(1, 1, 0, 'base'), (logits) => device.warmUp(logits));
    model.#start = { loadSeconds: (loaded - begun) / 1e3, compileSeconds: (performance.now() - loaded) / 1e3 };
    return model;
  }

  /** What it took to bring the base to the device, packed as it is held there, and to compile its kernels. */
  get start(): { readonly loadSeconds: number; readonly compileSeconds: number } {
    return this.#start;
  }

  /** One plane of every matrix of the layers into a slot. Gives its bytes. */
  async loadExpert(slot: number): Promise<number> {
    let bytes = 0;
    for (const layer of this.params.layers) {
      for (const param of groupsOf(layer).flat()) {
        const [out = 0, inDim = 0] = this.params.specs[param]?.shape ?? [];
        const delta = planeOf(out, inDim);
        bytes += delta.planes.reduce((sum, { signs, rowScale }) => sum + signs.byteLength + rowScale.byteLength, 0);
        this.device.loadDelta(slot, param, delta);
        await this.device.loaded();
      }
    }
    return bytes;
  }

  /** `rows` of each sequence from `past` on, sequence s under the expert in slot s, or all on the base. */
  batch(sequences: number, rows: number, past: number, experts: 'base' | 'experts'): StepBatch {
    const total = sequences * rows;
    const terms = experts === 'base' ? 0 : total;
    return {
      tokens: Int32Array.from({ length: total }, (_, i) => (i * 7 + past) % this.config.vocabSize),
      positions: Int32Array.from({ length: total }, (_, i) => past + (i % rows)),
      sequenceStart: Int32Array.from({ length: sequences + 1 }, (_, s) => s * rows),
      blockTable: Int32Array.from({ length: sequences * this.#blocks }, (_, block) => block),
      blocksPerSequence: this.#blocks,
      mixtureStart: Int32Array.from({ length: total + 1 }, (_, row) => Math.min(row, terms)),
      mixtureSlots: Int32Array.from({ length: terms }, (_, row) => Math.floor(row / rows)),
      mixtureWeights: new Float32Array(terms).fill(1),
      logitRows: Int32Array.from({ length: sequences }, (_, s) => (s + 1) * rows - 1),
    };
  }

  /** Up to its logits, read back. */
  async step(batch: StepBatch): Promise<void> {
    await this.#forward(batch, (logits) => this.device.read(logits));
  }

  /** Up to the tokens that are chosen of its logits, those of `steps` steps. */
  async choose(batch: StepBatch, params: Partial<SamplingParams>, steps: number): Promise<void> {
    const choice = { params: samplingParams({ seed: 1, ...params }), place: 0, edits: [], alternatives: undefined };
    const choices = Array.from(batch.logitRows, () => choice);
    await this.#forward({ ...batch, ahead: steps - 1 }, (logits) => this.device.choose(logits, choices, steps));
  }

  async #forward<T>(batch: StepBatch, take: (logits: WebGpuActivations) => Promise<T>): Promise<void> {
    await forward(this.device, this.config, this.params, this.#rope, [{ batch, space: this.#space }], take);
  }

  /** Bytes of matrices that a decode step reads: all but the embedding's, of which it reads a row, unless it is the head. */
  get readBytes(): number {
    const skipped = this.params.head === this.params.embedding ? undefined : this.params.embedding;
    return this.#sum(({ bytes }, param) => (param === skipped ? 0 : bytes));
  }

  /** Floating-point operations of a prompt's token in the layers' matrices. */
  get flopsPerToken(): number {
    const layers = new Set(this.params.layers.flatMap((layer) => groupsOf(layer).flat()));
    return this.#sum(({ values }, param) => (layers.has(param) ? 2 * values : 0));
  }

  #sum(of: (matrix: { readonly bytes: number; readonly values: number }, param: number) => number): number {
    return this.params.specs.reduce((sum, spec, param) => {
      const [out, inDim] = spec.shape;
      if (inDim === undefined) return sum;
      const format = matrixFormat({ dtype: 'BF16', format: paramFormat(spec, this.#weights) });
      return sum + of({ bytes: matrixBytes(out, inDim, format).bytes, values: out * inDim }, param);
    }, 0);
  }
}

function configOf(shape: Sizes, { layers, shrink, positions }: RandomModelOptions): ModelConfig {
  const part = (size: number) => Math.max(32, Math.floor(size / shrink / 32) * 32);
  const kvHeads = Math.max(1, Math.floor(shape.kvHeads / shrink));
  return {
    family: 'llama',
    ...shape,
    layers,
    hidden: part(shape.hidden),
    ffn: part(shape.ffn),
    vocabSize: part(shape.vocabSize),
    kvHeads,
    heads: (shape.heads / shape.kvHeads) * kvHeads,
    maxPositions: positions,
    rmsNormEps: 1e-5,
    ropeTheta: 500_000,
    ropeScaling: { kind: 'none' },
    slidingWindow: 0,
    qkvBias: false,
    outBias: false,
    mlpBias: false,
    qkNorm: false,
    eosIds: [],
  };
}

/** BF16 values around ±0.01 … 0.03, signs and mantissas at random. */
function randomBrains(count: number): Uint16Array {
  const values = new Uint16Array(count);
  let state = 1;
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    values[i] = ((state >>> 16) & 0x8000) | 0x3c00 | ((state >>> 20) & 0xff);
  }
  return values;
}

function planeOf(out: number, inDim: number): ParamDelta {
  const signs = Uint32Array.from({ length: out * Math.ceil(inDim / 32) }, (_, i) => Math.imul(i + 1, 0x9e3779b1));
  return { planes: [{ signs, rowScale: new Float32Array(out).fill(0.001) }] };
}
