import { createHash } from 'node:crypto';
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeHeader } from '@signpost/contracts';
import type * as kernels from '@signpost/kernels';
import { sha256Ranges } from '@signpost/kernels';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { hashedAhead, readCheckpointAhead, THREAD_BYTES } from './ahead.ts';

vi.mock('@signpost/kernels', async (original) => {
  const real = await original<typeof kernels>();
  return { ...real, sha256Ranges: vi.fn(real.sha256Ranges) };
});

const SMALL_BYTES = 1_000;
let dir: string;
let path: string;
let headerBytes: number;
beforeEach(async () => {
  vi.mocked(sha256Ranges).mockClear();
  dir = await mkdtemp(join(tmpdir(), 'signpost-ahead-'));
  path = join(dir, 'model.safetensors');
  const header = encodeHeader(
    [
      { name: 'large', dtype: 'U8', shape: [THREAD_BYTES] },
      { name: 'small', dtype: 'U8', shape: [SMALL_BYTES] },
    ],
    {},
  );
  headerBytes = header.byteLength;
  // Nothing of it but the header takes room on the disk.
  const file = await open(path, 'w');
  await file.write(header);
  await file.truncate(headerBytes + THREAD_BYTES + SMALL_BYTES);
  await file.close();
});
afterEach(() => rm(dir, { recursive: true }));

const ranges = () => [
  { path, offset: headerBytes, bytes: THREAD_BYTES },
  { path, offset: headerBytes + THREAD_BYTES, bytes: SMALL_BYTES },
];
const zeros = createHash('sha256').update(new Uint8Array(SMALL_BYTES)).digest('hex');

it('hashes a folder’s tensors once, for whoever asks for them in any order', async () => {
  readCheckpointAhead(dir);
  expect(sha256Ranges).toHaveBeenCalledTimes(1);
  const digests = await hashedAhead(ranges());
  expect(digests[1]).toBe(zeros);
  expect(await hashedAhead(ranges().toReversed())).toEqual(digests.toReversed());
  expect(sha256Ranges).toHaveBeenCalledTimes(1);
});

it('hashes anew what has been written to since, and what was not begun', async () => {
  readCheckpointAhead(dir);
  const file = await open(path, 'r+');
  await file.write(Uint8Array.of(1), 0, 1, headerBytes + THREAD_BYTES);
  await file.close();
  const [, small] = await hashedAhead(ranges());
  const changed = new Uint8Array(SMALL_BYTES).fill(1, 0, 1);
  expect(small).toBe(createHash('sha256').update(changed).digest('hex'));
  expect(sha256Ranges).toHaveBeenCalledTimes(2);
  await hashedAhead([{ path, offset: 0, bytes: 10 }]);
  expect(sha256Ranges).toHaveBeenCalledTimes(3);
});

it('begins nothing of a folder that is no checkpoint', async () => {
  await writeFile(path, 'x');
  readCheckpointAhead(dir);
  await writeFile(path, Buffer.alloc(100, 0xff));
  readCheckpointAhead(dir);
  readCheckpointAhead(join(dir, 'none'));
  expect(sha256Ranges).not.toHaveBeenCalled();
});

it('says what is wrong with a file to who asks, not to who began', async () => {
  readCheckpointAhead(dir);
  await rm(path);
  await writeFile(path, 'x');
  await expect(hashedAhead(ranges())).rejects.toThrow(/cut short/);
});
