/**
 * Packed deltas against those that numpy made of the same checkpoints, bit for bit; and what the packer refuses.
 */
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { elementBytes, elementCount, encodeHeader, parseSafetensors, type TensorSpec } from '@signpost/contracts';
import { type Checkpoint, openCheckpoint, openDelta } from '@signpost/engine';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pack } from './pack.ts';

const GOLDEN = join(import.meta.dirname, '../../../test/golden');
const checkpoint = (name: string) => openCheckpoint(join(GOLDEN, 'merge', name));

let dir: string;
let base: Checkpoint;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-pack-'));
  base = await checkpoint('base');
});
afterAll(() => rm(dir, { recursive: true }));

async function tensors(
  path: string,
): Promise<Map<string, { dtype: string; shape: readonly number[]; data: Uint8Array }>> {
  const bytes = new Uint8Array(await readFile(path));
  const { tensors: list } = parseSafetensors(bytes, path);
  return new Map(
    list.map(({ name, dtype, shape, offset, bytes: length }) => [
      name,
      { dtype, shape, data: bytes.slice(offset, offset + length) },
    ]),
  );
}

describe('a packed delta', () => {
  it.each([
    ['a', 'row', 1],
    ['a', 'row', 2],
    ['a', 'matrix', 1],
    ['b', 'row', 1],
    ['c', 'row', 1],
  ] as const)(
    'of %s with %s scales and %i planes has the signs and scales that numpy computes',
    async (name, scale, planes) => {
      const out = join(dir, `${name}-${scale}-${planes}`);
      await pack(base, await checkpoint(name), { name, out, scale, planes });
      const [ours, golden] = [
        await tensors(out),
        await tensors(join(GOLDEN, 'delta', `${name}-${scale}-${planes}.safetensors`)),
      ];
      expect([...ours.keys()].sort()).toEqual([...golden.keys()].sort());
      for (const [tensor, want] of golden) {
        const got = ours.get(tensor);
        expect([tensor, got?.dtype, got?.shape]).toEqual([tensor, want.dtype, want.shape]);
        if (want.dtype !== 'F32') expect(Buffer.compare(want.data, got?.data ?? new Uint8Array()), tensor).toBe(0);
        else
          expectClose(
            new Float32Array(got?.data.buffer ?? new ArrayBuffer(0)),
            new Float32Array(want.data.buffer),
            tensor,
          );
      }
    },
  );

  it('stands in execution order and says where it comes from', async () => {
    const out = join(dir, 'order');
    const tuned = await checkpoint('c');
    const report = await pack(base, tuned, { name: 'order', out, scale: 'row', planes: 1 });
    const bytes = new Uint8Array(await readFile(out));
    const names = parseSafetensors(bytes, out).tensors.map((tensor) => tensor.name);
    expect(names[0]).toBe('model.embed_tokens.delta');
    expect(
      names
        .filter((tensor) => tensor.startsWith('model.layers.0.') && tensor.includes('_proj'))
        .map((tensor) => tensor.split('.')[4]),
    ).toEqual(
      ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'].flatMap((module) => [
        module,
        module,
      ]),
    );
    const { metadata } = openDelta(bytes, out);
    expect(metadata).toMatchObject({
      base: await base.digest(),
      source: await tuned.digest(),
      expert: 'order',
      parameters: { scale: 'row', planes: 1 },
    });
    for (const [matrix, error] of Object.entries(metadata.errors))
      expect(error).toBeCloseTo(report.errors[matrix] ?? Number.NaN, 7);
  });

  it('has the relative error that its own signs and scales give', async () => {
    const out = join(dir, 'error');
    const tuned = await checkpoint('a');
    const { errors } = await pack(base, tuned, { name: 'error', out, scale: 'row', planes: 2 });
    const stem = 'model.layers.0.mlp.down_proj';
    const before = bfloats(base.tensors.get(`${stem}.weight`)?.data);
    const difference = bfloats(tuned.tensors.get(`${stem}.weight`)?.data).map(
      (value, k) => value - (before[k] ?? Number.NaN),
    );
    const [param] = [...openDelta(new Uint8Array(await readFile(out)), out).params()].filter(
      (entry) => entry.stem === stem,
    );
    const inDim = 80;
    const left = difference.map((value, i) => {
      const [row, col] = [Math.floor(i / inDim), i % inDim];
      return (param?.delta.planes ?? []).reduce((rest, { signs, rowScale }) => {
        const bit = ((signs[row * Math.ceil(inDim / 32) + (col >> 5)] ?? 0) >>> (col & 31)) & 1;
        return rest - (rowScale[row] ?? 0) * (2 * bit - 1);
      }, value);
    });
    const norm = (values: readonly number[]) => Math.hypot(...values);
    expect(errors[stem]).toBeCloseTo(norm(left) / norm(difference), 6);
  });
});

