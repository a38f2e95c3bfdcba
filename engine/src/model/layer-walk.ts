/**
 * A model walked through layer by layer on a fixed set of sequences, halting before each group of linear layers: what calibration needs.
 *
 * Memory holds one layer's weights, the residual stream of all tokens before that layer, and the layer's activations and cache for some sequences at a time:
 * what a group sees is computed from there anew. Weights may be changed at a halt, and what follows is computed with them.
 */
import { deltaStem } from '@signpost/contracts';
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import { CpuDevice } from '../device/cpu/cpu-device.ts';
import type { Activations, Device, ParamDelta, RopeTable, StepBatch } from '../device/device.ts';
import { createWorkspace, groupsOf, layerStages, type Stage, type Workspace } from './forward.ts';
import { type LayerParams, type ModelParams, modelParams } from './params.ts';
import { ropeTable } from './rope.ts';

const BLOCK_TOKENS = 32;
/** A chunk ends with the sequence that reaches this. */
const CHUNK_TOKENS = 1024;
/** Logits of so many tokens are held at once. */
const LOGIT_ROWS = 64;
const SLOT = 0;

/** Linear layers about to see an input. */
export interface WalkStage {
  /** Their stems, such as `model.layers.3.self_attn.q_proj`. */
  readonly stems: readonly string[];
  readonly inDim: number;
  /** The layer they are in, from 0. */
  readonly layer: number;
  /** Copies of what they see, chunk by chunk in the order of the tokens. To be taken before the next halt. */
  inputs(): AsyncGenerator<StageInput, void, void>;
  /** Those of the layers whose outputs later tokens read, too: keys and values. */
  readonly readByLater: readonly string[];
  /** Copies of what attention is about to see, chunk by chunk, where the layers are the queries', keys' and values'. To be taken before the next halt. */
  attention?(): AsyncGenerator<StageAttention, void, void>;
}

export interface StageAttention {
  /** Rotated to their positions, (tokens of the chunk, heads · headDim). */
  readonly queries: Float32Array;
  /** The same, (tokens of the chunk, kvHeads · headDim). */
  readonly keys: Float32Array;
  /** Where in the chunk each sequence begins, and the last ends: (sequences + 1). */
  readonly sequenceStart: Int32Array;
}

export interface StageInput {
  readonly input: Float32Array; // (tokens of the chunk, inDim)
  /** What the output will be added to: the residual stream, (tokens of the chunk, hidden). Absent where it goes elsewhere. */
  readonly addedTo?: Float32Array;
}

/** What some tokens end in. */
export interface WalkEnd {
  readonly logits: Float32Array; // (tokens, vocab)
  /** The residual stream before the final norm, (tokens, hidden). */
  readonly stream: Float32Array;
}

interface Chunk {
  readonly batch: StepBatch;
  /** The residual stream before the layer, (tokens, hidden). */
  x: Float32Array;
}

type Space = Workspace<Activations>;

export class LayerWalk {
  readonly #checkpoint: Checkpoint;
  /** Of a model of one layer: its ids stand for one layer after the other. */
  readonly #params: ModelParams;
  readonly #rope: RopeTable;
  readonly #device: Device;
  readonly #chunks: readonly Chunk[];
  readonly #space: Space;
  /** Changes of the layer that is loaded, and of those to come, by stem. */
  readonly #deltas = new Map<string, ParamDelta>();
  /** What is loaded: id by stem. */
  #loaded: ReadonlyMap<string, number> = new Map();

  constructor(checkpoint: Checkpoint, sequences: readonly (readonly number[])[]) {
    const { config } = checkpoint;
    this.#checkpoint = checkpoint;
    this.#params = modelParams({ ...config, layers: 1 });
    this.#rope = ropeTable(config, config.maxPositions);
    this.#chunks = chunksOf(sequences).map((chunk) => ({ batch: batchOf(chunk), x: new Float32Array() }));
    this.#device = new CpuDevice({
      params: this.#params.specs,
      slots: 1,
      kv: {
        layers: 1,
        // Chunks take turns in it.
        blocks: Math.max(...this.#chunks.map(({ batch }) => batch.blockTable.length)),
        blockTokens: BLOCK_TOKENS,
        kvHeads: config.kvHeads,
        headDim: config.headDim,
      },
    });
    const rows = Math.max(...this.#chunks.map(({ batch }) => batch.tokens.length));
    this.#space = createWorkspace<Activations>(this.#device, config, rows, LOGIT_ROWS);
  }

  /** Changes a parameter's weights for what is computed from now on. */
  load(stem: string, delta: ParamDelta): void {
    this.#deltas.set(stem, delta);
    const param = this.#loaded.get(stem);
    if (param !== undefined) this.#device.loadDelta(SLOT, param, delta);
  }

