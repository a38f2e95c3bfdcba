import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type ConfigText, ConfigVersions, type VersionStore } from './versions.ts';

/** Versions and KV in memory. */
function create() {
  const rows: ConfigText[] = [];
  const kv: { text: string | undefined; number: number | undefined; fails: boolean } = {
    text: undefined,
    number: undefined,
    fails: false,
  };
  const clock = { now: 0 };
  const versions: VersionStore = {
    latest: () => rows.at(-1),
    byNumber: (number) => rows.find((row) => row.number === number),
    byDigest: (digest) => rows.findLast(({ sha256 }) => sha256 === digest),
    list: (limit) => rows.toReversed().slice(0, limit),
    add: (version) => void rows.push(version),
    remove: (number) =>
      void rows.splice(
        rows.findIndex((row) => row.number === number),
        1,
      ),
  };
  const config = new ConfigVersions({
    versions,
    kv: {
      read: async () => {
        await Promise.resolve();
        return kv.text === undefined ? undefined : { text: kv.text, number: kv.number };
      },
      write: async (text, number) => {
        await Promise.resolve();
        if (kv.fails) throw new Error('KV is down');
        Object.assign(kv, { text, number });
      },
    },
    now: () => ++clock.now,
  });
  const put = (text: string, expected: number | 'any') =>
    config.put({ text, expected, by: 'ada', message: `to ${text}` });
  const byHand = (text: string) => Object.assign(kv, { text, number: undefined });
  return { rows, kv, config, put, byHand };
}

describe('versions', () => {
  it('count from one, say who wrote what and when, and are all kept', async () => {
    const { config, put, kv } = create();
    expect(await config.current()).toBeUndefined();
    expect(await put('a', 0)).toMatchObject({ kind: 'written', version: { number: 1, by: 'ada', message: 'to a' } });
    expect(await put('b', 1)).toMatchObject({ kind: 'written', version: { number: 2 } });
    expect(kv).toMatchObject({ text: 'b', number: 2 });
    expect(await config.current()).toMatchObject({ number: 2, text: 'b' });
    expect((await config.list(10)).map(({ number, at }) => [number, at])).toEqual([
      [2, 2],
      [1, 1],
    ]);
    expect(config.byNumber(1)).toMatchObject({ text: 'a' });
  });

  it('are not added for a text that is the one in force', async () => {
    const { put } = create();
    await put('a', 0);
    expect(await put('a', 1)).toMatchObject({ kind: 'unchanged', version: { number: 1 } });
  });

  it('are refused where somebody else was quicker, over the API or by hand', async () => {
    const { put, byHand, config } = create();
    await put('a', 0);
    expect(await put('b', 0)).toEqual({ kind: 'conflict', latest: 1 });
    byHand('c');
    expect(await put('b', 1)).toEqual({ kind: 'conflict', latest: 2 });
    expect(await config.current()).toMatchObject({ number: 2, by: 'by hand', text: 'c' });
    expect(await put('b', 'any')).toMatchObject({ kind: 'written', version: { number: 3 } });
  });

  it('know an old text that was put back by hand, and go on from the latest number', async () => {
    const { put, byHand, config } = create();
    await put('a', 0);
    await put('b', 1);
    byHand('a');
    expect(await config.current()).toMatchObject({ number: 1, by: 'ada' });
    expect(await put('c', 2)).toEqual({ kind: 'conflict', latest: 1 });
    expect(await put('c', 1)).toMatchObject({ kind: 'written', version: { number: 3 } });
  });

  it('are not misled by a copy of KV’s that is still the one before', async () => {
    const { put, kv, config } = create();
    await put('a', 0);
    await put('b', 1);
    Object.assign(kv, { text: 'a', number: 1 });
    expect(await config.current()).toMatchObject({ number: 2, text: 'b' });
    expect(await put('c', 2)).toMatchObject({ kind: 'written', version: { number: 3 } });
  });

  it('are none where KV did not take the text', async () => {
    const { put, kv, rows, config } = create();
    await put('a', 0);
    kv.fails = true;
    await expect(put('b', 1)).rejects.toThrow('KV is down');
    expect(rows).toHaveLength(1);
    kv.fails = false;
    expect(await config.current()).toMatchObject({ number: 1 });
    expect(await put('b', 1)).toMatchObject({ kind: 'written', version: { number: 2 } });
  });

  it('lose nobody’s change, however many write at once', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 8 }), async (expected) => {
        const { put, rows, kv } = create();
        const results = await Promise.all(expected.map((number, i) => put(`text ${i}`, number)));
        // Each that was written followed exactly the version that it expected.
        results.forEach((result, i) => {
          if (result.kind === 'written') expect(result.version.number).toBe((expected[i] ?? 0) + 1);
          else expect(result.kind).toBe('conflict');
        });
        expect(rows.map(({ number }) => number)).toEqual(rows.map((_, i) => i + 1));
        expect(kv.text).toBe(rows.at(-1)?.text);
      }),
    );
  });
});
