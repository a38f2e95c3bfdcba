import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeHeader } from '@signpost/contracts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readEmbedding, readPrompts } from './data.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-router-'));
});
afterAll(() => rm(dir, { recursive: true }));

async function file(name: string, contents: string | Uint8Array): Promise<string> {
  const path = join(dir, name);
  await writeFile(path, contents);
  return path;
}

describe('labelled prompts', () => {
  it('are read from JSON lines; a source may be missing', async () => {
    const path = await file('good.jsonl', '{"text":"a","label":"x","source":"s"}\n\n{"text":"b","label":"y","id":1}\n');
    expect(await readPrompts(path)).toEqual([
      { text: 'a', label: 'x', source: 's' },
      { text: 'b', label: 'y', source: 'unknown' },
    ]);
  });

  it.each([
    ['{"text":"a","label":"x"}\n{"text":', /bad\.jsonl:2 is not JSON/],
    ['{"text":"a"}', /bad\.jsonl:1: label: .*expected \{"text": string/],
    ['{"text":1,"label":"x"}', /bad\.jsonl:1: text: /],
    ['\n', /bad\.jsonl holds no rows/],
  ])('that are malformed are refused with file and line: %j', async (contents, message) => {
    await expect(readPrompts(await file('bad.jsonl', contents))).rejects.toThrow(message);
  });

  it('in a file that does not exist: an error that names it', async () => {
    await expect(readPrompts(join(dir, 'none.jsonl'))).rejects.toThrow(/none\.jsonl can't be read/);
  });
});

describe('token embeddings', () => {
  it('are int8 rows with a scale each', async () => {
    const header = encodeHeader(
      [
        { name: 'weight', dtype: 'I8', shape: [2, 2] },
        { name: 'scale', dtype: 'F32', shape: [2] },
      ],
      {},
    );
    const data = Buffer.concat([
      header,
      Uint8Array.of(1, 256 - 2, 3, 256 - 4),
      new Uint8Array(Float32Array.of(0.5, 2).buffer),
    ]);
    const { rows, dim, weight, scale } = await readEmbedding(await file('good.safetensors', data));
    expect([rows, dim, [...weight], [...scale]]).toEqual([2, 2, [1, -2, 3, -4], [0.5, 2]]);
  });

  it('of another layout are refused', async () => {
    const header = encodeHeader([{ name: 'weight', dtype: 'F32', shape: [2, 2] }], {});
    const path = await file('bad.safetensors', Buffer.concat([header, new Uint8Array(16)]));
    await expect(readEmbedding(path)).rejects.toThrow(/expected "weight" I8 \[n, d\] and "scale" F32 \[n\]/);
  });
});