describe('the packer', () => {
  it('refuses a fine-tune of another model, naming what differs', async () => {
    const other = await openCheckpoint(join(GOLDEN, 'models/llama'));
    await expect(pack(base, other, { name: 'x', out: join(dir, 'x'), scale: 'row', planes: 1 })).rejects.toThrow(
      /is no fine-tune of .*config \w+ is/,
    );
  });

  it('refuses a missing and an unknown tensor by name', async () => {
    await expect(packChanged(({ name }) => name !== 'model.norm.weight')).rejects.toThrow(
      /tensor model\.norm\.weight is missing/,
    );
    const extra = { name: 'model.extra.weight', dtype: 'BF16', shape: [1] } as const;
    await expect(packChanged(() => true, extra)).rejects.toThrow(/tensor model\.extra\.weight has no counterpart/);
  });

  it('refuses a fine-tune that changed nothing', async () => {
    await expect(pack(base, base, { name: 'x', out: join(dir, 'x'), scale: 'row', planes: 1 })).rejects.toThrow(
      /nothing to pack/,
    );
  });

  it('leaves nothing behind when it is stopped', async () => {
    const before = await readdir(dir);
    const controller = new AbortController();
    const options = {
      name: 'x',
      out: join(dir, 'stopped'),
      scale: 'row',
      planes: 1,
      signal: controller.signal,
    } as const;
    await expect(
      pack(base, await checkpoint('a'), { ...options, onProgress: () => controller.abort() }),
    ).rejects.toThrow(/abort/);
    expect(await readdir(dir)).toEqual(before);
  });

  it('refuses weights that are not finite', async () => {
    const changed = join(dir, 'nan');
    await cp(join(GOLDEN, 'merge/a'), changed, { recursive: true });
    const file = join(changed, 'model.safetensors');
    const bytes = new Uint8Array(await readFile(file));
    const tensor = parseSafetensors(bytes, file).tensors.find(({ name }) => name.includes('down_proj'));
    bytes.set([0xc0, 0x7f], tensor?.offset ?? 0);
    await writeFile(file, bytes);
    await expect(
      pack(base, await openCheckpoint(changed), { name: 'x', out: join(dir, 'x'), scale: 'row', planes: 1 }),
    ).rejects.toThrow(/down_proj.*not finite/);
  });
});

/** Packs a copy of fine-tune `a` that has only the tensors kept, and one more. */
async function packChanged(keep: (tensor: TensorSpec) => boolean, extra?: TensorSpec): Promise<unknown> {
  const changed = await mkdtemp(join(dir, 'changed-'));
  await cp(join(GOLDEN, 'merge/a/config.json'), join(changed, 'config.json'));
  const source = (await checkpoint('a')).tensors;
  const kept = [...source.values()].filter(({ info }) => keep(info));
  const specs: TensorSpec[] = [...kept.map(({ info }) => info), ...(extra === undefined ? [] : [extra])];
  const tail = extra === undefined ? 0 : elementCount(extra.shape) * elementBytes(extra.dtype);
  await writeFile(
    join(changed, 'model.safetensors'),
    Buffer.concat([encodeHeader(specs, {}), ...kept.map(({ data }) => data), new Uint8Array(tail)]),
  );
  return pack(base, await openCheckpoint(changed), { name: 'x', out: join(dir, 'x'), scale: 'row', planes: 1 });
}

function bfloats(data: Uint8Array | undefined): number[] {
  const copy = data?.slice() ?? new Uint8Array();
  const words = Uint32Array.from(new Uint16Array(copy.buffer), (half) => half * 0x10000);
  return [...new Float32Array(words.buffer)];
}

function expectClose(got: Float32Array, want: Float32Array, tensor: string): void {
  expect(got.length, tensor).toBe(want.length);
  want.forEach((value, i) => {
    // One unit in the last place of F32: sums in float64 may be taken in another order.
    expect(Math.abs((got[i] ?? Number.NaN) - value), `${tensor}[${i}]`).toBeLessThanOrEqual(Math.abs(value) * 2 ** -23);
  });
}
