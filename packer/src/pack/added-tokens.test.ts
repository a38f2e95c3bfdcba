/**
 * Fine-tunes with more rows than their base: packed, exported, merged and verified, against plain checkpoints with all the rows.
 */
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Digest, encodeHeader, parseSafetensors } from '@signpost/contracts';
import { type Checkpoint, Model, openCheckpoint, openDelta, Session } from '@signpost/engine';
import { openFile } from '@signpost/store';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inspect } from '../catalogue/inspect.ts';
import { verify } from '../catalogue/verify.ts';
import { mixtureRecipe } from '../merge/command.ts';
import { openMerge, ownDtype } from '../merge/merge.ts';
import { writeCheckpoint } from '../merge/write-checkpoint.ts';
import { GOLDEN, valuesOf, writeTensors } from '../source/fixtures.ts';
import { openSource } from '../source/open.ts';
import { checkSameModel } from '../source/same-model.ts';
import { growCheckpoint } from '../testing/index.ts';
import { type PackOptions, pack } from './pack.ts';

const UNTIED = join(GOLDEN, 'merge/base');
const TIED = join(GOLDEN, 'models/qwen2');
const EMBEDDING = 'model.embed_tokens.weight';
const BLOCKS = 4;

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-added-'));
});
afterAll(() => rm(dir, { recursive: true }));

let count = 0;
const fresh = (name: string) => join(dir, `${name}-${count++}`);

async function grown(base: string, rows: number, seed: number): Promise<string> {
  const out = fresh('grown');
  await growCheckpoint(base, out, { rows, seed, noise: 0.1 });
  return out;
}

async function packed(base: string, tuned: string, options: Partial<PackOptions> = {}): Promise<string> {
  const out = `${fresh('packed')}.delta.safetensors`;
  await pack(await openCheckpoint(base), await openCheckpoint(tuned), { name: 'grown', out, ...options });
  return out;
}

async function exported(base: string, deltas: readonly { location: string; weight: number }[]): Promise<string> {
  const { base: opened, checkpoint, tokenizer } = await openMerge(mixtureRecipe(base, deltas));
  const { out } = await writeCheckpoint(checkpoint, {
    out: fresh('plain'),
    dtypeOf: () => 'F32',
    maxShardBytes: 1e9,
    tokenizer,
  });
  expect(ownDtype(opened)({ name: EMBEDDING, shape: [1, 1] })).toBe(opened.tensors.get(EMBEDDING)?.info.dtype);
  return out;
}

function load(checkpoint: Checkpoint, device: 'cpu' | 'reference'): Promise<Model> {
  return Model.load(checkpoint, { device, slots: 3, kvBlocks: BLOCKS, blockTokens: 8, maxRows: 32, maxLogitRows: 32 });
}

async function loadDelta(model: Model, slot: number, path: string): Promise<void> {
  model.loadExpert(slot, openDelta(new Uint8Array(await readFile(path)), path));
}

/** Tokens of all kinds: the base's, and each of the added ones. */
const prompt = (vocab: number, rows: number) => [3, vocab, 17, ...Array.from({ length: rows }, (_, i) => vocab + i), 5];

function worst(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length);
  return a.reduce((max, value, i) => Math.max(max, value === b[i] ? 0 : Math.abs(value - (b[i] ?? Number.NaN))), 0);
}

