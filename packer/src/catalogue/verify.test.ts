/**
 * Verification of packed deltas: of whole ones, and of ones with a byte, a scale or a number altered.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Digest, encodeHeader, parseSafetensors, sha256 } from '@signpost/contracts';
import { type Checkpoint, openCheckpoint } from '@signpost/engine';
import { openFile, openStore } from '@signpost/store';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pack } from '../pack/pack.ts';
import { type DeltaStore, openDeltaSource } from './delta-source.ts';
import { inspect } from './inspect.ts';
import { publish } from './publish.ts';
import { type Verified, type VerifyOptions, verify } from './verify.ts';

const GOLDEN = join(import.meta.dirname, '../../../test/golden/merge');
const STEM = 'model.layers.0.mlp.down_proj';

let dir: string;
let base: Checkpoint;
let tuned: Checkpoint;
let bytes: Uint8Array;
let digest: Digest;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-verify-'));
  base = await openCheckpoint(join(GOLDEN, 'base'));
  tuned = await openCheckpoint(join(GOLDEN, 'a'));
  await pack(base, tuned, { name: 'a', out: join(dir, 'a'), scale: 'row', planes: 2 });
  bytes = new Uint8Array(await readFile(join(dir, 'a')));
  digest = await sha256(bytes);
});
afterAll(() => rm(dir, { recursive: true }));

async function verifyBytes(altered: Uint8Array, options: Omit<VerifyOptions, 'base'>): Promise<Verified> {
  const path = join(dir, 'altered');
  await writeFile(path, altered);
  const source = await openFile(path);
  try {
    return await verify(source, { base, ...options });
  } finally {
    await source.close();
  }
}

/** The delta with other metadata. */
function withMetadata(change: (metadata: Record<string, string>) => Record<string, string>): Uint8Array {
  const { tensors, metadata, headerBytes } = parseSafetensors(bytes, 'delta');
  return Buffer.concat([encodeHeader(tensors, change({ ...metadata })), bytes.subarray(headerBytes)]);
}

