/**
 * Chooses rows' next tokens where their logits are: up to four dispatches a step, nothing read back but the tokens.
 *
 * Knows no plan and no model: whoever calls has the logits computed before each `encode`.
 */
import { type ChosenToken, MOST_ALTERNATIVES, MOST_STEPS, type TokenChoice } from '../../choice.ts';
import type { Gpu } from '../adapter.ts';
import { type Downloads, USAGE } from '../buffers.ts';
import type { WebGpuActivations } from '../ops.ts';
import type { Kernel, KernelName, Shaders } from '../shader.ts';
import { needsCut, tableWords, writeTable } from './row-table.ts';

/** Tokens that one workgroup goes through (shaders/sample.wgsl). */
const CHUNK = 2048;
/** Token, log-probability, and pairs of the alternatives'. */
const CHOSEN_WORDS = 2 + 2 * MOST_ALTERNATIVES;
const UNIFORM_BYTES = 16;
/** Lanes of a workgroup. What computes on the CPU has them take turns at every barrier. */
const LANES = { hardware: 256, software: 16 } as const;

/** Which kernels a run of steps needs. */
type Kind = 'largest' | 'drawn' | 'cut';

interface Dispatch {
  readonly kernel: Kernel;
  readonly bindGroup: GPUBindGroup;
  /** Or one for each row. */
  readonly groups: 'chunks' | 'one';
}

/** What belongs to logits of one size, made once. */
interface Place {
  readonly x: WebGpuActivations;
  readonly chunks: number;
  readonly buffers: ReadonlyMap<number, GPUBuffer>;
  readonly chosen: GPUBuffer;
  /** By kernel and its constants, for the table that they were made for. */
  readonly dispatches: Map<string, Dispatch>;
}

export class DeviceSampler {
  readonly #gpu: Gpu;
  readonly #shaders: Shaders;
  readonly #step: GPUBuffer;
  readonly #lanes: number;
  readonly #places = new Map<number, Place>();
  #table: GPUBuffer | undefined;
  #words = new Uint32Array(0);

  /**
   * @param step what tokens and positions of a step are in (../step.ts).
   * @param lanes of a workgroup, a power of two.
   */
  constructor(
    gpu: Gpu,
    shaders: Shaders,
    step: GPUBuffer,
    lanes: number = LANES[gpu.identity.isSoftware ? 'software' : 'hardware'],
  ) {
    this.#gpu = gpu;
    this.#shaders = shaders;
    this.#step = step;
    this.#lanes = lanes;
  }

