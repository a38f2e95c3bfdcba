/**
 * Chooses rows' next tokens where their logits are: up to four dispatches a step, nothing read back but the tokens.
 *
 * Knows no plan and no model: whoever calls has the logits computed before each `encode`.
 */
import { type ChosenToken, MOST_ALTERNATIVES, MOST_STEPS, type TokenChoice } from '../../choice.ts';
import type { Gpu } from '../adapter.ts';
import { type Download, type Downloads, USAGE } from '../buffers.ts';
import type { WebGpuActivations } from '../ops.ts';
import { type ActivationShape, activationBytes, strideOf } from '../scratch.ts';
import type { Kernel, KernelName, Shaders, SpecialisedKernel } from '../shader.ts';
import { mostTableWords, needsCut, roomFor, tableWords, writeTable } from './row-table.ts';

/** Tokens that one workgroup goes through (shaders/sample.wgsl). */
const CHUNK = 2048;
/** Token, log-probability, and pairs of the alternatives'. */
const CHOSEN_WORDS = 2 + 2 * MOST_ALTERNATIVES;
const UNIFORM_BYTES = 16;
/** Lanes of a workgroup. What computes on the CPU has them take turns at every barrier. */
const LANES = { hardware: 256, software: 16 } as const;

/** Which kernels a run of steps needs. */
const KINDS = ['largest', 'drawn', 'cut'] as const;
type Kind = (typeof KINDS)[number];

interface Dispatch {
  readonly kernel: Kernel;
  readonly bindGroup: GPUBindGroup;
  /** Or one for each row. */
  readonly groups: 'chunks' | 'one';
}

/** Logits that tokens are chosen from, and how many tokens a row may have something done to. */
export interface SamplerShape {
  readonly logits: ActivationShape;
  /** Of all rows together. */
  readonly edits: number;
}

/** By binding: bytes of what belongs to logits of one shape. */
function placeBytes({ capacity, cols }: ActivationShape) {
  const chunks = Math.ceil(cols / CHUNK);
  return {
    params: UNIFORM_BYTES,
    adjusted: activationBytes({ capacity, cols }),
    peaks: capacity * chunks * 16,
    cuts: capacity * 8,
    draws: capacity * chunks * 8,
    chosen: chosenBytes(capacity),
  };
}

/** Of what is read back of the longest run. */
export function chosenBytes(capacity: number): number {
  return MOST_STEPS * capacity * CHOSEN_WORDS * 4;
}

/** Of everything that is made at the start. */
export function samplerBytes({ logits, edits }: SamplerShape): number {
  const ofPlace = Object.values(placeBytes(logits)).reduce((sum, bytes) => sum + bytes, 0);
  return ofPlace + mostTableWords(logits.capacity, edits) * 4;
}

/** What belongs to logits of one shape. */
class Place {
  readonly chosen: GPUBuffer;
  readonly chunks: number;
  /** By binding. */
  readonly buffers: ReadonlyMap<number, GPUBuffer>;
  readonly #shape: ActivationShape;

  constructor({ device }: Gpu, shape: ActivationShape) {
    this.#shape = shape;
    this.chunks = Math.ceil(shape.cols / CHUNK);
    const bytes = placeBytes(shape);
    const buffer = (label: string, size: number, usage: number = USAGE.storage) =>
      device.createBuffer({ label, size, usage });
    const params = buffer('sizes of sampling', bytes.params, USAGE.uniform | USAGE.copyTarget);
    device.queue.writeBuffer(params, 0, Uint32Array.of(shape.cols, strideOf(shape.cols), this.chunks, shape.capacity));
    this.chosen = buffer('tokens chosen', bytes.chosen, USAGE.storage | USAGE.copySource);
    this.buffers = new Map([
      [0, params],
      [3, buffer('adjusted logits', bytes.adjusted)],
      [4, buffer('peaks of logits', bytes.peaks)],
      [5, buffer('cuts of logits', bytes.cuts)],
      [6, buffer('draws', bytes.draws)],
      [7, this.chosen],
    ]);
  }

  isFor({ capacity, cols }: ActivationShape): boolean {
    return this.#shape.capacity === capacity && this.#shape.cols === cols;
  }

