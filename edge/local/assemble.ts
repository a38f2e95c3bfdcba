/**
 * Assembles the classifier's kernel: src/classify/pooled-network.wat → .wasm. A Worker can't compile WebAssembly, so the result is committed; a test holds it against
 * its source.
 */
import { readFile, writeFile } from 'node:fs/promises';
import wabt from 'wabt';

const SOURCE = new URL('../src/classify/pooled-network.wat', import.meta.url);

/** Bytes of the WebAssembly module. */
export async function assemble(): Promise<Uint8Array> {
  const { parseWat } = await wabt();
  const module = parseWat('pooled-network.wat', await readFile(SOURCE, 'utf8'), { simd: true });
  return module.toBinary({}).buffer;
}

if (import.meta.filename === process.argv[1])
  await writeFile(new URL('../src/classify/pooled-network.wasm', import.meta.url), await assemble());
