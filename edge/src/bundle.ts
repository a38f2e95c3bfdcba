/**
 * What is bundled with the Worker as modules: default rules, the router model, and the WebAssembly that runs it.
 */

import model from '../../models/router/model.onnx';
import manifest from '../../models/router/router.json';
import tokenizer from '../../models/router/tokenizer.json';
import runtime from '../../node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm';
import rules from '../../routing.yaml';
import type { PoolingKernel } from './classify/pooled-network.ts';
import pooled from './classify/pooled-network.wasm';
import type { RouterModules } from './classify/router.ts';
import type { RouterFiles } from './classify/source.ts';

export const bundledRules: string = rules;
export const bundledRouter: RouterFiles = { manifest, tokenizer, model: new Uint8Array(model) };
export const routerModules: RouterModules = {
  pooled: () => new WebAssembly.Instance(pooled).exports as unknown as PoolingKernel,
  runtime,
};