  /** Each halt, in execution order. */
  async *stages(): AsyncGenerator<WalkStage, void, void> {
    const { specs, embedding, layers } = this.#params;
    this.#become([[specs[embedding]?.name ?? '', embedding]]);
    for (const chunk of this.#chunks) {
      this.#device.begin(chunk.batch);
      this.#device.embed(this.#space.x, embedding);
      chunk.x = await this.#device.read(this.#space.x);
    }
    for (let index = 0; index < this.#checkpoint.config.layers; index++) {
      const nameOf = (param: number) => specs[param]?.name.replace('.layers.0.', `.layers.${index}.`) ?? '';
      const ids = [...specs.keys()].filter((param) => specs[param]?.name.includes('.layers.0.'));
      this.#become(ids.map((param) => [nameOf(param), param]));
      for (const layer of layers) {
        const stemOf = (param: number) => deltaStem(nameOf(param));
        for (const [halt, group] of groupsOf(layer).entries())
          yield {
            stems: group.map(stemOf),
            inDim: specs[group[0]]?.shape[1] ?? 0,
            layer: index,
            inputs: () => this.#inputs(layer, halt),
            ...(halt === 0
              ? {
                  readByLater: [layer.k.weight, layer.v.weight].map(stemOf),
                  attention: () => this.#attention(layer),
                }
              : { readByLater: [] }),
          };
        for (const chunk of this.#chunks) {
          for (const _ of this.#layer(layer, chunk));
          chunk.x = await this.#device.read(this.#space.x);
        }
      }
    }
  }

  /** Goes through all layers, and looks about at each halt. Gives what all tokens end in, in order, some at a time. */
  async *ends(lookAbout?: (stage: WalkStage) => Promise<void>): AsyncGenerator<WalkEnd, void, void> {
    for await (const stage of this.stages()) await lookAbout?.(stage);
    const { specs, norm, head } = this.#params;
    this.#become([norm, head].map((param) => [specs[param]?.name ?? '', param]));
    const { x, last, logits } = this.#space;
    const { hidden } = this.#checkpoint.config;
    for (const chunk of this.#chunks) {
      const rows = chunk.batch.tokens.length;
      for (let first = 0; first < rows; first += LOGIT_ROWS) {
        const count = Math.min(LOGIT_ROWS, rows - first);
        this.#device.begin({ ...chunk.batch, logitRows: Int32Array.from({ length: count }, (_, row) => first + row) });
        this.#device.write(x, chunk.x);
        this.#device.gather(last, x);
        this.#device.rmsNorm(last, last, norm, this.#checkpoint.config.rmsNormEps);
        this.#device.linears(last, [{ out: logits, param: head }]);
        const stream = chunk.x.subarray(first * hidden, (first + count) * hidden);
        yield { logits: await this.#device.read(logits), stream };
      }
    }
  }

  /** Loads parameters of the checkpoint, by name, in place of those before. */
  #become(params: readonly (readonly [string, number])[]): void {
    for (const stem of this.#loaded.keys()) this.#deltas.delete(stem);
    this.#device.clearSlot(SLOT);
    this.#loaded = new Map(params.map(([name, param]) => [deltaStem(name), param]));
    for (const [name, param] of params) {
      const { dtype, data } = this.#checkpoint.param({ name, shape: this.#params.specs[param]?.shape ?? [0] });
      this.#device.loadParam(param, dtype, data, 'stored');
      const delta = this.#deltas.get(deltaStem(name));
      if (delta !== undefined) this.#device.loadDelta(SLOT, param, delta);
    }
  }

  async *#inputs(layer: LayerParams, halt: number): AsyncGenerator<StageInput, void, void> {
    for (const chunk of this.#chunks) {
      let passed = 0;
      for (const { input, addedTo } of this.#layer(layer, chunk)) {
        if (passed++ < halt) continue;
        yield {
          input: await this.#device.read(input),
          ...(addedTo === undefined ? {} : { addedTo: await this.#device.read(addedTo) }),
        };
        break;
      }
    }
  }

  async *#attention(layer: LayerParams): AsyncGenerator<StageAttention, void, void> {
    const { q, k } = this.#space;
    for (const chunk of this.#chunks) {
      const halts = this.#layer(layer, chunk);
      // The second is behind attention; what it saw is still there.
      for (let halt = 0; halt < 2; halt++) halts.next();
      const [queries, keys] = [await this.#device.read(q), await this.#device.read(k)];
      yield { queries, keys, sequenceStart: chunk.batch.sequenceStart };
    }
  }

  #layer(layer: LayerParams, { batch, x }: Chunk): Generator<Stage<Activations>, void, void> {
    this.#device.begin(batch);
    this.#device.write(this.#space.x, x);
    return layerStages(this.#device, this.#checkpoint.config, this.#rope, this.#space, layer, 0);
  }

  close(): void {
    void this.#device.close();
  }
}

function chunksOf(sequences: readonly (readonly number[])[]): (readonly number[])[][] {
  const chunks: (readonly number[])[][] = [];
  let room = 0;
  for (const sequence of sequences) {
    if (room <= 0) {
      chunks.push([]);
      room = CHUNK_TOKENS;
    }
    chunks.at(-1)?.push(sequence);
    room -= sequence.length;
  }
  return chunks;
}

function batchOf(sequences: readonly (readonly number[])[]): StepBatch {
  const longest = Math.max(...sequences.map((sequence) => sequence.length));
  const blocksPerSequence = Math.ceil(longest / BLOCK_TOKENS);
  const starts = [0];
  for (const { length } of sequences) starts.push((starts.at(-1) ?? 0) + length);
  const rows = starts.at(-1) ?? 0;
  let blocks = 0;
  const blockTable = sequences.flatMap(({ length }) =>
    Array.from({ length: blocksPerSequence }, (_, block) => (block * BLOCK_TOKENS < length ? blocks++ : -1)),
  );
  return {
    tokens: Int32Array.from(sequences.flat()),
    positions: Int32Array.from(sequences.flatMap((sequence) => [...sequence.keys()])),
    sequenceStart: Int32Array.from(starts),
    blockTable: Int32Array.from(blockTable),
    blocksPerSequence,
    mixtureStart: Int32Array.from({ length: rows + 1 }, (_, row) => row),
    mixtureSlots: new Int32Array(rows).fill(SLOT),
    mixtureWeights: new Float32Array(rows).fill(1),
    logitRows: new Int32Array(0),
  };
}