  close(): void {
    for (const buffer of this.buffers.values()) buffer.destroy();
  }
}

export class DeviceSampler {
  readonly #gpu: Gpu;
  readonly #shaders: Shaders;
  readonly #step: GPUBuffer;
  readonly #lanes: number;
  /** By kernel and its constants, for the logits, place and table that they were made for. */
  readonly #dispatches = new Map<string, Dispatch>();
  #logits: WebGpuActivations | undefined;
  #place: Place | undefined;
  #table: GPUBuffer | undefined;
  #words = new Uint32Array(0);

  /**
   * @param step what tokens and positions of a step are in (../step.ts).
   * @param shape what to make buffers for now; where it is left out, they are made with the first run.
   * @param lanes of a workgroup, a power of two.
   */
  constructor(
    gpu: Gpu,
    shaders: Shaders,
    step: GPUBuffer,
    shape?: SamplerShape,
    lanes: number = LANES[gpu.identity.isSoftware ? 'software' : 'hardware'],
  ) {
    this.#gpu = gpu;
    this.#shaders = shaders;
    this.#step = step;
    this.#lanes = lanes;
    if (shape === undefined) return;
    this.#place = new Place(gpu, shape.logits);
    this.#makeTable(mostTableWords(shape.logits.capacity, shape.edits));
  }

