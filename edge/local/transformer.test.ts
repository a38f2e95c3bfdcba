/**
 * A transformer as the edge runs it, in Node: what PyTorch gives (test/golden/router/make.py), of a graph whose weights stay outside of it.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  golden,
  goldenManifest as manifest,
  parseGoldenRouter,
  readGoldenRouter,
} from '../../test/golden/router/golden.ts';
import { readOnnx } from '../src/classify/onnx.ts';
import { withoutWeights } from '../src/classify/outside-weights.ts';
import { startTransformer } from '../src/classify/transformer.ts';

const wasm = new WebAssembly.Module(
  readFileSync(join(import.meta.dirname, '../../node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm')),
);
const model = readGoldenRouter('onnx/model.onnx');

describe('a transformer at the edge', () => {
  it('gives the probabilities that PyTorch gives, and lets go of its session', async () => {
    // In the middle of a buffer, as a part of a larger download would be.
    const within = new Uint8Array(model.length + 3).subarray(3);
    within.set(model);
    const { run, release } = await startTransformer(manifest, parseGoldenRouter('tokenizer.json'), within, wasm);
    for (const { text, probabilities } of golden.cases)
      for (const [i, p] of (await run(text)).entries())
        expect(Math.abs(p - (probabilities[i] ?? Number.NaN)), JSON.stringify(text)).toBeLessThan(1e-4);
    await release();
    await expect(run('x')).rejects.toThrow();
  });

  it.each([
    ['another number of labels', { labels: [...golden.labels, 'more'] }, /logits of the shape \[1, 3\]; .* 4 labels/],
    ['more tokens than positions', { maxTokens: 64 }, /can't take the 64 tokens that router\.json says/],
  ])('is refused with %s', async (_, change, message) => {
    await expect(
      startTransformer({ ...manifest, ...change }, parseGoldenRouter('tokenizer.json'), model, wasm),
    ).rejects.toThrow(message);
  });

  it('is refused where its file is cut short', async () => {
    const cut = model.slice(0, model.length - 1);
    await expect(startTransformer(manifest, parseGoldenRouter('tokenizer.json'), cut, wasm)).rejects.toThrow(
      /the router model is no ONNX file: /,
    );
  });
});

describe('a graph without its weights', () => {
  it('has all its nodes and tensors, of which the large ones are elsewhere', () => {
    const slim = withoutWeights(model);
    const [whole, rest] = [readOnnx(model), readOnnx(slim)];
    expect(rest.nodes).toEqual(whole.nodes);
    const outside = [...whole.tensors].filter(([, { raw }]) => raw.length >= 1_024);
    expect(outside.length).toBeGreaterThan(5);
    for (const [name, tensor] of whole.tensors)
      expect(rest.tensors.get(name)).toEqual(tensor.raw.length < 1_024 ? tensor : { ...tensor, raw: new Uint8Array() });
    expect(slim.length).toBeLessThan(model.length - outside.reduce((sum, [, { raw }]) => sum + 0.9 * raw.length, 0));
  });
});
