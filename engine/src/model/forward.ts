/**
 * The Llama-family forward pass, written once over the ops of a device.
 *
 * Knows nothing of how a device computes, of experts (the device applies each row's mixture), or of where tokens come from.
 */
import type { ModelConfig } from '../checkpoint/config.ts';
import type { Activations, Device, LinearLayer, RopeTable, StepBatch } from '../device/device.ts';
import type { LayerParams, LinearParams, ModelParams } from './params.ts';

/** Activations of one step, allocated once. */
export interface Workspace<A extends Activations> {
  readonly x: A; // (rows, hidden): the residual stream
  readonly normed: A; // (rows, hidden)
  readonly q: A; // (rows, heads * headDim)
  readonly k: A; // (rows, kvHeads * headDim)
  readonly v: A; // (rows, kvHeads * headDim)
  readonly attended: A; // (rows, heads * headDim)
  readonly projected: A; // (rows, hidden)
  readonly gate: A; // (rows, ffn)
  readonly up: A; // (rows, ffn)
  readonly last: A; // (logit rows, hidden)
  readonly logits: A; // (logit rows, vocab and the most rows that an expert adds to it)
}

/** What a workspace is made of. */
export function workspaceShapes(
  { hidden, ffn, heads, kvHeads, headDim, vocabSize }: ModelConfig,
  maxRows: number,
  maxLogitRows: number,
): Record<keyof Workspace<Activations>, Activations> {
  const of = (cols: number) => ({ capacity: maxRows, cols });
  return {
    x: of(hidden),
    normed: of(hidden),
    q: of(heads * headDim),
    k: of(kvHeads * headDim),
    v: of(kvHeads * headDim),
    attended: of(heads * headDim),
    projected: of(hidden),
    gate: of(ffn),
    up: of(ffn),
    last: { capacity: maxLogitRows, cols: hidden },
    logits: { capacity: maxLogitRows, cols: vocabSize },
  };
}

export function createWorkspace<A extends Activations>(
  device: Device<A>,
  config: ModelConfig,
  maxRows: number,
  maxLogitRows: number,
): Workspace<A> {
  const shapes = workspaceShapes(config, maxRows, maxLogitRows);
  const made = ({ capacity, cols }: Activations) => device.activations(capacity, cols);
  return {
    x: made(shapes.x),
    normed: made(shapes.normed),
    q: made(shapes.q),
    k: made(shapes.k),
    v: made(shapes.v),
    attended: made(shapes.attended),
    projected: made(shapes.projected),
    gate: made(shapes.gate),
    up: made(shapes.up),
    last: made(shapes.last),
    logits: made(shapes.logits),
  };
}

/** Linear layers about to be computed from one input. */
export interface Stage<A extends Activations> {
  /** Their weights. */
  readonly params: readonly number[];
  readonly input: A;
  /** What their output is added to: the residual stream, where it is. */
  readonly addedTo?: A;
}

/** Rows that go through the layers together. Several chunks may share a workspace but for `x`, which each keeps from one half of a layer to the next. */
export interface Chunk<A extends Activations> {
  readonly batch: StepBatch;
  readonly space: Workspace<A>;
}

/**
 * Runs chunks side by side: all of them go through half a layer, in order, before the first goes on to the next. So a chunk may hold the tokens that follow
 * those of the chunk before it. Gives what `take` makes of the logits of the last one's `logitRows`, (n, width of its `logits`); undefined where it has none.
 *
 * @param pause what to wait for before stage 0, the embedding, stages `2l + 1` and `2l + 2`, the attention of layer `l` and what follows it there, and one
 * more, the logits, where experts are still coming in. Other steps may run on the device meanwhile, in the same workspace but for `x`.
 */
