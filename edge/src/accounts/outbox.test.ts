import { describe, expect, it } from 'vitest';
import { type Batch, Outbox } from './outbox.ts';
import { SeriesCounts } from './series.ts';

const report = { isolate: 'i', breakers: {}, classifier: 'ready', rules: undefined };
const record = (id: string, chars = 10) => ({ id, tenant: undefined, at: 1, json: 'x'.repeat(chars) });

function create(send: (batch: Batch) => Promise<void> = async () => undefined) {
  const clock = { now: 1_000_000 };
  const sent: Batch[] = [];
  const wakes: (() => void)[] = [];
  const events: string[] = [];
  const counts = new SeriesCounts();
  const outbox = new Outbox({
    counts,
    report: () => report,
    send: async (batch) => {
      sent.push(batch);
      await send(batch);
    },
    sleep: () => new Promise((resolve) => void wakes.push(resolve)),
    now: () => clock.now,
    log: (event) => events.push(event),
  });
  const ids = () => sent.map(({ records }) => records.map(({ id }) => id).join(''));
  return { clock, sent, ids, wakes, events, counts, outbox };
}

describe('the outbox', () => {
  it('tells what many requests left in one call, kept running by the first of them', async () => {
    const { outbox, wakes, sent, ids, counts } = create();
    outbox.put(record('a'));
    const flush = outbox.due();
    outbox.put(record('b'));
    counts.add('signpost_retries_total', {});
    expect(outbox.due()).toBeUndefined();
    expect(sent).toEqual([]);
    wakes[0]?.();
    await flush;
    expect(ids()).toEqual(['ab']);
    expect(sent[0]).toMatchObject({ counts: [['signpost_retries_total', [1]]], report });
    // The next one has another.
    outbox.put(record('c'));
    expect(outbox.due()).toBeInstanceOf(Promise);
  });

  it('tells nothing where there is nothing', async () => {
    const { outbox, sent } = create();
    await outbox.flush();
    expect(sent).toEqual([]);
  });

  it('does not wait when it is full', async () => {
    const { outbox, ids } = create();
    for (let i = 0; i < 500; i++) outbox.put(record('a'));
    await outbox.due();
    expect(ids()[0]).toHaveLength(500);
  });

  it('tells again what could not be told', async () => {
    let fails = true;
    const { outbox, ids, counts, events } = create(async () => {
      if (fails) throw new Error('no object');
    });
    outbox.put(record('a'));
    counts.add('signpost_retries_total', {}, 2);
    await outbox.flush();
    fails = false;
    outbox.put(record('b'));
    await outbox.flush();
    expect(ids()).toEqual(['a', 'ab']);
    expect(counts.take()).toEqual([]);
    expect(events).toEqual(['decisions_untold']);
  });

  it('takes back what was on its way when its request was cancelled, and has another request take on the flush', async () => {
    let hangs = true;
    const { outbox, clock, ids } = create(() => (hangs ? new Promise(() => undefined) : Promise.resolve()));
    outbox.put(record('a'));
    void outbox.due();
    void outbox.flush();
    hangs = false;
    clock.now += 6_999;
    expect(outbox.due()).toBeUndefined();
    clock.now += 1;
    expect(outbox.due()).toBeInstanceOf(Promise);
    await outbox.flush();
    expect(ids()).toEqual(['a', 'a']);
  });

  it('drops what does not fit, and says how much', () => {
    const { outbox, counts } = create();
    for (let i = 0; i < 1_003; i++) outbox.put(record('a'));
    outbox.put(record('b', 2_000_001));
    expect(counts.take()).toEqual([['signpost_decisions_dropped_total{reason="outbox_full"}', [4]]]);
  });
});