describe.each([
  ['a head of its own', UNTIED],
  ['a tied head', TIED],
])('an expert with added rows, on a base with %s', (_, base) => {
  it.each(['reference', 'cpu'] as const)(
    'has the logits and greedy tokens of a plain checkpoint with all the rows, alone and in a mixture, on %s',
    async (device) => {
      const rows = 3;
      const [adding, other] = [
        await packed(base, await grown(base, rows, 5)),
        await packed(base, await grown(base, 0, 9)),
      ];
      const model = await load(await openCheckpoint(base), device);
      await loadDelta(model, 0, adding);
      await loadDelta(model, 1, other);
      const vocab = model.config.vocabSize;
      for (const weights of [[1], [0.5, 0.75]]) {
        const terms = weights.map((weight, i) => ({ location: [adding, other][i] ?? '', weight }));
        const plain = await load(await openCheckpoint(await exported(base, terms)), device);
        const mixture = weights.map((weight, slot) => ({ slot, weight }));
        const tokens = prompt(vocab, rows);
        const logits = await new Session(model, BLOCKS, mixture).append(tokens, 'all');
        expect(logits.length).toBe(tokens.length * (vocab + rows));
        expect(worst(logits, await new Session(plain, BLOCKS).append(tokens, 'all'))).toBeLessThan(1e-3);
        const greedy = await new Session(plain, BLOCKS).greedy(tokens, 12);
        expect(await new Session(model, BLOCKS, mixture).greedy(tokens, 12)).toEqual(greedy);
        plain.close();
      }
      model.close();
    },
  );

  it('leaves the base and other experts with their own tokens, and its width goes with it', async () => {
    const model = await load(await openCheckpoint(base), 'cpu');
    const alone = await new Session(model, BLOCKS).append([1, 2, 3], 'all');
    const vocab = model.config.vocabSize;
    await loadDelta(model, 2, await packed(base, await grown(base, 2, 3)));
    const beside = await new Session(model, BLOCKS).append([1, 2, 3], 'all');
    for (let row = 0; row < 3; row++) {
      const wide = beside.subarray(row * (vocab + 2), (row + 1) * (vocab + 2));
      expect(wide.slice(0, vocab)).toEqual(alone.slice(row * vocab, (row + 1) * vocab));
      expect([...wide.slice(vocab)]).toEqual([Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY]);
    }
    await expect(new Session(model, BLOCKS).append([vocab], 'last')).rejects.toThrow(/token \d+ does not exist/);
    model.clearSlot(2);
    expect(await new Session(model, BLOCKS).append([1, 2, 3], 'all')).toEqual(alone);
    model.close();
  });

  it('is the same packed again from its export, for any rows', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1 }), async (rows, seed) => {
        const tuned = await grown(base, rows, seed);
        const again = await exported(base, [{ location: await packed(base, tuned), weight: 1 }]);
        const [before, after] = [await openCheckpoint(tuned), await openCheckpoint(again)];
        await checkSameModel(await openCheckpoint(base), after);
        expect(after.config).toEqual(before.config);
        for (const name of [EMBEDDING, ...(before.config.tiedHead ? [] : ['lm_head.weight'])]) {
          const [from, to] = [valuesOf(before.tensors.get(name)), valuesOf(after.tensors.get(name))];
          const start = from.length - rows * before.config.hidden;
          expect(to.slice(start)).toEqual(from.slice(start));
        }
        expect((await inspectFile(await packed(base, again))).addedRows).toBe(rows);
      }),
      { numRuns: 12 },
    );
  });
});

async function inspectFile(path: string) {
  const source = await openFile(path);
  try {
    return await inspect(source);
  } finally {
    await source.close();
  }
}

async function verifyFile(path: string, tuned: string) {
  const source = await openFile(path);
  try {
    return await verify(source, { base: await openCheckpoint(UNTIED), tuned: await openCheckpoint(tuned) });
  } finally {
    await source.close();
  }
}

