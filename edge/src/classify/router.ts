/**
 * A router model at work: text → features → network → probabilities by label.
 */
import { Problem } from '@signpost/contracts';
import { parseRouterManifest, routerFeatures, WordPiece } from '@signpost/contracts/router';
import { Tensor } from 'onnxruntime-web/wasm';
import type { LoadedModel, RouterModel } from './classifier.ts';
import { type PoolingKernel, readPooledNetwork } from './pooled-network.ts';
import { createSession } from './runtime.ts';
import { type ObjectReader, type RouterFiles, readStoredRouter } from './source.ts';

export interface RouterSources {
  /** Object storage that may hold a router newer than the bundled one. */
  readonly store: ObjectReader;
  readonly bundled: RouterFiles;
  readonly wasm: RouterModules;
}

/** WebAssembly, compiled at deployment, since a Worker can't. */
export interface RouterModules {
  /** A new instance of `pooled-network.wasm`. */
  readonly pooled: () => PoolingKernel;
  /** ONNX Runtime's. */
  readonly runtime: WebAssembly.Module;
}

/**
 * Starts the stored router; without one, or where it doesn't start, the bundled one. `origin` says which, and why.
 *
 * @throws when the bundled one doesn't start either.
 */
export async function startRouter({ store, bundled, wasm }: RouterSources): Promise<LoadedModel> {
  let origin = 'bundled';
  try {
    const stored = await readStoredRouter(store);
    if (stored !== undefined) return { model: await startModel(stored, wasm), origin: 'R2' };
  } catch (error) {
    origin = `bundled, because the one in R2 is no good: ${error instanceof Error ? error.message : error}`;
  }
  return { model: await startModel(bundled, wasm), origin };
}

async function startModel({ manifest, tokenizer, model }: RouterFiles, wasm: RouterModules): Promise<RouterModel> {
  const { labels, threshold } = parseRouterManifest(JSON.parse(manifest));
  const wordPiece = new WordPiece(JSON.parse(tokenizer));
  const probabilitiesOf = readPooledNetwork(model, wasm.pooled) ?? (await startSession(model, wasm.runtime));
  return {
    labels,
    threshold,
    async classify(text) {
      const { tokenIds, hashIds } = routerFeatures(text, (part) => wordPiece.encode(part));
      const probabilities = await probabilitiesOf(tokenIds, hashIds);
      return Object.fromEntries(labels.map((label, i) => [label, Number(probabilities[i] ?? 0)]));
    },
  };
}

/** Any other graph of the same inputs and output. */
async function startSession(model: Uint8Array, wasm: WebAssembly.Module) {
  const session = await createSession(model, wasm);
  const vector = (ids: Int32Array) => new Tensor('int32', ids, [ids.length]);
  return async (tokenIds: Int32Array, hashIds: Int32Array) => {
    const { probabilities } = await session.run({ token_ids: vector(tokenIds), hash_ids: vector(hashIds) });
    if (!(probabilities?.data instanceof Float32Array))
      throw new Problem('the router model has no float32 output "probabilities"');
    return probabilities.data;
  };
}
