import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { HASH_BUCKETS } from '@signpost/contracts/router';
import fc from 'fast-check';
import { InferenceSession, Tensor } from 'onnxruntime-web';
import { beforeAll, describe, expect, it } from 'vitest';
import { type PoolingKernel, readPooledNetwork } from '../src/classify/pooled-network.ts';
import { assemble } from './assemble.ts';

const model = new Uint8Array(readFileSync(join(import.meta.dirname, '../../models/router/model.onnx')));
const TOKENS = 30_522;

const KERNEL = readFileSync(join(import.meta.dirname, '../src/classify/pooled-network.wasm'));
const instantiate = () => new WebAssembly.Instance(new WebAssembly.Module(KERNEL)).exports as unknown as PoolingKernel;
let session: InferenceSession;
beforeAll(async () => {
  session = await InferenceSession.create(model);
});

async function byRuntime(tokenIds: Int32Array, hashIds: Int32Array): Promise<readonly number[]> {
  const vector = (ids: Int32Array) => new Tensor('int32', ids, [ids.length]);
  const { probabilities } = await session.run({ token_ids: vector(tokenIds), hash_ids: vector(hashIds) });
  if (!(probabilities?.data instanceof Float32Array)) throw new Error('no probabilities');
  return [...probabilities.data];
}

function load() {
  const network = readPooledNetwork(model, instantiate);
  if (network === undefined) throw new Error('the bundled router is of another graph');
  return network;
}

/** The file with every occurrence of a name in it changed to another of the same length. */
function renamed(from: string, to: string): Uint8Array {
  const text = Buffer.from(model).toString('latin1').replaceAll(from, to);
  return new Uint8Array(Buffer.from(text, 'latin1'));
}

describe('the pooled network', () => {
  it('gives the probabilities that ONNX Runtime gives', async () => {
    const network = load();
    const ids = (count: number, most: number) =>
      fc
        .array(fc.integer({ min: 0, max: count - 1 }), { minLength: 1, maxLength: most })
        .map((list) => Int32Array.from(list));
    await fc.assert(
      fc.asyncProperty(ids(TOKENS, 256), ids(HASH_BUCKETS, 399), async (tokenIds, hashIds) => {
        const expected = await byRuntime(tokenIds, hashIds);
        const actual = [...network(tokenIds, hashIds)];
        expect(actual).toHaveLength(expected.length);
        for (const [i, value] of actual.entries()) expect(value).toBeCloseTo(expected[i] ?? Number.NaN, 5);
      }),
      { numRuns: 200 },
    );
  });

  it('takes ids that no row has for the first, and none for one', async () => {
    const network = load();
    const expected = await byRuntime(Int32Array.of(0, 5), Int32Array.of(0));
    const actual = [...network(Int32Array.of(TOKENS, 5), new Int32Array())];
    for (const [i, value] of actual.entries()) expect(value).toBeCloseTo(expected[i] ?? Number.NaN, 5);
  });

  it('computes with what its source says', async () => {
    expect(Buffer.from(await assemble())).toEqual(KERNEL);
  });

  it('is not made of another graph, or of tensors that do not fit', () => {
    expect(readPooledNetwork(renamed('ReduceMax', 'ReduceMin'), instantiate)).toBeUndefined();
    expect(readPooledNetwork(renamed('hash_scale', 'hash_scalf'), instantiate)).toBeUndefined();
  });

  it('says what is wrong with bytes that are no model', () => {
    expect(() => readPooledNetwork(model.slice(0, 100_000), instantiate)).toThrow(
      /no ONNX file: it ends in the middle of a field/,
    );
    expect(() => readPooledNetwork(new Uint8Array(), instantiate)).toThrow(/no ONNX file: it has no graph/);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          expect(readPooledNetwork(bytes, instantiate)).toBeUndefined();
        } catch (error) {
          expect(String(error)).toMatch(/no ONNX file/);
        }
      }),
    );
  });
});