describe('added rows', () => {
  it('stay whatever the policy drops, and are counted in the bytes', async () => {
    const policy = [{ match: '*', as: 'drop' as const }];
    const { addedRows, groups, bytes, headerBytes } = await inspectFile(
      await packed(UNTIED, await grown(UNTIED, 3, 1), { policy }),
    );
    const addedBytes = 2 * 3 * 48 * 2;
    expect(addedRows).toBe(3);
    expect(groups).toEqual({ embedding: { params: 2, signs: 0, scales: 0, exact: 0, added: addedBytes } });
    expect(bytes - headerBytes).toBe(addedBytes);
  });

  it('are part of what is calibrated on, and so may tokens of prompts be', async () => {
    const tuned = await grown(UNTIED, 3, 4);
    const tokens = prompt(96, 3);
    const calibration = { sequences: [{ tokens, answerStart: 3 }], digest: 'a'.repeat(64) as Digest };
    const path = await packed(UNTIED, tuned, { calibration });
    await verifyFile(path, tuned);
  });

  it('are verified against the fine-tune', async () => {
    const tuned = await grown(UNTIED, 3, 6);
    const path = await packed(UNTIED, tuned);
    await verifyFile(path, tuned);
    const bytes = new Uint8Array(await readFile(path));
    const { tensors } = parseSafetensors(bytes, path);
    const added = tensors.find(({ name }) => name === 'lm_head.added');
    bytes[added?.offset ?? 0] = (bytes[added?.offset ?? 0] ?? 0) ^ 1;
    const altered = fresh('altered');
    await writeFile(altered, bytes);
    await expect(verifyFile(altered, tuned)).rejects.toThrow(/lm_head\.added holds other rows/);
  });

  it('of two merged models are refused with both names; of one they go into the merge', async () => {
    const [first, second] = [await grown(UNTIED, 2, 1), await grown(UNTIED, 2, 2)];
    const terms = (...locations: string[]) => locations.map((location) => ({ location, weight: 0.5 }));
    await expect(openMerge(mixtureRecipe(UNTIED, terms(first, second)))).rejects.toThrow(
      new RegExp(`${first} and ${second} both add tokens`),
    );
    const kept = await openMerge({ ...mixtureRecipe(UNTIED, terms(first, second)), tokenizerSource: 'base' });
    expect(kept.checkpoint.config.vocabSize).toBe(96);
    const { checkpoint } = await openMerge(mixtureRecipe(UNTIED, terms(join(GOLDEN, 'merge/a'), first)));
    const [merged, own] = [checkpoint, await openCheckpoint(first)].map((model) =>
      valuesOf(model.tensors.get(EMBEDDING)),
    );
    expect(merged?.slice(96 * 48)).toEqual(own?.slice(96 * 48));
  });

  it('of an adapter come with the embedding it saved', async () => {
    const tuned = await openCheckpoint(await grown(UNTIED, 2, 8));
    const folder = fresh('adapter');
    await cp(join(GOLDEN, 'peft/lora'), folder, { recursive: true });
    const saved = Object.fromEntries(
      [EMBEDDING, 'lm_head.weight'].map((name) => [
        `base_model.model.${name}`,
        { shape: [98, 48], values: valuesOf(tuned.tensors.get(name)) },
      ]),
    );
    await writeTensors(join(folder, 'adapter_model.safetensors'), saved);
    const base = await openCheckpoint(UNTIED);
    const adapted = await openSource(folder, { base });
    expect(adapted.config.vocabSize).toBe(98);
    const out = `${fresh('packed')}.delta.safetensors`;
    await pack(base, adapted, { name: 'adapted', out });
    expect((await inspectFile(out)).addedRows).toBe(2);
  });
});

describe('refused by name is', () => {
  const check = async (base: string, tuned: string) =>
    checkSameModel(await openCheckpoint(base), await openCheckpoint(tuned));

  it('a fine-tune with fewer rows, and said when only padding is missing', async () => {
    const padded = await grown(UNTIED, 4, 1);
    await expect(check(padded, UNTIED)).rejects.toThrow(
      /has 96 token rows, .* has 100: the base's tokens 96 to 99 have no/,
    );
    const vocab = Object.fromEntries(Array.from({ length: 90 }, (_, id) => [`t${id}`, id]));
    await writeFile(join(padded, 'tokenizer.json'), JSON.stringify({ model: { vocab } }));
    await expect(check(padded, UNTIED)).rejects.toThrow(
      /stand for no token; pad it to 100 \(resize_token_embeddings\)/,
    );
  });

  it('one with another vocabulary', async () => {
    const large = await grown(UNTIED, 4097, 1);
    await expect(check(UNTIED, large)).rejects.toThrow(/has 4193 token rows, .* has 96; an expert may add up to 4096/);
  });

  it('a delta whose header adds rows it may not', async () => {
    const bytes = new Uint8Array(await readFile(await packed(UNTIED, await grown(UNTIED, 2, 1))));
    const { tensors, metadata, headerBytes } = parseSafetensors(bytes, 'delta');
    const base = await openCheckpoint(UNTIED);
    const model = await load(base, 'cpu');
    const altered = (change: (name: string) => string, more: Record<string, string> = {}) =>
      Buffer.concat([
        encodeHeader(
          tensors.map((tensor) => ({ ...tensor, name: change(tensor.name) })),
          { ...metadata, ...more },
        ),
        bytes.subarray(headerBytes),
      ]);
    const open = (data: Uint8Array) => model.loadExpert(0, openDelta(data, 'delta'));
    expect(() => open(altered((name) => name.replace('lm_head.added', 'model.norm.added')))).toThrow(
      /model\.norm\.added: only model\.embed_tokens and lm_head can have added rows/,
    );
    expect(() => open(altered((name) => name.replace('model.embed_tokens.added', 'other')))).toThrow(
      /other is no part/,
    );
    const token = {
      id: 98,
      content: '<x>',
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    };
    const tokenizer = JSON.stringify({ added_tokens: [token] });
    expect(() => open(altered((name) => name, { tokenizer }))).toThrow(/token "<x>" has id 98, and there are 98 rows/);
    expect(() => open(altered((name) => name, { tokenizer: `{"chat_template":"${'x'.repeat(2 ** 20)}"}` }))).toThrow(
      /tokenizer: longer than 1048576 characters/,
    );
    model.close();
  });
});
