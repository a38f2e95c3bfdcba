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

/** A link through which one read goes after the other, and each a round trip after it was asked for. */
class Line {
  /** What a read takes of it. */
  chunkMs: number;
  readonly link: FairLink;
  #now = 0;
  #freeAt = 0;
  readonly #ends: { readonly at: number; readonly end: () => void }[] = [];

  constructor(roundTripMs: number, chunkMs: number) {
    this.chunkMs = chunkMs;
    const store = interceptStore(openStore('unused'), {
      read: () =>
        new Promise((resolve) => {
          this.#freeAt = Math.max(this.#freeAt, this.#now + roundTripMs) + this.chunkMs;
          this.#ends.push({ at: this.#freeAt, end: () => resolve({ bytes: 8, etag: '', data: new Uint8Array(8) }) });
        }),
    });
    const after = (ms: number, then: () => void) => void this.#ends.push({ at: this.#now + ms, end: then });
    this.link = new FairLink(store, 8, { now: () => this.#now, after });
  }

  /** Milliseconds that a load of so many reads takes. */
  async load(reads: number): Promise<number> {
    const began = this.#now;
    const share = this.link.share();
    const all = Promise.all(Array.from({ length: reads }, () => share.read('file', { range: { start: 0, end: 8 } })));
    await settled();
    while (this.#ends.length > 0) {
      const [next] = this.#ends.sort((a, b) => a.at - b.at).splice(0, 1);
      this.#now = next?.at ?? this.#now;
      next?.end();
      await settled();
    }
    await all;
    return this.#now - began;
  }
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
    expect(begun).toEqual(['large/1', 'large/2', 'small/1', 'large/3', 'small/2', 'large/4', 'large/5']);
  });

  it('gives loads as many bytes as each other, whatever the size of their chunks, and who comes later no more', async () => {
    const { store, open, begun } = driven();
    const link = new FairLink(store, 1);
    const read = (name: string, bytes: number, count: number) => {
      const share = link.share();
      return Array.from({ length: count }, (_, i) =>
        share.read(`${name}/${i}`, { range: { start: i * bytes, end: (i + 1) * bytes } }),
      );
    };
    const reads = [...read('large', 4, 10), ...read('small', 1, 40)];
    const served = () => {
      const of = (name: string, bytes: number) => bytes * begun.filter((key) => key.startsWith(name)).length;
      return { large: of('large', 4), small: of('small', 1), late: of('late', 2) };
    };
    const end = async (count: number) => {
      for (let i = 0; i < count; i++) {
        [...open.values()][0]?.();
        await settled();
      }
    };
    await settled();
    await end(25);
    const half = served();
    expect(Math.abs(half.large - half.small)).toBeLessThanOrEqual(4);
    reads.push(...read('late', 2, 5));
    await end(15);
    const later = served();
    expect(Math.abs(later.large - half.large - later.late)).toBeLessThanOrEqual(6);
    expect(Math.abs(later.small - half.small - later.late)).toBeLessThanOrEqual(6);
    await end(reads.length);
    await Promise.all(reads);
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

  it('lets an idle link’s first reads begin as fast as it carries them: each comes as early as it can', async () => {
    const [roundTripMs, chunkMs] = [50, 42];
    // Reads under way share the link.
    let now = 0;
    const reads = new Set<{
      readonly asked: number;
      left: number;
      readonly end: () => void;
      readonly take: () => void;
    }>();
    const timers = new Set<{ readonly at: number; readonly then: () => void }>();
    const store = interceptStore(openStore('unused'), {
      read: (_, { parts } = {}) =>
        new Promise((resolve) => {
          const end = () => resolve({ bytes: 8, etag: '', data: new Uint8Array() });
          reads.add({ asked: now, left: chunkMs, end, take: () => parts?.take(new Uint8Array(2), 0) });
        }),
    });
    const run = async (until: Promise<unknown>) => {
      let isDone = false;
      void until.then(() => {
        isDone = true;
      });
      for (await settled(); !isDone; now++, await settled()) {
        const flowing = [...reads].filter(({ asked }) => now >= asked + roundTripMs);
        for (const read of flowing) {
          const parts = Math.ceil((4 * read.left) / chunkMs);
          read.left -= 1 / flowing.length;
          if (Math.ceil((4 * Math.max(0, read.left - 1e-9)) / chunkMs) < parts) read.take();
          if (read.left > 1e-9) continue;
          reads.delete(read);
          read.end();
        }
        for (const timer of timers) {
          if (timer.at > now) continue;
          timers.delete(timer);
          timer.then();
        }
      }
    };
    const link = new FairLink(store, 8, { now: () => now, after: (ms, then) => timers.add({ at: now + ms, then }) });
    const load = async () => {
      const share = link.share();
      const began = now;
      const ends: number[] = [];
      const chunk = (_: unknown, i: number) =>
        share
          .read('file', { range: { start: 8 * i, end: 8 * (i + 1) }, parts: { bytes: 2, take: () => undefined } })
          .then(() => ends.push(now - began));
      await run(Promise.all(Array.from({ length: 40 }, chunk)));
      return ends.map((end, i) => end - (roundTripMs + (i + 1) * chunkMs));
    };
    // Nothing is known of it: the first two share it.
    expect((await load())[0]).toBeGreaterThan(chunkMs / 2);
    await load();
    for (let i = 0; i < 8; i++) {
      const late = await load();
      expect(late[0]).toBeLessThan(chunkMs / 4);
      expect(Math.max(...late)).toBeLessThan(2 * chunkMs);
      // Never idle between its first byte and its last.
      expect(late.at(-1)).toBeLessThan(chunkMs / 4);
    }
  });

  it.each([
    { what: 'one that a few reads fill', roundTripMs: 50, chunkMs: 42, least: 3, most: 5 },
    { what: 'one that all of them don’t fill', roundTripMs: 50, chunkMs: 1, least: 8, most: 8 },
    { what: 'one without delay', roundTripMs: 1, chunkMs: 42, least: 2, most: 4 },
    { what: 'one so fast that waiting doesn’t count', roundTripMs: 1, chunkMs: 3, least: 8, most: 8 },
  ])('has as many reads open as fill it, no more: $what', async ({ roundTripMs, chunkMs, least, most }) => {
    const line = new Line(roundTripMs, chunkMs);
    const { link } = line;
    const took = await line.load(100);
    expect(link.limit).toBeGreaterThanOrEqual(least);
    expect(link.limit).toBeLessThanOrEqual(most);
    // What a link of that rate and delay can do at best with so many at once, and a tenth.
    expect(took).toBeLessThan(1.1 * 100 * Math.max(chunkMs, (roundTripMs + chunkMs) / 8) + 4 * roundTripMs);
  });

  it('sees when a link that it knew carries more', async () => {
    const line = new Line(50, 42);
    await line.load(100);
    expect(await line.load(100)).toBeLessThan(1.1 * 42 * 100);
    line.chunkMs = 8;
    await line.load(100);
    expect(await line.load(100)).toBeLessThan(1.3 * 8 * 100);
  });
});
