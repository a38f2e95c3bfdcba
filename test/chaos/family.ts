/**
 * More experts than a region has slots for, each with answers of its own: the demo's, at several strengths.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { encodeHeader, parseSafetensors } from '@signpost/contracts';
import { openCheckpoint } from '@signpost/engine';
import { pack } from '@signpost/packer';

export const DEMO_BASE = join(import.meta.dirname, '../../models/demo/base');
const TUNES = ['chat', 'math', 'code'];
/** What row scales are multiplied by. */
const STRENGTHS = [1.2, 0.8, 0.4, -0.5, -0.9];
/** What the second version of each expert is multiplied by beyond that. */
const SECOND = -0.8;

export interface ExpertFiles {
  readonly name: string;
  readonly first: string;
  /** To be published in its place. */
  readonly second: string;
}

/** Writes a family whose files all have as many bytes, so that those of any number of them are known. */
export async function writeFamily(dir: string): Promise<{ readonly experts: ExpertFiles[]; readonly bytes: number }> {
  const base = await openCheckpoint(DEMO_BASE);
  const files = new Map<string, Uint8Array>();
  const experts: ExpertFiles[] = [];
  for (const tune of TUNES) {
    const out = join(dir, `${tune}.delta.safetensors`);
    const tuned = await openCheckpoint(join(DEMO_BASE, '../experts', tune));
    await pack(base, tuned, { name: tune, out, scale: 'row', planes: 1 });
    const packed = new Uint8Array(await readFile(out));
    for (const [i, strength] of STRENGTHS.entries()) {
      const name = `${tune}-${i}`;
      const [first, second] = [join(dir, `${name}.1`), join(dir, `${name}.2`)];
      experts.push({ name, first, second });
      files.set(first, varied(packed, name, strength));
      files.set(second, varied(packed, name, strength * SECOND));
    }
  }
  const bytes = Math.max(...Array.from(files.values(), ({ byteLength }) => byteLength));
  for (const [path, file] of files) await writeFile(path, padded(file, bytes));
  return { experts, bytes };
}

/** The same signs under another name, all row scales multiplied. */
function varied(file: Uint8Array, name: string, strength: number): Uint8Array {
  const { metadata, tensors, headerBytes } = parseSafetensors(file, name);
  const data = file.slice(headerBytes);
  for (const { name: tensor, offset, bytes } of tensors) {
    if (!/\.row_scale\.\d$/.test(tensor)) continue;
    const scales = new Float32Array(data.buffer, offset - headerBytes, bytes / 4);
    for (const [i, scale] of scales.entries()) scales[i] = scale * strength;
  }
  return joined(encodeHeader(tensors, { ...metadata, expert: name }), data);
}

/** The same file with a longer header: blanks are part of the format. */
function padded(file: Uint8Array, bytes: number): Uint8Array {
  const { headerBytes } = parseSafetensors(file, 'a variant');
  const header = new Uint8Array(headerBytes + bytes - file.byteLength).fill(0x20);
  header.set(file.subarray(0, headerBytes));
  new DataView(header.buffer).setBigUint64(0, BigInt(header.byteLength - 8), true);
  return joined(header, file.subarray(headerBytes));
}

function joined(header: Uint8Array, data: Uint8Array): Uint8Array {
  return new Uint8Array(Buffer.concat([header, data]));
}