  /** All that any run needs. */
  get kernels(): readonly SpecialisedKernel[] {
    const runs = KINDS.flatMap((kind) => [true, false].map((isFollowed) => this.#kernelsOf(kind, isFollowed)));
    return runs.flat().map(({ kernel }) => kernel);
  }

  /** Makes what runs over these logits bind, where it isn't there. */
  prepare(x: WebGpuActivations): void {
    this.#turnTo(x);
    for (const kind of KINDS) for (const isFollowed of [true, false]) this.#dispatchesOf(kind, isFollowed);
  }

  /** Takes in how rows' tokens are to be chosen in the next `steps`. @throws RangeError for more than there is room for. */
  begin(x: WebGpuActivations, rows: readonly TokenChoice[], steps: number): SamplerRun {
    if (rows.length > x.capacity) throw new RangeError(`${rows.length} rows, there are logits for ${x.capacity}`);
    if (steps > MOST_STEPS) throw new RangeError(`${steps} steps at once, there is room for ${MOST_STEPS}`);
    const place = this.#turnTo(x);
    const count = tableWords(rows, steps);
    if (this.#table === undefined || count > this.#words.length) this.#makeTable(roomFor(count));
    writeTable(this.#words, rows, steps, x.cols);
    if (this.#table !== undefined) this.#gpu.device.queue.writeBuffer(this.#table, 0, this.#words, 0, count);
    const isGreedy = rows.every(({ params }) => params.temperature === 0);
    const kind = isGreedy ? 'largest' : needsCut(rows, x.cols) ? 'cut' : 'drawn';
    const [followed, last] = [this.#dispatchesOf(kind, true), this.#dispatchesOf(kind, false)];
    return new SamplerRun({ place, logits: x, rows, steps, followed, last });
  }

  /** In place of one that is too small. */
  #makeTable(words: number): void {
    this.#table?.destroy();
    this.#table = this.#gpu.device.createBuffer({
      label: 'how tokens are chosen',
      size: words * 4,
      usage: USAGE.storage | USAGE.copyTarget,
    });
    this.#words = new Uint32Array(words);
    this.#dispatches.clear();
  }

  /** Logits that became wider take the place of those before. */
  #turnTo(x: WebGpuActivations): Place {
    if (this.#place === undefined || !this.#place.isFor(x)) {
      this.#place?.close();
      this.#place = new Place(this.#gpu, x);
      this.#logits = undefined;
    }
    if (this.#logits?.id !== x.id) this.#dispatches.clear();
    this.#logits = x;
    return this.#place;
  }

  #kernelsOf(kind: Kind, isFollowed: boolean): readonly { kernel: SpecialisedKernel; groups: Dispatch['groups'] }[] {
    const of = (name: KernelName, groups: Dispatch['groups'], overrides: Record<string, number> = {}) => ({
      kernel: [name, { overrides: { ...overrides, WORKGROUP: this.#lanes } }] as const,
      groups,
    });
    return [
      of('sample_adjust', 'chunks'),
      ...(kind === 'cut' ? [of('sample_cut', 'one')] : []),
      ...(kind === 'largest' ? [] : [of('sample_draw', 'chunks', { IS_CUT: Number(kind === 'cut') })]),
      of('sample_choose', 'one', { IS_FOLLOWED: Number(isFollowed) }),
    ];
  }

  #dispatchesOf(kind: Kind, isFollowed: boolean): readonly Dispatch[] {
    return this.#kernelsOf(kind, isFollowed).map(({ kernel, groups }) => {
      const key = JSON.stringify(kernel);
      const dispatch = this.#dispatches.get(key) ?? { ...this.#bound(key, kernel), groups };
      this.#dispatches.set(key, dispatch);
      return dispatch;
    });
  }

  #bound(label: string, specialised: SpecialisedKernel): Omit<Dispatch, 'groups'> {
    const kernel = this.#shaders.kernel(...specialised);
    const others = new Map([
      [1, this.#logits?.buffer],
      [2, this.#table],
      [8, this.#step],
    ]);
    const entries = kernel.bindings.map(({ binding }) => {
      const buffer = this.#place?.buffers.get(binding) ?? others.get(binding);
      if (buffer === undefined) throw new Error(`${specialised[0]} binds ${binding}, which nothing was made for`);
      return { binding, resource: { buffer } };
    });
    return { kernel, bindGroup: this.#gpu.device.createBindGroup({ label, layout: kernel.layout, entries }) };
  }

  /** All but the logits and the step, which are others'. */
  close(): void {
    this.#table?.destroy();
    this.#place?.close();
    this.#dispatches.clear();
  }
}

interface SamplerRunParts {
  readonly place: Place;
  readonly logits: WebGpuActivations;
  readonly rows: readonly TokenChoice[];
  readonly steps: number;
  readonly followed: readonly Dispatch[];
  readonly last: readonly Dispatch[];
}

/** Steps whose tokens are read back together. */
export class SamplerRun {
  readonly #parts: SamplerRunParts;
  #encoded = 0;

  constructor(parts: SamplerRunParts) {
    this.#parts = parts;
  }

  /** Chooses the next step's tokens from the logits as they are by then. But for the last step's they are put where the next one finds them. */
  encode(pass: GPUComputePassEncoder): void {
    this.#encoded++;
    const { place, rows, steps, followed, last } = this.#parts;
    for (const { kernel, bindGroup, groups } of this.#encoded === steps ? last : followed) {
      pass.setPipeline(kernel.pipeline);
      pass.setBindGroup(0, bindGroup);
      pass.dispatchWorkgroups(groups === 'chunks' ? place.chunks : 1, rows.length);
    }
  }

  /** Has what all steps chose copied; after the last one's `encode`, in its encoder. */
  copy(encoder: GPUCommandEncoder, downloads: Downloads): Download {
    const { place, logits, steps } = this.#parts;
    return downloads.copy(encoder, place.chosen, steps * logits.capacity * CHOSEN_WORDS * 4);
  }

  /** By row, in order. */
  async read(download: Download): Promise<ChosenToken[][]> {
    const { logits, rows, steps } = this.#parts;
    const perStep = logits.capacity * CHOSEN_WORDS;
    const tokens: ChosenToken[][] = rows.map(() => []);
    await download.read((floats) => {
      const words = new Uint32Array(floats.buffer, floats.byteOffset, floats.length);
      for (const [row, { alternatives }] of rows.entries()) {
        for (let step = 0; step < steps; step++) {
          const at = step * perStep + row * CHOSEN_WORDS;
          const token = words[at] ?? 0;
          if (alternatives === undefined) tokens[row]?.push({ token });
          else {
            const top = Array.from({ length: Math.min(alternatives, logits.cols) }, (_, i) => ({
              id: words[at + 2 + 2 * i] ?? 0,
              logprob: floats[at + 3 + 2 * i] ?? Number.NEGATIVE_INFINITY,
            }));
            tokens[row]?.push({ token, score: { logprob: floats[at + 1] ?? Number.NEGATIVE_INFINITY, top } });
          }
        }
      }
    });
    return tokens;
  }
}
