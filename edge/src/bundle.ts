/**
 * What is bundled with the Worker as modules: default rules, the router model, and the WebAssembly that runs it.
 */
import wasm from 'onnxruntime-web/ort-wasm-simd-threaded.wasm';
import model from '../../models/router/model.onnx';
import manifest from '../../models/router/router.json';
import tokenizer from '../../models/router/tokenizer.json';
import rules from '../../routing.yaml';
import type { RouterFiles } from './classify/source.ts';

export const bundledRules: string = rules;
export const bundledRouter: RouterFiles = { manifest, tokenizer, model: new Uint8Array(model) };
export const ortWasm: WebAssembly.Module = wasm;