  /** Takes in how rows' tokens are to be chosen in the next `steps`. @throws RangeError for more than there is room for. */
  begin(x: WebGpuActivations, rows: readonly TokenChoice[], steps: number): SamplerRun {
    if (rows.length > x.capacity) throw new RangeError(`${rows.length} rows, there are logits for ${x.capacity}`);
    if (steps > MOST_STEPS) throw new RangeError(`${steps} steps at once, there is room for ${MOST_STEPS}`);
    const count = tableWords(rows, steps);
    const table = this.#tableOf(count);
    writeTable(this.#words, rows, steps, x.cols);
    this.#gpu.device.queue.writeBuffer(table, 0, this.#words, 0, count);
    const place = this.#placeOf(x);
    const isGreedy = rows.every(({ params }) => params.temperature === 0);
    const kind = isGreedy ? 'largest' : needsCut(rows, x.cols) ? 'cut' : 'drawn';
    const [followed, last] = [true, false].map((isFollowed) => this.#dispatches(place, kind, isFollowed));
    if (followed === undefined || last === undefined) throw new Error('a run has two lists of dispatches');
    return new SamplerRun(place, rows, steps, { followed, last });
  }

  /** Buffers of what the largest run so far needed; those that were made for a smaller one go. */
  #tableOf(words: number): GPUBuffer {
    if (this.#table !== undefined && words <= this.#words.length) return this.#table;
    const size = 2 ** Math.ceil(Math.log2(Math.max(words, 1024)));
    this.#table?.destroy();
    this.#table = this.#gpu.device.createBuffer({
      label: 'how tokens are chosen',
      size: size * 4,
      usage: USAGE.storage | USAGE.copyTarget,
    });
    this.#words = new Uint32Array(size);
    for (const { dispatches } of this.#places.values()) dispatches.clear();
    return this.#table;
  }

  #placeOf(x: WebGpuActivations): Place {
    const found = this.#places.get(x.id);
    if (found !== undefined) return found;
    // Logits that became wider take the place of those before.
    for (const place of this.#places.values()) close(place);
    this.#places.clear();
    const { device } = this.#gpu;
    const chunks = Math.ceil(x.cols / CHUNK);
    const params = device.createBuffer({
      label: 'sizes of sampling',
      size: UNIFORM_BYTES,
      usage: USAGE.uniform | USAGE.copyTarget,
    });
    device.queue.writeBuffer(params, 0, Uint32Array.of(x.cols, x.stride, chunks, x.capacity));
    const buffer = (label: string, bytes: number, more = 0) =>
      device.createBuffer({ label, size: bytes, usage: USAGE.storage | more });
    const chosen = buffer('tokens chosen', MOST_STEPS * x.capacity * CHOSEN_WORDS * 4, USAGE.copySource);
    const place: Place = {
      x,
      chunks,
      chosen,
      buffers: new Map([
        [0, params],
        [1, x.buffer],
        [3, buffer('adjusted logits', x.capacity * x.stride * 4)],
        [4, buffer('peaks of logits', x.capacity * chunks * 16)],
        [5, buffer('cuts of logits', x.capacity * 8)],
        [6, buffer('draws', x.capacity * chunks * 8)],
        [7, chosen],
        [8, this.#step],
      ]),
      dispatches: new Map(),
    };
    this.#places.set(x.id, place);
    return place;
  }

  #dispatches(place: Place, kind: Kind, isFollowed: boolean): readonly Dispatch[] {
    const list = [this.#dispatch(place, 'sample_adjust', 'chunks', {})];
    if (kind === 'cut') list.push(this.#dispatch(place, 'sample_cut', 'one', {}));
    if (kind !== 'largest')
      list.push(this.#dispatch(place, 'sample_draw', 'chunks', { IS_CUT: Number(kind === 'cut') }));
    list.push(this.#dispatch(place, 'sample_choose', 'one', { IS_FOLLOWED: Number(isFollowed) }));
    return list;
  }

  #dispatch(place: Place, name: KernelName, groups: Dispatch['groups'], overrides: Record<string, number>): Dispatch {
    const key = `${name} ${Object.values(overrides)}`;
    const found = place.dispatches.get(key);
    if (found !== undefined) return found;
    const kernel = this.#shaders.kernel(name, { overrides: { ...overrides, WORKGROUP: this.#lanes } });
    const entries = kernel.bindings.map(({ binding }) => {
      const buffer = binding === 2 ? this.#table : place.buffers.get(binding);
      if (buffer === undefined) throw new Error(`${name} binds ${binding}, which nothing was made for`);
      return { binding, resource: { buffer } };
    });
    const bindGroup = this.#gpu.device.createBindGroup({ label: key, layout: kernel.layout, entries });
    const dispatch = { kernel, bindGroup, groups };
    place.dispatches.set(key, dispatch);
    return dispatch;
  }

  close(): void {
    this.#table?.destroy();
    for (const place of this.#places.values()) close(place);
    this.#places.clear();
  }
}

/** All but the logits and the step, which are others'. */
function close({ buffers }: Place): void {
  for (const [binding, buffer] of buffers) if (binding !== 1 && binding !== 8) buffer.destroy();
}

/** Steps whose tokens are read back together. */
class SamplerRun {
  readonly #place: Place;
  readonly #rows: readonly TokenChoice[];
  readonly #steps: number;
  readonly #dispatches: { readonly followed: readonly Dispatch[]; readonly last: readonly Dispatch[] };
  #encoded = 0;

  constructor(
    place: Place,
    rows: readonly TokenChoice[],
    steps: number,
    dispatches: { readonly followed: readonly Dispatch[]; readonly last: readonly Dispatch[] },
  ) {
    this.#place = place;
    this.#rows = rows;
    this.#steps = steps;
    this.#dispatches = dispatches;
  }

  /** Chooses the next step's tokens from the logits as they are by then. But for the last step's they are put where the next one finds them. */
  encode(encoder: GPUCommandEncoder): void {
    this.#encoded++;
    const pass = encoder.beginComputePass();
    const { followed, last } = this.#dispatches;
    for (const { kernel, bindGroup, groups } of this.#encoded === this.#steps ? last : followed) {
      pass.setPipeline(kernel.pipeline);
      pass.setBindGroup(0, bindGroup);
      pass.dispatchWorkgroups(groups === 'chunks' ? this.#place.chunks : 1, this.#rows.length);
    }
    pass.end();
  }

  /** By row, in order. */
  async read(downloads: Downloads): Promise<ChosenToken[][]> {
    const { chosen, x } = this.#place;
    const perStep = x.capacity * CHOSEN_WORDS;
    const tokens: ChosenToken[][] = this.#rows.map(() => []);
    await downloads.read(chosen, this.#steps * perStep * 4, (floats) => {
      const words = new Uint32Array(floats.buffer, floats.byteOffset, floats.length);
      for (const [row, { alternatives }] of this.#rows.entries()) {
        for (let step = 0; step < this.#steps; step++) {
          const at = step * perStep + row * CHOSEN_WORDS;
          const token = words[at] ?? 0;
          if (alternatives === undefined) tokens[row]?.push({ token });
          else {
            const top = Array.from({ length: Math.min(alternatives, x.cols) }, (_, i) => ({
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
