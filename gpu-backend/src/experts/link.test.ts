import type { ObjectStore } from '@signpost/store';
import { openStore } from '@signpost/store';
import { interceptStore } from '@signpost/store/testing';
import { describe, expect, it } from 'vitest';
import { FairLink } from './link.ts';

const settled = () => new Promise((resolve) => setImmediate(resolve));

/** A store whose reads end when the test says so. */
function driven(): { readonly store: ObjectStore; readonly open: Map<string, () => void>; readonly begun: string[] } {
  const open = new Map<string, () => void>();
  const begun: string[] = [];
  const store = interceptStore(openStore('unused'), {
    read: (key) =>
      new Promise((resolve) => {
        begun.push(key);
        open.set(key, () => {
          open.delete(key);
          resolve({ bytes: 0, etag: '', data: new Uint8Array() });
        });
      }),
  });
  return { store, open, begun };
}

describe('a link', () => {
  it('has so many reads open at once, and gives loads their turns', async () => {
    const { store, open, begun } = driven();
    const link = new FairLink(store, 2);
    const [large, small] = [link.share(), link.share()];
    const reads = [1, 2, 3, 4, 5].map((i) => large.read(`large/${i}`));
    reads.push(small.read('small/1'), small.read('small/2'));
    for (let i = 0; i < 7; i++) {
      await settled();
      expect(open.size).toBe(Math.min(2, 7 - i));
      [...open.values()][0]?.();
    }
    await Promise.all(reads);
    expect(begun).toEqual(['large/1', 'large/2', 'large/3', 'small/1', 'large/4', 'small/2', 'large/5']);
  });

  it('forgets a read whose load is gone', async () => {
    const { store, open, begun } = driven();
    const link = new FairLink(store, 1);
    const first = link.share().read('a');
    const controller = new AbortController();
    const gone = expect(link.share().read('b', { signal: controller.signal })).rejects.toThrow('left');
    const last = link.share().read('c');
    controller.abort(new Error('left'));
    await gone;
    open.get('a')?.();
    await settled();
    open.get('c')?.();
    await Promise.all([first, last]);
    expect(begun).toEqual(['a', 'c']);
  });
});
