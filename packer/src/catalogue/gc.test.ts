/**
 * Garbage collection over random histories of a catalogue, and against publishers at work.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Catalogue, type Digest, EMPTY_CATALOGUE, type ExpertVersion, resolveExpert } from '@signpost/contracts';
import {
  type ListedObject,
  type ObjectStore,
  openStore,
  readCatalogue,
  readExpert,
  updateCatalogue,
} from '@signpost/store';
import { interceptStore, STORE_KINDS, type StoreHome } from '@signpost/store/testing';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { promoted, rolledBack, withVersion } from './changes.ts';
import { collect, gc, planGc } from './gc.ts';
import { publish } from './publish.ts';
import { writeDelta } from './testing.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const START = Date.parse('2026-01-01T00:00:00Z');
const digestOf = (seed: number) => seed.toString(16).padStart(64, '0') as Digest;

type Step =
  | { readonly kind: 'publish'; readonly name: string; readonly seed: number; readonly channel: string }
  | {
      readonly kind: 'promote';
      readonly name: string;
      readonly seed: number;
      readonly channel: string;
      readonly share: number;
    }
  | { readonly kind: 'rollback'; readonly name: string; readonly channel: string }
  | { readonly kind: 'gc'; readonly graceMs: number }
  | { readonly kind: 'orphan'; readonly seed: number }
  | { readonly kind: 'wait'; readonly ms: number };

const name = fc.constantFrom('math', 'code');
const channel = fc.constantFrom('stable', 'next');
const seed = fc.nat(30);
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constant('publish' as const), name, seed, channel }),
  fc.record({ kind: fc.constant('promote' as const), name, seed, channel, share: fc.constantFrom(0.1, 0.5, 1) }),
  // Often, since it is what leaves versions to nobody.
  ...Array.from({ length: 3 }, () => fc.record({ kind: fc.constant('rollback' as const), name, channel })),
  fc.record({ kind: fc.constant('gc' as const), graceMs: fc.constantFrom(0, HOUR, 7 * DAY) }),
  fc.record({ kind: fc.constant('orphan' as const), seed }),
  fc.record({ kind: fc.constant('wait' as const), ms: fc.constantFrom(HOUR, 2 * DAY, 30 * DAY) }),
);

/** A store's content and clock, with each step done as the commands do it. */
class World {
  catalogue: Catalogue = EMPTY_CATALOGUE;
  readonly objects = new Map<string, ListedObject>();
  now = START;

  apply(one: Step): void {
    switch (one.kind) {
      case 'publish': {
        const digest = digestOf(one.seed);
        const key = this.#write(one.seed);
        const published = new Date(this.now).toISOString();
        const version = { digest, base: digestOf(99), key, bytes: 1, method: 'sign', published };
        this.catalogue = withVersion(this.catalogue, one.name, version, one.channel, 'demo');
        return;
      }
      case 'promote':
        this.#change(() => {
          const versions = this.catalogue.experts[one.name]?.versions ?? [];
          const selector = versions[one.seed % versions.length]?.digest ?? '';
          return promoted(this.catalogue, one.name, { ...one, selector });
        });
        return;
      case 'rollback':
        this.#change(() => rolledBack(this.catalogue, one.name, one.channel));
        return;
      case 'orphan':
        this.#write(one.seed);
        return;
      case 'wait':
        this.now += one.ms;
        return;
      case 'gc':
        this.#collect(one.graceMs);
        return;
      default:
        one satisfies never;
    }
  }

  #change(change: () => Catalogue): void {
    try {
      this.catalogue = change();
    } catch {
      // Not every step makes sense at any time.
    }
  }

  #write(of: number): string {
    for (let i = 0; ; i++) {
      const key = `experts/${digestOf(of)}.${i}`;
      if (key in (this.catalogue.tombstones ?? {})) continue;
      if (!this.objects.has(key)) this.objects.set(key, { key, bytes: 1, modified: new Date(this.now) });
      return key;
    }
  }

  #collect(graceMs: number): void {
    const before = this.catalogue;
    const plan = collect(before, [...this.objects.values()], new Map(), graceMs, new Date(this.now));
    const young = (time: number, limit: number) => this.now - time < limit;
    const removed = new Set(plan.versions.map((version) => `${version.name} ${version.digest}`));
    for (const [expertName, { versions, channels, history = {} }] of Object.entries(before.experts)) {
      const states = [
        ...Object.values(channels),
        ...Object.values(history).flatMap((all) => all.map((s) => s.targets)),
      ];
      for (const { digest } of states.flat()) expect(removed).not.toContain(`${expertName} ${digest}`);
      for (const { digest, published } of versions)
        if (young(Date.parse(published), graceMs)) expect(removed).not.toContain(`${expertName} ${digest}`);
    }
    const named = (catalogue: Catalogue) =>
      new Set(Object.values(catalogue.experts).flatMap(({ versions }) => versions.map(({ key }) => key)));
    const [namedBefore, namedAfter] = [named(before), named(plan.catalogue)];
    for (const { key, modified } of plan.objects) {
      expect(namedAfter).not.toContain(key);
      expect(plan.catalogue.tombstones).toHaveProperty([key]);
      // What a publisher has just written and not yet named.
      if (young(modified.getTime(), DAY) && !(key in (before.tombstones ?? {}))) expect(namedBefore).toContain(key);
      this.objects.delete(key);
    }
    this.catalogue = plan.catalogue;
    for (const key of namedAfter) expect([...this.objects.keys()]).toContain(key);
  }
}

