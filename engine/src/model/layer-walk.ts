/**
 * A model walked through layer by layer on a fixed set of sequences, halting before each group of linear layers: what calibration needs.
 *
 * All tokens pass a layer together, so the cache holds one layer only. Weights may be changed at a halt, and what follows is computed with
 * them.
 */
import { deltaStem } from '@signpost/contracts';
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import type { Activations, Device, ParamDelta, StepBatch } from '../device/device.ts';
import { createDevice } from '../device/index.ts';
import { createWorkspace, layerStages } from './forward.ts';
import { modelParams } from './params.ts';
import { ropeTable } from './rope.ts';

const BLOCK_TOKENS = 32;
const SLOT = 0;

/** Linear layers about to see `input`. */
export interface WalkStage {
  /** Their stems, such as `model.layers.3.self_attn.q_proj`. */
  readonly stems: readonly string[];
  readonly inDim: number;
  /** A copy of the input of every token, (tokens, inDim). */
  input(): Promise<Float32Array>;
  /** A copy of what their output will be added to, (tokens, hidden): the residual stream. Absent where it goes elsewhere. */
  readonly addedTo?: () => Promise<Float32Array>;
}

export class LayerWalk {
  readonly #checkpoint: Checkpoint;
  readonly #device: Device;
  readonly #batch: StepBatch;

  /** Tokens of all sequences. */
  readonly tokens: number;

  constructor(checkpoint: Checkpoint, sequences: readonly (readonly number[])[]) {
    const { config } = checkpoint;
    this.#checkpoint = checkpoint;
    this.#batch = batchOf(sequences);
    this.tokens = this.#batch.tokens.length;
    const { specs } = modelParams(config);
    this.#device = createDevice('cpu', {
      params: specs,
      slots: 1,
      kv: {
        layers: 1,
        blocks: this.#batch.blockTable.length,
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
    const param = modelParams(this.#checkpoint.config).specs.findIndex(({ name }) => deltaStem(name) === stem);
    this.#device.loadDelta(SLOT, param, delta);
  }

  /** Each halt, in execution order. */
  *stages(): Generator<WalkStage, void, void> {
    const { config } = this.#checkpoint;
    const params = modelParams(config);
    const space = createWorkspace<Activations>(this.#device, config, this.tokens, 0);
    this.#device.begin(this.#batch);
    this.#device.embed(space.x, params.embedding);
    const rope = ropeTable(config, config.maxPositions);
    for (const layer of params.layers) {
      for (const stage of layerStages(this.#device, config, rope, space, layer, 0)) {
        const { addedTo } = stage;
        yield {
          stems: stage.params.map((param) => deltaStem(params.specs[param]?.name ?? '')),
          inDim: stage.input.cols,
          input: () => this.#device.read(stage.input),
          ...(addedTo === undefined ? {} : { addedTo: () => this.#device.read(addedTo) }),
        };
      }
    }
  }

  close(): void {
    this.#device.close();
  }
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
