/**
 * A router model at work: text → network → probabilities by label.
 */
import { Problem } from '@signpost/contracts';
import { parseRouterManifest, type RouterManifest, routerFeatures, WordPiece } from '@signpost/contracts/router';
import type { ClassifierOptions, LoadedModel } from './classifier.ts';
import { type PoolingKernel, readPooledNetwork } from './pooled-network.ts';
import {
  BUNDLED,
  type ObjectReader,
  pointerOf,
  type RouterFiles,
  readStoredRouter,
  readStoredVersion,
} from './source.ts';

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

/** The routers that a classifier may be given. */
export function routerLibrary({
  store,
  bundled,
  wasm,
}: RouterSources): Pick<ClassifierOptions, 'newest' | 'load' | 'bundled'> {
  return {
    newest: () => readStoredVersion(store),
    async load(version) {
      if (version === BUNDLED) return startModel(bundled, wasm, BUNDLED, BUNDLED);
      const pointer = pointerOf(version);
      const files = await readStoredRouter(store, pointer);
      return startModel(files, wasm, version, `R2, ${pointer.model.slice(0, 12)}`);
    },
    bundled: (why) => startModel(bundled, wasm, BUNDLED, `bundled, because the one in R2 is no good: ${why}`),
  };
}

async function startModel(
  { manifest: json, tokenizer, model }: RouterFiles,
  wasm: RouterModules,
  version: string,
  origin: string,
): Promise<LoadedModel> {
  const manifest = parseRouterManifest(JSON.parse(json));
  const { labels, threshold } = manifest;
  const network = await startNetwork(manifest, JSON.parse(tokenizer), model, wasm);
  return {
    version,
    origin,
    release: network.release,
    model: {
      labels,
      threshold,
      async classify(text) {
        const values = await network.run(text);
        const probabilities: Record<string, number> = {};
        for (let i = 0; i < labels.length; i++) probabilities[labels[i] ?? ''] = values[i] ?? 0;
        return probabilities;
      },
    },
  };
}

/** Text → probabilities. (labels) */
interface Network {
  run(text: string): Promise<Float32Array>;
  release(): Promise<void>;
}

async function startNetwork(
  manifest: RouterManifest,
  tokenizer: unknown,
  model: Uint8Array,
  wasm: RouterModules,
): Promise<Network> {
  switch (manifest.kind) {
    case 'transformer': {
      // As the runtime below: not evaluated where there is no transformer.
      const { startTransformer } = await import('./transformer.ts');
      return startTransformer(manifest, tokenizer, model, wasm.runtime);
    }
    case 'features':
    case undefined: {
      const wordPiece = new WordPiece(tokenizer);
      const pooled = readPooledNetwork(model, wasm.pooled);
      const network =
        pooled === undefined ? await startSession(model, wasm.runtime) : { run: pooled, release: async () => {} };
      return {
        release: network.release,
        async run(text) {
          const { tokenIds, hashIds } = routerFeatures(text, (part) => wordPiece.encode(part));
          return network.run(tokenIds, hashIds);
        },
      };
    }
    default:
      return manifest satisfies never;
  }
}

/** Any other graph of the same inputs and output. */
async function startSession(model: Uint8Array, wasm: WebAssembly.Module) {
  // Half a megabyte that an edge with the packer's own router need not evaluate.
  const { createSession, Tensor } = await import('./runtime.ts');
  const session = await createSession(model, wasm);
  const vector = (ids: Int32Array) => new Tensor('int32', ids, [ids.length]);
  return {
    release: () => session.release(),
    async run(tokenIds: Int32Array, hashIds: Int32Array) {
      const { probabilities } = await session.run({ token_ids: vector(tokenIds), hash_ids: vector(hashIds) });
      if (!(probabilities?.data instanceof Float32Array))
        throw new Problem('the router model has no float32 output "probabilities"');
      return probabilities.data;
    },
  };
}