export async function forward<A extends Activations, T>(
  device: Device<A>,
  config: ModelConfig,
  params: ModelParams,
  rope: RopeTable,
  chunks: readonly Chunk<A>[],
  take: (logits: A) => Promise<T>,
  pause: (stage: number) => Promise<void> | undefined = () => undefined,
): Promise<T | undefined> {
  let begun: Chunk<A> | undefined;
  const begin = (chunk: Chunk<A>) => {
    if (begun !== chunk) device.begin(chunk.batch);
    begun = chunk;
  };
  for (let stage = 0; stage <= 2 * params.layers.length; stage++) {
    const index = (stage - 1) >> 1;
    const layer = params.layers[index];
    for (const chunk of chunks) {
      // Where nothing is missing there is no pause, not even for a turn: others begin their steps only at an `await`, and after one this begins again.
      const missing = pause(stage);
      if (missing !== undefined) {
        await missing;
        begun = undefined;
      }
      begin(chunk);
      const { space } = chunk;
      if (layer === undefined) device.embed(space.x, params.embedding);
      else if (stage % 2 === 1) for (const _ of attentionBlock(device, config, rope, space, layer, index));
      else for (const _ of mlpBlock(device, config, space, layer));
    }
  }
  const last = chunks.at(-1);
  if (last === undefined || last.batch.logitRows.length === 0) return undefined;
  const missing = pause(2 * params.layers.length + 1);
  if (missing !== undefined) {
    await missing;
    begun = undefined;
  }
  begin(last);
  const { space } = last;
  device.gather(space.last, space.x);
  device.rmsNorm(space.last, space.last, params.norm, config.rmsNormEps);
  device.head(space.logits, space.last, params.head);
  return take(space.logits);
}

/** A layer's matrices by the input they share, in the order of `layerStages`. */
export function groupsOf({ q, k, v, o, gate, up, down }: LayerParams) {
  return [[q.weight, k.weight, v.weight], [o.weight], [gate.weight, up.weight], [down.weight]] as const;
}

/**
 * One layer, halting before each group of linear layers that share an input: there their weights may still be changed.
 *
 * @param kvLayer where in the cache its keys and values go.
 */
export function* layerStages<A extends Activations>(
  device: Device<A>,
  config: ModelConfig,
  rope: RopeTable,
  space: Workspace<A>,
  layer: LayerParams,
  kvLayer: number,
): Generator<Stage<A>, void, void> {
  yield* attentionBlock(device, config, rope, space, layer, kvLayer);
  yield* mlpBlock(device, config, space, layer);
}

function into<A extends Activations>(out: A, { weight, bias }: LinearParams): LinearLayer<A> {
  return { out, param: weight, bias };
}

function* attentionBlock<A extends Activations>(
  device: Device<A>,
  config: ModelConfig,
  rope: RopeTable,
  space: Workspace<A>,
  layer: LayerParams,
  kvLayer: number,
): Generator<Stage<A>, void, void> {
  device.rmsNorm(space.normed, space.x, layer.inputNorm, config.rmsNormEps);
  yield { params: groupsOf(layer)[0], input: space.normed };
  device.linears(space.normed, [into(space.q, layer.q), into(space.k, layer.k), into(space.v, layer.v)]);
  if (layer.qNorm !== undefined) device.rmsNorm(space.q, space.q, layer.qNorm, config.rmsNormEps);
  if (layer.kNorm !== undefined) device.rmsNorm(space.k, space.k, layer.kNorm, config.rmsNormEps);
  device.rope(space.q, rope);
  device.rope(space.k, rope);
  device.storeKv(kvLayer, space.k, space.v);
  device.attention(space.attended, space.q, kvLayer, config.headDim ** -0.5, config.slidingWindow);
  yield { params: groupsOf(layer)[1], input: space.attended, addedTo: space.x };
  device.linears(space.attended, [into(space.projected, layer.o)]);
  device.add(space.x, space.projected);
}

function* mlpBlock<A extends Activations>(
  device: Device<A>,
  config: ModelConfig,
  space: Workspace<A>,
  layer: LayerParams,
): Generator<Stage<A>, void, void> {
  device.rmsNorm(space.normed, space.x, layer.postNorm, config.rmsNormEps);
  yield { params: groupsOf(layer)[2], input: space.normed };
  device.linears(space.normed, [into(space.gate, layer.gate), into(space.up, layer.up)]);
  device.swiglu(space.gate, space.gate, space.up);
  yield { params: groupsOf(layer)[3], input: space.gate, addedTo: space.x };
  device.linears(space.gate, [into(space.projected, layer.down)]);
  device.add(space.x, space.projected);
}
