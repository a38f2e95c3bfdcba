import { ApiError, type Digest, type ExpertVersion } from '@signpost/contracts';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { digestOf, versionOf as version } from './fixtures.ts';
import { type Lease, MAX_OVERTAKES, Residency } from './residency.ts';
import { SlotTable } from './slot-table.ts';

const never = new AbortController().signal;
const settled = async () => {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
};

const contentOf = (table: SlotTable) =>
  table
    .content()
    .map(({ digest }) => digest)
    .sort();

describe('a slot table', () => {
  it('never gives a slot in use to another digest, and evicts the least recently used', () => {
    const action = fc.oneof(fc.uniqueArray(fc.nat(6), { minLength: 1, maxLength: 3 }), fc.nat(20));
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 4 }), fc.array(action, { maxLength: 40 }), (slots, actions) => {
        const table = new SlotTable(slots, () => 0);
        const held: { slot: number; digest: Digest }[] = [];
        for (const step of actions) {
          if (typeof step === 'number') {
            const [out] = held.splice(step % Math.max(1, held.length), 1);
            if (out !== undefined) table.release(out.slot);
            continue;
          }
          const digests = step.map(digestOf);
          const acquired = table.acquire(step.map(version));
          const inUse = new Set(held.map(({ digest }) => digest));
          const distinct = new Set([...inUse, ...digests]);
          expect(acquired === undefined).toBe(distinct.size > slots);
          acquired?.forEach(({ slot }, i) => {
            const digest = digests[i] ?? digestOf(99);
            for (const other of held) expect(other.slot === slot).toBe(other.digest === digest);
            held.push({ slot, digest });
          });
          expect(table.free).toBe(slots - new Set(held.map(({ slot }) => slot)).size);
        }
      }),
    );
    const table = new SlotTable(2, () => 0);
    for (const name of [1, 2, 1]) for (const { slot } of table.acquire([version(name)]) ?? []) table.release(slot);
    table.acquire([version(3)]);
    expect(contentOf(table)).toEqual([digestOf(1), digestOf(3)]);
  });
});

describe('what gives up its slot', () => {
  const used = (table: SlotTable, name: number, bytes = 1) => {
    for (const { slot } of table.acquire([{ ...version(name), bytes }]) ?? []) table.release(slot);
  };

  it('is what is asked for least, however lately, and of two alike the one that costs less to bring in again', () => {
    const demand = new Map([1, 2, 3, 4].map((name) => [digestOf(name), name === 1 ? 5 : 1]));
    const table = new SlotTable(2, (digest) => demand.get(digest) ?? 0);
    for (const name of [1, 2, 3]) used(table, name);
    expect(contentOf(table)).toEqual([digestOf(1), digestOf(3)]);
    const bySize = new SlotTable(2, () => 1);
    used(bySize, 1, 100);
    used(bySize, 2, 10);
    used(bySize, 3, 10);
    expect(contentOf(bySize)).toEqual([digestOf(1), digestOf(3)]);
    expect(bySize.evictions).toBe(1);
  });

  it('is never a pinned expert, and pins that leave no room are no room', () => {
    const table = new SlotTable(2, () => 0);
    table.pin([digestOf(1)]);
    for (const name of [1, 2, 3, 4]) used(table, name);
    expect(contentOf(table)).toEqual([digestOf(1), digestOf(4)]);
    expect(table.free).toBe(1);
    expect(table.canHold([digestOf(2), digestOf(3)])).toBe(false);
    expect(table.canHold([digestOf(1), digestOf(3)])).toBe(true);
    expect(table.acquire([version(2), version(3)])).toBeUndefined();
    table.pin([]);
    used(table, 5);
    used(table, 6);
    expect(contentOf(table)).toEqual([digestOf(5), digestOf(6)]);
  });
});

/** A lease once all of it is loaded; none is kept of what can't be. */
async function acquire(residency: Residency, versions: readonly ExpertVersion[], signal: AbortSignal): Promise<Lease> {
  const lease = await residency.acquire(versions, signal);
  try {
    await lease.whole;
    return lease;
  } catch (error) {
    lease.release();
    throw error;
  }
}

