/**
 * A team's own transformer at work, in ONNX Runtime.
 */
import type { TransformerManifest } from '@signpost/contracts/router';
import { SequenceClassifier } from '@signpost/contracts/router/sequence-classifier';
import { createSession, Tensor } from './runtime.ts';

/**
 * @param tokenizer the content of a `tokenizer.json`.
 * @param wasm ONNX Runtime's own module, compiled.
 * @throws Problem when graph, tokenizer and manifest don't fit together.
 */
export async function startTransformer(
  manifest: TransformerManifest,
  tokenizer: unknown,
  model: Uint8Array,
  wasm: WebAssembly.Module,
) {
  const session = await createSession(model, wasm);
  try {
    const classifier = new SequenceClassifier(
      {
        inputs: session.inputMetadata,
        outputs: session.outputMetadata,
        run: (inputs) =>
          session.run(
            Object.fromEntries(
              Object.entries(inputs).map(([name, ids]) => [name, new Tensor('int64', ids, [1, ids.length])]),
            ),
          ),
      },
      tokenizer,
      manifest,
    );
    await classifier.proveLength();
    return { run: (text: string) => classifier.classify(text), release: () => session.release() };
  } catch (error) {
    await session.release();
    throw error;
  }
}
