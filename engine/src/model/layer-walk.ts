/**
 * A model walked through layer by layer on a fixed set of sequences, halting before each group of linear layers: what calibration needs.
 *
 * Only the residual stream at the layer's beginning is kept for all tokens. What a group sees is computed from there anew, some sequences at a time, so that
 * memory holds one layer's activations of a chunk and one layer's cache. Weights may be changed at a halt, and what follows is computed with them.
 */
import { deltaStem } from '@signpost/contracts';
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import type { Activations, Device, ParamDelta, RopeTable, StepBatch } from '../device/device.ts';
import { createDevice } from '../device/index.ts';
import { createWorkspace, groupsOf, layerStages, type Stage, type Workspace } from './forward.ts';
import { type LayerParams, type ModelParams, modelParams } from './params.ts';
import { ropeTable } from './rope.ts';

const BLOCK_TOKENS = 32;
/** A chunk ends with the sequence that reaches this. */
const CHUNK_TOKENS = 1024;
const SLOT = 0;

/** Linear layers about to see an input. */
export interface WalkStage {
  /** Their stems, such as `model.layers.3.self_attn.q_proj`. */
  readonly stems: readonly string[];
  readonly inDim: number;
  /** Copies of what they see, chunk by chunk in the order of the tokens. To be taken before the next halt. */
  inputs(): AsyncGenerator<StageInput, void, void>;
}

export interface StageInput {
  readonly input: Float32Array; // (tokens of the chunk, inDim)
  /** What the output will be added to: the residual stream, (tokens of the chunk, hidden). Absent where it goes elsewhere. */
  readonly addedTo?: Float32Array;
}

interface Chunk {
  readonly batch: StepBatch;
  /** The residual stream before the layer, (tokens, hidden). */
  x: Float32Array;
}

type Space = Workspace<Activations>;

export class LayerWalk {
  readonly #checkpoint: Checkpoint;
  readonly #params: ModelParams;
  readonly #rope: RopeTable;
  readonly #device: Device;
  readonly #chunks: readonly Chunk[];

  constructor(checkpoint: Checkpoint, sequences: readonly (readonly number[])[]) {
    const { config } = checkpoint;
    this.#checkpoint = checkpoint;
    this.#params = modelParams(config);
    this.#rope = ropeTable(config, config.maxPositions);
    this.#chunks = chunksOf(sequences).map((chunk) => ({ batch: batchOf(chunk), x: new Float32Array() }));
    const { specs } = this.#params;
    this.#device = createDevice('cpu', {
      params: specs,
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
    for (const [index, spec] of specs.entries()) {
      const { dtype, data } = checkpoint.param(spec);
      this.#device.loadParam(index, dtype, data);
    }
  }

  /** Changes a parameter's weights for what is computed from now on. */
  load(stem: string, delta: ParamDelta): void {
    const param = this.#params.specs.findIndex(({ name }) => deltaStem(name) === stem);
    this.#device.loadDelta(SLOT, param, delta);
  }

  /** Each halt, in execution order. */
  async *stages(): AsyncGenerator<WalkStage, void, void> {
    const { specs, embedding, layers } = this.#params;
    const rows = Math.max(...this.#chunks.map(({ batch }) => batch.tokens.length));
    const space = createWorkspace<Activations>(this.#device, this.#checkpoint.config, rows, 0);
    for (const chunk of this.#chunks) {
      this.#device.begin(chunk.batch);
      this.#device.embed(space.x, embedding);
      chunk.x = await this.#device.read(space.x);
    }
    for (const layer of layers) {
      for (const [halt, group] of groupsOf(layer).entries()) {
        yield {
          stems: group.map((param) => deltaStem(specs[param]?.name ?? '')),
          inDim: specs[group[0]]?.shape[1] ?? 0,
          inputs: () => this.#inputs(space, layer, halt),
        };
      }
      for (const chunk of this.#chunks) {
        for (const _ of this.#layer(space, layer, chunk));
        chunk.x = await this.#device.read(space.x);
      }
    }
  }

  async *#inputs(space: Space, layer: LayerParams, halt: number): AsyncGenerator<StageInput, void, void> {
    for (const chunk of this.#chunks) {
      let passed = 0;
      for (const { input, addedTo } of this.#layer(space, layer, chunk)) {
        if (passed++ < halt) continue;
        yield {
          input: await this.#device.read(input),
          ...(addedTo === undefined ? {} : { addedTo: await this.#device.read(addedTo) }),
        };
        break;
      }
    }
  }

  #layer(space: Space, layer: LayerParams, { batch, x }: Chunk): Generator<Stage<Activations>, void, void> {
    this.#device.begin(batch);
    this.#device.write(space.x, x);
    return layerStages(this.#device, this.#checkpoint.config, this.#rope, space, layer, 0);
  }

  close(): void {
    this.#device.close();
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