describe('verify', () => {
  it.each([
    ['a', 'row', 1],
    ['a', 'row', 2],
    ['b', 'matrix', 1],
    ['c', 'row', 1],
  ] as const)(
    'computes the errors that the packer stated for %s, %s scales, %i planes',
    async (name, scale, planes) => {
      const fineTune = await openCheckpoint(join(GOLDEN, name));
      const out = join(dir, `${name}-${scale}-${planes}`);
      const report = await pack(base, fineTune, { name, out, scale, planes });
      const source = await openFile(out);
      const { errors = {}, isDigestExpected } = await verify(source, { base, tuned: fineTune });
      await source.close();
      expect(isDigestExpected).toBe(false);
      expect(Object.keys(errors)).toEqual(Object.keys(report.errors));
      for (const [stem, error] of Object.entries(errors))
        expect(error).toBeCloseTo(report.errors[stem] ?? Number.NaN, 6);
    },
  );

  it('catches any one byte altered or missing in a published delta', async () => {
    const url = join(dir, 'store');
    const { version } = await publish(openStore(url), join(dir, 'a'), { name: 'math' });
    const where: DeltaStore = { store: openStore(url), trust: [] };
    const change = fc.tuple(fc.nat(bytes.byteLength - 1), fc.option(fc.integer({ min: 1, max: 255 })));
    await fc.assert(
      fc.asyncProperty(change, async ([at, flip]) => {
        const altered =
          flip === null
            ? Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1)])
            : bytes.with(at, (bytes[at] ?? 0) ^ flip);
        await writeFile(join(url, version.key), altered);
        const { source, version: expected } = await openDeltaSource('math@stable', where);
        const check = verify(source, { base, ...(expected === undefined ? {} : { digest: expected.digest }) });
        await expect(check).rejects.toThrow(`expected ${version.digest}: altered or truncated`);
        await source.close();
      }),
      { numRuns: 200 },
    );
    await writeFile(join(url, version.key), bytes);
    const { source } = await openDeltaSource(`math@${version.digest.slice(0, 8)}`, where);
    const { chunks } = version;
    if (chunks === undefined) return expect.unreachable('a published version has chunk hashes');
    const good = { base, digest: version.digest, chunks };
    expect(await verify(source, good)).toMatchObject({ digest, isDigestExpected: true });
    const others = { ...chunks, sha256: chunks.sha256.replace(/^./, (first) => (first === 'A' ? 'B' : 'A')) };
    await expect(verify(source, { ...good, chunks: others })).rejects.toThrow(/other hashes of its chunks/);
  });

  it('finds a wrong scale, sign words or exact value by the fine-tune alone', async () => {
    const { tensors } = parseSafetensors(bytes, 'delta');
    const offsetOf = (name: string) => tensors.find((tensor) => tensor.name === name)?.offset ?? Number.NaN;
    const scale = bytes.slice();
    const view = new DataView(scale.buffer);
    const at = offsetOf(`${STEM}.row_scale.0`);
    view.setFloat32(at, view.getFloat32(at, true) * 1.1, true);
    await expect(verifyBytes(scale, { tuned })).rejects.toThrow(
      /the relative error of model\.layers\.0\.mlp\.down_proj is 0\.\d+, its metadata states 0\.\d+ \(tolerance/,
    );
    const signs = bytes.slice();
    signs.fill(0x55, offsetOf(`${STEM}.sign.1`), offsetOf(`${STEM}.sign.1`) + 8);
    await expect(verifyBytes(signs, { tuned })).rejects.toThrow(/relative error of model\.layers\.0\.mlp\.down_proj/);
    const exact = bytes.slice();
    const norm = tensors.find(({ name }) => name.endsWith('norm.delta'));
    exact.set([0, 0x40], norm?.offset ?? Number.NaN);
    await expect(verifyBytes(exact, { tuned })).rejects.toThrow(/norm is kept exact, but its relative error is/);
  });

  it('names a stated error that is wrong, missing, or of nothing', async () => {
    const stating = (change: (errors: Record<string, number>) => Record<string, number>) =>
      verifyBytes(
        withMetadata(({ errors = '', ...rest }) => ({ ...rest, errors: JSON.stringify(change(JSON.parse(errors))) })),
        { tuned },
      );
    await expect(stating((errors) => ({ ...errors, [STEM]: 0.1 }))).rejects.toThrow(/its metadata states 0\.1/);
    await expect(stating(({ [STEM]: _, ...rest }) => rest)).rejects.toThrow(`states no error of ${STEM}`);
    await expect(stating((errors) => ({ ...errors, x: 1 }))).rejects.toThrow('an error of x, which is not in');
  });

  it('refuses another base, another fine-tune, and another digest', async () => {
    const other = await openCheckpoint(join(GOLDEN, 'b'));
    await expect(verifyBytes(bytes, { tuned: other })).rejects.toThrow(/was packed from fine-tune \w+, .*b is \w+/);
    await expect(verifyBytes(bytes, { digest: 'f'.repeat(64) as Digest })).rejects.toThrow(/expected f{64}/);
    const source = await openFile(join(dir, 'a'));
    await expect(verify(source, { base: other })).rejects.toThrow(/is a delta for base \w+, this base is/);
    await source.close();
  });
});

describe('inspect', () => {
  it('accounts for every byte, by group, and lists each matrix', async () => {
    const source = await openFile(join(dir, 'a'));
    const { groups, headerBytes, matrices, metadata } = await inspect(source);
    await source.close();
    const sum = Object.values(groups).reduce((total, { signs, scales, exact }) => total + signs + scales + exact, 0);
    expect(headerBytes + sum).toBe(bytes.byteLength);
    expect(headerBytes).toBe(parseSafetensors(bytes, 'delta').headerBytes);
    expect(Object.keys(groups).sort()).toEqual(['attention', 'embedding', 'mlp', 'norm']);
    expect(matrices.find(({ stem }) => stem === STEM)).toMatchObject({ planes: 2, error: metadata.errors[STEM] });
    expect(matrices).toHaveLength(Object.keys(metadata.errors).length);
  });
});
