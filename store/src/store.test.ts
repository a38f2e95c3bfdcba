import { randomUUID } from 'node:crypto';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ObjectStore, openStore, readCatalogue } from './index.ts';

const text = (value: string) => new TextEncoder().encode(value);

let root: string;
let store: ObjectStore;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'signpost-store-'));
  store = openStore(`file://${root}`);
});
afterEach(() => rm(root, { recursive: true }));

describe('a file store', () => {
  it('leaves the old object and no temporary file when a write fails half-way', async () => {
    await store.write('k', text('old'));
    const broken = async function* () {
      yield text('ne');
      throw new Error('link down');
    };
    await expect(store.write('k', broken())).rejects.toThrow('link down');
    expect((await store.read('k')).data).toEqual(text('old'));
    expect(await readdir(root)).toEqual(['k']);
  });

  it('takes over the lock of a process that is gone', async () => {
    await writeFile(join(root, 'k.lock'), '999999999');
    await store.write('k', text('1'), { ifNoneMatch: '*' });
    expect(await readdir(root)).toEqual(['k']);
  });

  it('keeps its own names to itself', async () => {
    await expect(store.write('x.tmp', text('x'))).rejects.toThrow(/is no object key/);
  });

  it('sweeps what a killed writer left, once it is old', async () => {
    await store.write('a/k', text('kept'));
    await writeFile(join(root, 'a', `lost.${randomUUID()}.tmp`), 'half');
    expect(await store.sweep(new Date(Date.now() - 60_000))).toEqual([]);
    expect(await store.sweep(new Date(Date.now() + 60_000))).toEqual(['a/lost']);
    expect(await readdir(join(root, 'a'))).toEqual(['k']);
  });
});

describe('the catalogue in a store', () => {
  it('is refused when it is not valid, by field', async () => {
    await store.write('catalogue.json', text('{"format":2}'));
    await expect(readCatalogue(store)).rejects.toThrow(/catalogue\.json: format/);
    await store.write('catalogue.json', text('{'));
    await expect(readCatalogue(store)).rejects.toThrow(/is not JSON/);
  });
});
