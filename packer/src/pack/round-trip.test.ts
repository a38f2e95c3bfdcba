/**
 * Any fine-tune that a 1-bit delta can express exactly comes back from its file to the bit.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deltaStem, elementBytes, elementCount } from '@signpost/contracts';
import {
  brainToFloat,
  Checkpoint,
  type CheckpointTensor,
  modelParams,
  openDelta,
  type ParamDelta,
  type ParamDtype,
  parseModelConfig,
} from '@signpost/engine';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { decodeFloats, encodeFloats } from '../source/floats.ts';
import { pack } from './pack.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-round-trip-'));
});
afterAll(() => rm(dir, { recursive: true }));

const DTYPES: readonly ParamDtype[] = ['BF16', 'F16', 'F32'];
const shape = fc.record({
  heads: fc.integer({ min: 1, max: 3 }),
  halfHead: fc.integer({ min: 1, max: 9 }),
  intermediate: fc.integer({ min: 1, max: 70 }),
  vocabulary: fc.integer({ min: 1, max: 20 }),
  layers: fc.integer({ min: 1, max: 2 }),
  tied: fc.boolean(),
});

/** What the delta adds to each element. */
function decoded({ planes, exact }: ParamDelta, count: number, inDim: number): Float32Array {
  return Float32Array.from({ length: count }, (_, at) => {
    const [row, col] = [Math.floor(at / inDim), at % inDim];
    return planes.reduce(
      (sum, { signs, rowScale }) => {
        const bit = ((signs[row * Math.ceil(inDim / 32) + (col >> 5)] ?? 0) >>> (col & 31)) & 1;
        return sum + (bit === 1 ? 1 : -1) * (rowScale[row] ?? Number.NaN);
      },
      exact === undefined ? 0 : brainToFloat(exact[at] ?? 0),
    );
  });
}

it('any tensor set, of any dtypes, changed anywhere', async () => {
  await fc.assert(
    fc.asyncProperty(
      shape,
      fc.integer({ min: 1, max: 2 }),
      fc.infiniteStream(fc.nat()),
      async ({ heads, halfHead, intermediate, vocabulary, layers, tied }, planes, stream) => {
        const next = (below: number) => (stream.next().value ?? 0) % below;
        const config = parseModelConfig(
          {
            architectures: ['LlamaForCausalLM'],
            model_type: 'llama',
            hidden_act: 'silu',
            hidden_size: 2 * halfHead * heads,
            intermediate_size: intermediate,
            num_attention_heads: heads,
            num_key_value_heads: 1,
            num_hidden_layers: layers,
            vocab_size: vocabulary,
            max_position_embeddings: 8,
            rms_norm_eps: 1e-5,
            tie_word_embeddings: tied,
            eos_token_id: 0,
          },
          'test',
        );
        const [before, after] = [new Map<string, CheckpointTensor>(), new Map<string, CheckpointTensor>()];
        const { specs } = modelParams(config);
        let isAnyChanged = false;
        for (const spec of specs) {
          const [rows, cols = 1] = spec.shape;
          const [from, to] = [next(3), next(3)].map((index) => DTYPES[index] ?? 'F32');
          // Eighths below four: sums and differences are exact in every dtype.
          const base = Float32Array.from({ length: rows * cols }, () => (next(17) - 8) / 8);
          const isChanged = next(2) === 1;
          const steps = Array.from({ length: rows }, () => next(9) / 8);
          const tuned = base.map((value, at) => {
            if (!isChanged) return value;
            return value + (next(2) === 1 ? 1 : -1) * (steps[Math.floor(at / cols)] ?? 0);
          });
          const put = (tensors: typeof before, dtype: ParamDtype, values: Float32Array) => {
            const bytes = elementCount(spec.shape) * elementBytes(dtype);
            const info = { name: spec.name, dtype, shape: [...spec.shape], offset: 0, bytes };
            tensors.set(spec.name, { info, data: encodeFloats(dtype, values) });
          };
          put(before, from ?? 'F32', base);
          put(after, to ?? 'F32', tuned);
          isAnyChanged ||= tuned.some((value, at) => value !== base[at]);
        }
        const [base, tuned] = [new Checkpoint('base', config, before), new Checkpoint('tuned', config, after)];
        const valuesOf = (checkpoint: Checkpoint, spec: (typeof specs)[number]) => {
          const { dtype, data } = checkpoint.param(spec);
          return decodeFloats(dtype, data);
        };
        const out = join(dir, 'x.delta.safetensors');
        fc.pre(isAnyChanged);
        await pack(base, tuned, { name: 'x', out, scale: 'row', planes });
        const file = openDelta(new Uint8Array(await readFile(out)), out);
        file.checkFits(await base.digest(), specs);
        const deltas = new Map([...file.params()].map(({ stem, delta }) => [stem, delta]));
        for (const spec of specs) {
          const [want, values] = [valuesOf(tuned, spec), valuesOf(base, spec)];
          const delta = deltas.get(deltaStem(spec.name));
          const change = delta === undefined ? undefined : decoded(delta, want.length, spec.shape[1] ?? 1);
          const got = values.map((value, at) => value + (change?.[at] ?? 0));
          expect(got, spec.name).toEqual(want);
        }
      },
    ),
    { numRuns: 60 },
  );
});
