import { ApiError } from '@signpost/contracts';
import { describe, expect, it } from 'vitest';
import { RULES_MAX_AGE_MS, RulesStore } from './store.ts';

const rulesTo = (model: string, more = '') => `version: 1\nrules: [{ name: all, then: { model: ${model}${more} } }]`;

function create(bundled = rulesTo('base')) {
  const kv: { text: string | null | Error; number?: number } = { text: null };
  const clock = { now: 1_000_000 };
  const pending: Promise<unknown>[] = [];
  let reads = 0;
  const store = new RulesStore({
    bundled,
    regions: ['eu'],
    read: async () => {
      reads++;
      if (kv.text instanceof Error) throw kv.text;
      return kv.text === null ? undefined : { text: kv.text, number: kv.number };
    },
    now: () => clock.now,
    log: () => {},
  });
  /** The model that the rules in force send everything to, and where they come from. */
  const current = async () => {
    const inForce = await store.current((promise) => pending.push(promise));
    const [rule] = inForce.rules.rules;
    return { model: rule !== undefined && 'model' in rule.then ? rule.then.model : undefined, ...inForce };
  };
  const settled = async () => {
    await Promise.all(pending.splice(0));
    return current();
  };
  return { kv, clock, current, settled, reads: () => reads };
}

describe('rules in force', () => {
  it('are the bundled ones where KV has none', async () => {
    expect(await create().current()).toMatchObject({ model: 'base', source: 'bundled' });
  });

  it('are those in KV from the first request on', async () => {
    const { kv, current } = create();
    kv.text = rulesTo('math');
    expect(await current()).toMatchObject({ model: 'math', source: 'kv' });
  });

  it('are refreshed beside the requests once they have aged, and once at a time', async () => {
    const { kv, clock, current, settled, reads } = create();
    await current();
    kv.text = rulesTo('math');
    clock.now += RULES_MAX_AGE_MS - 1;
    expect(await current()).toMatchObject({ model: 'base' });
    expect(reads()).toBe(1);
    clock.now += 1;
    await Promise.all([current(), current(), current()]);
    expect(reads()).toBe(2);
    expect(await settled()).toMatchObject({ model: 'math' });
  });

  it.each([
    ['not YAML', 'rules: ['],
    ['no rules', 'version: 1\nrules: []'],
    ['a region that is not there', rulesTo('math', ', regions: [moon]')],
    ['a KV that fails', new Error('KV is down')],
  ])('stay the last good ones, with the reason, after %s', async (_, text) => {
    const { kv, clock, current, settled } = create();
    kv.text = rulesTo('math');
    await current();
    kv.text = text;
    clock.now += RULES_MAX_AGE_MS;
    await current();
    const kept = await settled();
    expect(kept).toMatchObject({ model: 'math', source: 'kv' });
    expect(kept.problem).toBeTruthy();
    kv.text = rulesTo('code');
    clock.now += RULES_MAX_AGE_MS;
    await current();
    const mended = await settled();
    expect(mended.model).toBe('code');
    expect(mended.problem).toBeUndefined();
  });

  it('are none at all where the bundled ones are wrong, too: a misconfiguration', async () => {
    const refusal = await create('rules: 1')
      .current()
      .catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(ApiError);
    expect(refusal).toMatchObject({ code: 'misconfigured', status: 500 });
  });
});
