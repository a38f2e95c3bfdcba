/**
 * ONNX Runtime Web inside workerd.
 *
 * A Worker can't compile WebAssembly from bytes, and ONNX Runtime only knows how to do that; so while the first session is created,
 * `WebAssembly.instantiate` takes the module that was compiled at deployment. The dummy binary makes the runtime use its embedded glue.
 * (Should `nodejs_compat` be switched on one day: the glue then takes workerd for Node unless `process.type` is "renderer" meanwhile.)
 */
import { env, InferenceSession, Tensor } from 'onnxruntime-web/wasm';
import { WEIGHTS_NAME, withoutWeights } from './outside-weights.ts';

export { Tensor };

/**
 * A session for `model` (ONNX bytes), on one thread.
 *
 * @param wasm ONNX Runtime's own module, compiled.
 */
export async function createSession(model: Uint8Array, wasm: WebAssembly.Module): Promise<InferenceSession> {
  env.logLevel = 'error';
  env.wasm.numThreads = 1;
  env.wasm.wasmBinary = new ArrayBuffer(0);
  const { instantiate } = WebAssembly;
  const precompiled = async (_: unknown, imports?: WebAssembly.Imports) => ({
    module: wasm,
    instance: await instantiate(wasm, imports),
  });
  Object.assign(WebAssembly, { instantiate: precompiled });
  try {
    return await InferenceSession.create(withoutWeights(model), {
      externalData: [{ path: WEIGHTS_NAME, data: model }],
      enableCpuMemArena: false,
      enableMemPattern: false,
    });
  } finally {
    Object.assign(WebAssembly, { instantiate });
  }
}