describe('garbage', () => {
  it('is never what a channel, a rollback, a grace period or a publisher needs', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const world = new World();
        for (const one of steps) world.apply(one);
      }),
      { numRuns: 500 },
    );
  });

  it('is every version and object that nothing needs', () => {
    const world = new World();
    for (let i = 0; i < 14; i++) world.apply({ kind: 'publish', name: 'math', seed: i, channel: 'stable' });
    world.apply({ kind: 'wait', ms: 8 * DAY });
    world.apply({ kind: 'gc', graceMs: 7 * DAY });
    // The one on the channel, and ten to roll back to.
    expect(world.catalogue.experts.math?.versions.map(({ digest }) => digest)).toEqual(
      Array.from({ length: 11 }, (_, i) => digestOf(i + 3)),
    );
    expect(world.objects.size).toBe(11);
  });
});

describe.each(STORE_KINDS)('garbage in $name', ({ isThere, open }) => {
  if (!isThere()) {
    it.skip('is not tested here');
    return;
  }
  let home: StoreHome;
  let dir: string;
  let store: ObjectStore;
  let files: string[];
  beforeAll(async () => {
    home = await open();
    dir = await mkdtemp(join(tmpdir(), 'signpost-gc-'));
    files = await Promise.all([1, 2, 3].map((value) => writeDelta(join(dir, `${value}`), value)));
  });
  afterAll(async () => {
    await rm(dir, { recursive: true });
    await home.close();
  });
  beforeEach(() => {
    store = openStore(home.url());
  });
  const file = (i: number) => files[i] ?? '';
  const later = (ms: number) => new Date(Date.now() + ms);
  /** Leaves the first version to nobody: published, then forgotten. */
  const forget = async (): Promise<ExpertVersion> => {
    const { version } = await publish(store, file(0), { name: 'math' });
    await publish(store, file(1), { name: 'math' });
    await updateCatalogue(store, ({ experts: { math }, ...rest }) => {
      if (math === undefined) throw new Error('no math');
      const { history: _, ...left } = math;
      return { ...rest, experts: { math: left } };
    });
    return version;
  };

  it('is removed from the catalogue and the store, and nothing else is', async () => {
    const forgotten = await forget();
    expect((await gc(store, { graceMs: DAY })).versions).toEqual([]);
    const planned = await planGc(store, { graceMs: 0 });
    expect(planned.objects.map(({ key }) => key)).toEqual([forgotten.key]);
    expect(await store.head(forgotten.key)).toBeDefined();
    const { versions, objects } = await gc(store, { graceMs: 0 });
    expect(versions).toEqual([{ name: 'math', digest: forgotten.digest }]);
    expect(objects).toEqual(planned.objects);
    expect(await store.head(forgotten.key)).toBeUndefined();
    const { catalogue } = await readCatalogue(store);
    await readExpert(store, resolveExpert(catalogue, 'math', 'stable'));
    expect((await gc(store, { graceMs: 0 })).objects).toEqual([]);
  });

  it('is an object that nobody came to name, after a day', async () => {
    await publish(store, file(0), { name: 'math' });
    await store.write('experts/lost', new Uint8Array(1));
    expect((await gc(store, { graceMs: 0 })).objects).toEqual([]);
    const { objects } = await gc(store, { graceMs: 0, now: later(DAY + HOUR) });
    expect(objects.map(({ key }) => key)).toEqual(['experts/lost']);
    expect(await store.list('experts/')).toHaveLength(1);
  });

  it('is what an earlier run was killed before', async () => {
    const { key } = await forget();
    const killed = interceptStore(store, { delete: () => Promise.reject(new Error('killed')) });
    await expect(gc(killed, { graceMs: 0 })).rejects.toThrow('killed');
    expect((await gc(store, { graceMs: 0 })).objects.map((object) => object.key)).toEqual([key]);
    expect(await store.head(key)).toBeUndefined();
  });

  it('that is published again meanwhile is there when the catalogue names it', async () => {
    const { digest, key } = await forget();
    // Between the publisher's look at the object and its change of the catalogue, all of gc happens.
    let collected: unknown;
    const racing = interceptStore(store, {
      head: async (asked) => {
        const found = await store.head(asked);
        if (asked === key && found !== undefined) collected = await gc(store, { graceMs: 0 });
        return found;
      },
    });
    const { version } = await publish(racing, file(0), { name: 'math', channel: 'next' });
    expect(collected).toMatchObject({ versions: [{ name: 'math', digest }] });
    expect(version).toMatchObject({ digest, key: `experts/${digest}.1.delta.safetensors` });
    await readExpert(store, resolveExpert((await readCatalogue(store)).catalogue, 'math', 'next'));
  });

  it('that is published again while it is being removed stays', async () => {
    const { digest } = await forget();
    let isFirst = true;
    const racing = interceptStore(store, {
      list: async (prefix) => {
        const listed = await store.list(prefix);
        if (isFirst) await publish(store, file(0), { name: 'math', channel: 'next' });
        isFirst = false;
        return listed;
      },
    });
    expect((await gc(racing, { graceMs: 0 })).versions).toEqual([]);
    const version = resolveExpert((await readCatalogue(store)).catalogue, 'math', 'next');
    expect(version.digest).toBe(digest);
    await readExpert(store, version);
  });

  it('is not looked for without a catalogue', async () => {
    await store.write('experts/x', new Uint8Array(1));
    await expect(gc(store, { graceMs: 0, now: later(9 * DAY) })).rejects.toThrow(/has no catalogue.*right store\?/);
    expect(await store.head('experts/x')).toBeDefined();
  });

  it('publishers at once both end up in the catalogue', async () => {
    const results = await Promise.all(files.map((path, i) => publish(store, path, { name: 'math', channel: `c${i}` })));
    const { catalogue } = await readCatalogue(store);
    for (const [i, { version }] of results.entries()) {
      expect(resolveExpert(catalogue, 'math', `c${i}`)).toEqual(version);
      await readExpert(store, version);
    }
  });
});
