/**
 * Packed deltas applied in the fused path, alone and mixed, against the logits that transformers gives for the merged weights.
 */
import { readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { argmax, Model, openCheckpoint, openDelta, Session, type SlotWeight } from '@signpost/engine';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pack } from './pack.ts';

interface GoldenCase {
  readonly input_ids: readonly number[];
  readonly last_logits: readonly number[];
  readonly greedy: readonly number[];
}

const GOLDEN = join(import.meta.dirname, '../../../test/golden');
const golden = JSON.parse(readFileSync(join(GOLDEN, 'delta/golden.json'), 'utf8')) as Record<string, GoldenCase[]>;
/** Slots in the order the packed files are loaded. */
const PACKED = [
  ['a', 'matrix', 1],
  ['a', 'row', 1],
  ['a', 'row', 2],
  ['b', 'row', 1],
  ['c', 'row', 1],
] as const;
const slotOf = (name: string) => PACKED.findIndex((parts) => parts.join('-') === name);
const BLOCKS = 8;

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-fused-'));
  const base = await openCheckpoint(join(GOLDEN, 'merge/base'));
  for (const [name, scale, planes] of PACKED) {
    const tuned = await openCheckpoint(join(GOLDEN, 'merge', name));
    await pack(base, tuned, { name, out: join(dir, `${name}-${scale}-${planes}`), scale, planes });
  }
});
afterAll(() => rm(dir, { recursive: true }));

describe.each([
  ['reference', 1e-3],
  ['cpu', 1e-2],
] as const)('on %s', (device, tolerance) => {
  let model: Model;
  beforeAll(async () => {
    const base = await openCheckpoint(join(GOLDEN, 'merge/base'));
    model = await Model.load(base, {
      device,
      slots: PACKED.length,
      kvBlocks: BLOCKS,
      blockTokens: 8,
      maxRows: 64,
      maxLogitRows: 64,
    });
    for (const [slot, parts] of PACKED.entries()) {
      const path = join(dir, parts.join('-'));
      model.loadExpert(slot, openDelta(new Uint8Array(await readFile(path)), path));
    }
  });
  afterAll(() => model.close());

  const mixtures: [string, SlotWeight[]][] = [
    ['base', []],
    ...PACKED.map((parts): [string, SlotWeight[]] => [parts.join('-'), [{ slot: slotOf(parts.join('-')), weight: 1 }]]),
    [
      'a-row-1 + 0.3 b-row-1',
      [
        { slot: slotOf('a-row-1'), weight: 1 },
        { slot: slotOf('b-row-1'), weight: 0.3 },
      ],
    ],
  ];
  it.each(mixtures)('%s has the golden logits and greedy tokens', async (name, mixture) => {
    const cases = golden[name] ?? [];
    expect(cases.length).toBeGreaterThan(0);
    for (const { input_ids, last_logits, greedy } of cases) {
      const logits = await new Session(model, BLOCKS, mixture).append(input_ids, 'last');
      const worst = last_logits.reduce((max, want, i) => Math.max(max, Math.abs(want - (logits[i] ?? Number.NaN))), 0);
      expect(worst).toBeLessThan(tolerance);
      expect(await new Session(model, BLOCKS, mixture).greedy(input_ids, greedy.length)).toEqual(greedy);
    }
  });

  it('an emptied slot is the base again', async () => {
    const [{ input_ids, greedy } = { input_ids: [], greedy: [] }] = golden.base ?? [];
    const slot = slotOf('c-row-1');
    model.clearSlot(slot);
    const logits = await new Session(model, BLOCKS, [{ slot, weight: 1 }]).append(input_ids, 'last');
    expect(argmax(logits)).toBe(greedy[0]);
  });
});

describe('a model', () => {
  it('refuses a delta for another base, and one that is cut short or altered in its header', async () => {
    const other = await Model.load(await openCheckpoint(join(GOLDEN, 'merge/a')), {
      device: 'reference',
      slots: 1,
      kvBlocks: 1,
      blockTokens: 8,
      maxRows: 8,
      maxLogitRows: 8,
    });
    const path = join(dir, 'b-row-1');
    const bytes = new Uint8Array(await readFile(path));
    expect(() => other.loadExpert(0, openDelta(bytes, path))).toThrow(
      /is a delta for base [0-9a-f]{64}, this base is [0-9a-f]{64}/,
    );
    expect(() => openDelta(bytes.subarray(0, bytes.length - 1), path)).toThrow(/truncated/);
    expect(() => openDelta(bytes.subarray(0, 100), path)).toThrow(/truncated/);
    expect(() => openDelta(bytes.with(20, 0xff), path)).toThrow(/the header is not JSON/);
    other.close();
  });
});