describe('residency', () => {
  it('loads an expert once for all who ask while it loads, and serves it again from its slot', async () => {
    const loads: Digest[] = [];
    const residency = new Residency({
      slots: 2,
      load: async ({ digest }) => {
        loads.push(digest);
      },
    });
    const leases = await Promise.all([1, 1, 1].map((name) => acquire(residency, [version(name)], never)));
    expect(new Set(leases.flatMap(({ slots }) => slots)).size).toBe(1);
    for (const lease of leases) lease.release();
    (await acquire(residency, [version(1)], never)).release();
    expect(loads).toEqual([digestOf(1)]);
  });

  it('makes requests wait for a slot, and never fails them for it', async () => {
    const residency = new Residency({ slots: 1, load: async () => undefined });
    const first = await acquire(residency, [version(1)], never);
    const order: number[] = [];
    const rest = [2, 3].map((name) =>
      acquire(residency, [version(name)], never).then((lease) => [order.push(name), lease] as const),
    );
    await settled();
    expect(order).toEqual([]);
    first.release();
    for (const waiting of rest) (await waiting)[1].release();
    expect(order).toEqual([2, 3]);
  });

  it('refuses what is not to be loaded now, also who waits for a slot by then, and takes no slot for it', async () => {
    let why: string | undefined;
    const loads: Digest[] = [];
    const residency = new Residency({
      slots: 1,
      load: async ({ digest }) => void loads.push(digest),
      refusal: ({ digest }) => (digest === digestOf(1) ? undefined : why),
    });
    const first = await acquire(residency, [version(1)], never);
    const waiting = acquire(residency, [version(2)], never);
    await settled();
    why = 'the store is down';
    const refused = { status: 503, code: 'expert_unavailable', message: expect.stringContaining(why) };
    await expect(acquire(residency, [version(3)], never)).rejects.toMatchObject(refused);
    first.release();
    await expect(waiting).rejects.toMatchObject(refused);
    expect(residency.loadAhead(version(3), never)).toBeUndefined();
    // What is in a slot needs no load.
    const again = await acquire(residency, [version(1)], never);
    expect(again.isWhole).toBe(true);
    again.release();
    expect([loads, residency.state.evictions]).toEqual([[digestOf(1)], 0]);
  });

  it('gives the slot of a hopeless load to who can use it, when it has become so, and tells those who waited for it', async () => {
    let isHopeless = false;
    const residency = new Residency({
      slots: 1,
      load: ({ digest }, _, signal) =>
        digest === digestOf(1)
          ? new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
          : Promise.resolve(),
      isHopeless: (digest) => isHopeless && digest === digestOf(1),
    });
    const doomed = await residency.acquire([version(1)], never);
    const ends = expect(doomed.whole).rejects.toMatchObject({
      code: 'expert_unavailable',
      message: expect.stringContaining('the store does not answer, and its slot was needed'),
    });
    const served = residency.acquire([version(2)], never);
    await settled();
    residency.reconsider();
    await settled();
    expect(residency.state).toMatchObject({ waiting: 1, loading: [digestOf(1)] });
    isHopeless = true;
    residency.reconsider();
    await ends;
    doomed.release();
    const lease = await served;
    await lease.whole;
    lease.release();
    expect(residency.state).toMatchObject({ waiting: 0, resident: [digestOf(2)], loads: { cancelled: 1 } });
  });

  it('fails only those who wait for a load that fails, and tries again for the next', async () => {
    let isBroken = true;
    const residency = new Residency({
      slots: 1,
      load: async () => {
        if (isBroken) throw new Error('bytes missing');
      },
    });
    const failures = await Promise.allSettled([
      acquire(residency, [version(1)], never),
      acquire(residency, [version(1)], never),
    ]);
    for (const failure of failures) {
      expect(failure).toMatchObject({
        status: 'rejected',
        reason: { code: 'expert_unavailable', message: expect.stringContaining('bytes missing') },
      });
      expect((failure as PromiseRejectedResult).reason).toBeInstanceOf(ApiError);
    }
    expect(residency.state).toMatchObject({ slotsFree: 1, resident: [], loading: [] });
    isBroken = false;
    expect((await acquire(residency, [version(1)], never)).slots).toEqual([0]);
  });

  it('gives up a load when the last who waits for it leaves, and keeps its slot until it has ended', async () => {
    const signals: AbortSignal[] = [];
    let end: () => void = () => undefined;
    const residency = new Residency({
      slots: 1,
      load: (_version, _slot, signal) => {
        signals.push(signal);
        return new Promise((resolve, reject) => {
          end = () => (signal.aborted ? reject(signal.reason) : resolve());
        });
      },
    });
    const first = await residency.acquire([version(1)], never);
    const second = await residency.acquire([version(1)], never);
    expect(first.isWhole).toBe(false);
    first.release();
    expect(signals.map(({ aborted }) => aborted)).toEqual([false]);
    second.release();
    expect(signals.map(({ aborted }) => aborted)).toEqual([true]);
    // The same again, and another: neither gets the slot before who fills it has stopped.
    const again = residency.acquire([version(1)], never);
    const other = residency.acquire([version(2)], never);
    await settled();
    expect(residency.state).toMatchObject({ slotsFree: 0, loading: [], resident: [], waiting: 2 });
    end();
    const lease = await again;
    expect(signals.map(({ aborted }) => aborted)).toEqual([true, false]);
    end();
    await lease.whole;
    expect(residency.state).toMatchObject({ resident: [digestOf(1)], loads: { loaded: 1, cancelled: 1, failed: 0 } });
    lease.release();
    expect((await other).isWhole).toBe(false);
  });

  it('keeps a slot that is being filled for a mixture that has failed until it is filled', async () => {
    const ends = new Map<Digest, { readonly fill: () => void; readonly fail: (error: Error) => void }>();
    const held = new Map<number, Digest>();
    const residency = new Residency({
      slots: 2,
      load: ({ digest }, slot) =>
        new Promise((resolve, reject) => {
          const fill = () => {
            ends.delete(digest);
            held.set(slot, digest);
            resolve();
          };
          ends.set(digest, { fill, fail: reject });
        }),
    });
    const mixture = acquire(residency, [version(1), version(2)], never);
    const refused = expect(mixture).rejects.toThrow('bytes missing');
    ends.get(digestOf(1))?.fail(new Error('bytes missing'));
    await settled();
    const others = [3, 4].map((name) => acquire(residency, [version(name)], never));
    await settled();
    // Whoever took the slot of 2 before 2 was in would now find it overwritten.
    for (const name of [3, 4, 2]) ends.get(digestOf(name))?.fill();
    await refused;
    await settled();
    for (const name of [3, 4]) ends.get(digestOf(name))?.fill();
    for (const [i, lease] of (await Promise.all(others)).entries()) {
      expect(held.get(lease.slots[0] ?? -1)).toBe(digestOf(3 + i));
    }
  });

  it('bounds how often a waiting request is passed by others whose experts are resident', async () => {
    const residency = new Residency({ slots: 2, load: async () => undefined });
    const held = await Promise.all([1, 2].map((name) => acquire(residency, [version(name)], never)));
    let isServed = false;
    const waiting = acquire(residency, [version(3)], never).then((lease) => {
      isServed = true;
      return lease;
    });
    let passes = 0;
    const open: Lease[] = [...held];
    // Somebody always asks for a resident expert before the last user of it leaves.
    for (; !isServed && passes < 10 * MAX_OVERTAKES; passes++) {
      const next = acquire(residency, [version(1 + (passes % 2))], never);
      let lease: Lease | undefined;
      void next.then((granted) => {
        lease = granted;
      });
      await settled();
      if (lease !== undefined) open.push(lease);
      open.shift()?.release();
      await settled();
    }
    expect(passes).toBeLessThanOrEqual(MAX_OVERTAKES + 4);
    (await waiting).release();
  });

  it('forgets a request that leaves while it waits', async () => {
    const residency = new Residency({ slots: 1, load: async () => undefined });
    const first = await acquire(residency, [version(1)], never);
    const controller = new AbortController();
    const gone = acquire(residency, [version(2)], controller.signal);
    const next = acquire(residency, [version(3)], never);
    controller.abort(new Error('left'));
    await expect(gone).rejects.toThrow('left');
    first.release();
    expect((await next).slots).toEqual([0]);
    expect(residency.state.resident).toEqual([digestOf(3)]);
  });

  it('refuses a mixture that no waiting could ever serve', async () => {
    const residency = new Residency({ slots: 1, load: async () => undefined });
    await expect(acquire(residency, [version(1), version(2)], never)).rejects.toThrow(
      /2 experts, this region has 1 slots/,
    );
  });
});

