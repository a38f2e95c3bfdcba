/**
 * The model: checkpoints and deltas in, token ids and logits out. Knows no network, no queue, no store.
 */

// For those who may not import the kernels: a base is hashed on its way, too, and a delta file waits in memory for its slot.
export { clearedMemory, largeMemory, sha256Ranges } from '@signpost/kernels';
export { abortable } from './abortable.ts';
export {
  Checkpoint,
  type CheckpointOrigin,
  type CheckpointTensor,
  mapTensors,
  openCheckpoint,
} from './checkpoint/checkpoint.ts';
export { type ModelConfig, parseModelConfig } from './checkpoint/config.ts';
export { DeltaFile, openArrivingDelta, openDelta, openMappedDelta, widenRows } from './delta-file.ts';
export { type ChosenToken, MOST_ALTERNATIVES, MOST_STEPS, type TokenChoice } from './device/choice.ts';
export type { ParamDelta, ParamDtype, ParamSpec, SignPlane, StepBatch } from './device/device.ts';
export { DeviceLost } from './device/device.ts';
export { brainToFloat, floatToBrain, floatToHalf, halfToFloat } from './device/float.ts';
export type { DeviceName, GpuSettings } from './device/index.ts';
export { type GrammarSpec, Grammars, grammarRule } from './grammar/grammars.ts';
export type { ToolCallFormat } from './grammar/tool-calls.ts';
export { LayerWalk, type StageAttention, type WalkStage } from './model/layer-walk.ts';
export { Model, type ModelOptions } from './model/model.ts';
export { isLinearWeight, modelParams, type WeightFormat } from './model/params.ts';
export { Session, type SlotWeight } from './model/session.ts';
export { readJson } from './read-json.ts';
export { argmax, logProbability, scoreToken, type TokenScore } from './sampling/logprobs.ts';
export { type SamplingParams, samplingParams } from './sampling/params.ts';
export { Sampler, SamplingScratch, type TokenConstraint } from './sampling/sampler.ts';
export { readTokenizerFiles, type TokenizerFiles } from './tokenizer/files.ts';
export { StreamDecoder } from './tokenizer/stream-decoder.ts';
export { checkChatTemplate, Tokenizer } from './tokenizer/tokenizer.ts';