describe('an operator', () => {
  it('evicts an expert from who comes next, not from who uses it', async () => {
    const loads: Digest[] = [];
    const residency = new Residency({
      slots: 2,
      load: async ({ digest }) => {
        loads.push(digest);
      },
    });
    const before = await acquire(residency, [version(1)], never);
    expect(residency.evict(digestOf(1))).toBe(true);
    expect(residency.evict(digestOf(1))).toBe(false);
    const after = await acquire(residency, [version(1)], never);
    expect(after.slots).not.toEqual(before.slots);
    expect(loads).toEqual([digestOf(1), digestOf(1)]);
    for (const lease of [before, after]) lease.release();
    expect(residency.state).toMatchObject({ slotsFree: 2, resident: [digestOf(1)] });
  });

  it('who pins leaves no mixture waiting that could never be served', async () => {
    const residency = new Residency({ slots: 2, load: async () => undefined });
    const used = await acquire(residency, [version(1)], never);
    const waiting = acquire(residency, [version(2), version(3)], never);
    residency.pin([digestOf(1)]);
    await expect(waiting).rejects.toMatchObject({
      code: 'too_many_experts',
      message: 'the mixture has 2 experts, this region has 2 slots, of which 1 is kept for pinned experts',
    });
    used.release();
    expect(residency.state.slotsFree).toBe(1);
  });
});
