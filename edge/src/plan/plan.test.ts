import type { Catalogue, Digest, Heartbeat } from '@signpost/contracts';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { networkPrior } from './network.ts';
import { type PlanFacts, planRegions } from './plan.ts';
import { type Region, regionsSchema } from './regions.ts';

const FRANKFURT = { latitude: 50.1, longitude: 8.7, continent: 'EU' };
const VIRGINIA = { latitude: 38.9, longitude: -77.4, continent: 'NA' };
const SYDNEY = { latitude: -33.9, longitude: 151.2, continent: 'OC' };

const region = (name: string, place: object): Region => ({ name, url: `https://${name}.example`, ...place });
const REGIONS = [region('sydney', SYDNEY), region('virginia', VIRGINIA), region('frankfurt', FRANKFURT)];
const names = (plan: ReturnType<typeof planRegions>) => plan.map((planned) => planned.region.name);

const DIGESTS = ['1', '2'].map((letter) => letter.repeat(64) as Digest);
const [MATH, CANARY] = DIGESTS;
const version = (digest: Digest | undefined, bytes: number) => ({
  digest: digest ?? ('0'.repeat(64) as Digest),
  base: 'b'.repeat(64) as Digest,
  key: 'experts/x',
  bytes,
  method: 'sign',
  published: '2026-01-01T00:00:00Z',
});
const CATALOGUE: Catalogue = {
  format: 1,
  revision: 1,
  bases: {},
  experts: {
    math: {
      versions: [version(MATH, 50e6), version(CANARY, 100e6)],
      channels: {
        stable: [{ digest: version(MATH, 0).digest, weight: 1 }],
        shared: [
          { digest: version(MATH, 0).digest, weight: 9 },
          { digest: version(CANARY, 0).digest, weight: 1 },
        ],
      },
    },
  },
};
const heard = (name: string, more: Partial<Heartbeat> = {}) => ({
  beat: {
    region: name,
    draining: false,
    queuedTokens: 0,
    prefillTokensPerSecond: 1_000,
    pageInBytesPerSecond: { host: 1e9, store: 100e6 },
    experts: { device: [], host: [], loading: [] },
    ...more,
  } as unknown as Heartbeat,
  heardAt: 0,
});
const facts = (app: PlanFacts['app'], more: Partial<PlanFacts> = {}): PlanFacts => ({
  app,
  load: { model: 'math', promptTokens: 100 },
  beats: [],
  catalogue: CATALOGUE,
  networkMs: () => undefined,
  ...more,
});
const PARIS = { latitude: 48.9, longitude: 2.3 };
const at = (tier: 'device' | 'host' | 'loading', ...digests: (Digest | undefined)[]) => ({
  experts: { device: [], host: [], loading: [], [tier]: digests },
});

describe('the plan', () => {
  it('goes to the nearest region first', () => {
    expect(names(planRegions(REGIONS, undefined, facts(PARIS)))).toEqual(['frankfurt', 'virginia', 'sydney']);
    expect(names(planRegions(REGIONS, undefined, facts({ continent: 'OC' })))[0]).toBe('sydney');
  });

  it('keeps to the regions a rule allows', () => {
    expect(names(planRegions(REGIONS, ['sydney', 'virginia'], facts(FRANKFURT)))).toEqual(['virginia', 'sydney']);
  });

  it('keeps the configured order where nothing is known', () => {
    expect(names(planRegions(REGIONS, undefined, facts({})))).toEqual(['sydney', 'virginia', 'frankfurt']);
  });

  it('takes what was measured of the network for what geography says', () => {
    const networkMs = (name: string) => (name === 'frankfurt' ? 400 : undefined);
    const [first, , last] = planRegions(REGIONS, undefined, facts(PARIS, { networkMs }));
    expect([first?.region.name, last?.region.name]).toEqual(['virginia', 'frankfurt']);
    expect(last?.terms[0]).toEqual({ term: 'network', ms: 400, why: 'measured' });
  });

  it('leaves a region that drains for last, and one of whose containers only some drain where it is', () => {
    const draining = [heard('frankfurt', { draining: true }), heard('virginia')];
    expect(names(planRegions(REGIONS, undefined, facts(PARIS, { beats: draining })))).toEqual([
      'virginia',
      'sydney',
      'frankfurt',
    ]);
    const some = [...draining, heard('frankfurt')];
    expect(names(planRegions(REGIONS, undefined, facts(PARIS, { beats: some })))[0]).toBe('frankfurt');
  });

  it('goes where the expert is, when its way to the nearest region would take longer than the way to another', () => {
    const beats = [heard('frankfurt'), heard('virginia', at('device', MATH))];
    // 500 ms of page-in are more than the Atlantic.
    expect(names(planRegions(REGIONS, undefined, facts(PARIS, { beats })))[0]).toBe('virginia');
    const inMemory = [heard('frankfurt', at('host', MATH)), heard('virginia', at('device', MATH))];
    expect(names(planRegions(REGIONS, undefined, facts(PARIS, { beats: inMemory })))[0]).toBe('frankfurt');
    const queue = [
      heard('frankfurt', { queuedTokens: 500, ...at('device', MATH) }),
      heard('virginia', at('device', MATH)),
    ];
    expect(names(planRegions(REGIONS, undefined, facts(PARIS, { beats: queue })))[0]).toBe('virginia');
  });

  it('judges a region that nothing was heard of as the others on average', () => {
    const beats = [heard('frankfurt', { queuedTokens: 1_000 }), heard('virginia', { queuedTokens: 3_000 })];
    const plan = planRegions(REGIONS, undefined, facts({}, { beats, load: { model: 'base', promptTokens: 0 } }));
    expect(names(plan)).toEqual(['frankfurt', 'sydney', 'virginia']);
    expect(plan[1]?.terms.at(-1)).toMatchObject({ ms: 2_000, why: expect.stringMatching(/nothing heard/) });
  });

  it('goes elsewhere for what a region of which nothing was heard has been sent', () => {
    const sentSince: PlanFacts['sentSince'] = (name) => (name === 'frankfurt' ? 1_000 : 0);
    const plan = planRegions(REGIONS, undefined, facts(PARIS, { sentSince }));
    // Half a second at the usual rate is more than the Atlantic.
    expect(names(plan)[0]).toBe('virginia');
    expect(plan.find(({ region }) => region.name === 'frankfurt')?.terms.at(-1)).toEqual({
      term: 'queue',
      ms: 500,
      why: 'nothing heard of it; as the others on average, after about 1000 tokens that it was sent',
    });
  });

  it('is a sum of explained terms', () => {
    const beats = [heard('frankfurt', { queuedTokens: 7 }), heard('frankfurt', at('loading', MATH))];
    for (const { terms, totalMs } of planRegions(REGIONS, undefined, facts(FRANKFURT, { beats }))) {
      expect(terms.reduce((sum, { ms }) => sum + ms, 0)).toBeCloseTo(totalMs, 9);
      for (const { why } of terms) expect(why).not.toBe('');
    }
    const [frankfurt] = planRegions(REGIONS, ['frankfurt'], facts(FRANKFURT, { beats }));
    expect(frankfurt?.terms.slice(1)).toEqual([
      { term: 'queue', ms: 3.5, why: '7 prompt tokens wait' },
      // One container has it to bring in, the other is half way, for all that is known.
      { term: 'page-in', ms: 375, why: 'math cold, 50.0 MB and loading' },
      { term: 'prefill', ms: 100, why: 'about 100 tokens' },
    ]);
  });
});

describe('a page-in', () => {
  const pageIn = (model: string, more: Partial<Heartbeat>, catalogue: Catalogue | undefined) =>
    planRegions(REGIONS, ['frankfurt'], {
      ...facts(FRANKFURT, { beats: [heard('frankfurt', more)], load: { model, promptTokens: 1 } }),
      catalogue,
    })[0]?.terms.find(({ term }) => term === 'page-in');

  it.each([
    ['base', {}, 0, 'the base is always there'],
    ['math', {}, 500, 'math cold, 50.0 MB'],
    ['math', at('device', MATH), 0, 'math resident'],
    ['math', at('host', MATH), 50, 'math in memory'],
    ['math:1', { pageInBytesPerSecond: { host: null, store: null } }, 1_000, 'math cold, 50.0 MB'],
    ['math@shared', {}, 550, 'math cold, 50.0 MB, math cold, 100.0 MB'],
    ['math@shared', at('device', MATH), 100, 'math resident, math cold, 100.0 MB'],
    ['nobody', {}, 0, 'nobody unknown'],
  ])('of %s with %j is %d ms: %s', (model, more, ms, why) => {
    const term = pageIn(model, more as Partial<Heartbeat>, CATALOGUE);
    expect([Math.round((term?.ms ?? -1) * 1e6) / 1e6, term?.why]).toEqual([ms, why]);
  });

  it('is not known without a catalogue', () => {
    const term = pageIn('math', {}, undefined);
    expect(term).toMatchObject({ term: 'page-in', ms: 0, why: expect.stringMatching(/no catalogue/) });
  });
});

describe('the prefill of a prompt', () => {
  const prefill = (containers: number, cached: number) => {
    const beats = Array.from({ length: containers }, () => heard('frankfurt'));
    const load = {
      model: 'base',
      promptTokens: 100,
      cachedTokens: (name: string) => (name === 'frankfurt' ? cached : 99),
    };
    return planRegions([region('frankfurt', FRANKFURT)], undefined, facts(FRANKFURT, { beats, load }))[0]?.terms.at(-1);
  };

  it('is that of what the region has not cached', () => {
    expect(prefill(1, 0)).toEqual({ term: 'prefill', ms: 100, why: 'about 100 tokens' });
    expect(prefill(1, 80)).toEqual({ term: 'prefill', ms: 20, why: 'about 100 tokens, about 80 of them cached' });
    expect(prefill(4, 80)).toMatchObject({
      ms: 80,
      why: expect.stringMatching(/80 of them cached in one of 4 containers$/),
    });
    expect(prefill(1, 500)).toMatchObject({ ms: 0 });
  });
});

describe('the network prior', () => {
  it('is near what is measured between cities', () => {
    // Round trips of public latency tables: Frankfurt–Virginia about 90 ms, Frankfurt–Sydney about 250 to 290 ms.
    expect(networkPrior(FRANKFURT, VIRGINIA).ms).toBeGreaterThan(70);
    expect(networkPrior(FRANKFURT, VIRGINIA).ms).toBeLessThan(130);
    expect(networkPrior(FRANKFURT, SYDNEY).ms).toBeGreaterThan(200);
    expect(networkPrior(FRANKFURT, SYDNEY).ms).toBeLessThan(320);
    expect(networkPrior(FRANKFURT, FRANKFURT).ms).toBeLessThan(10);
  });

  it('is the same both ways, finite, and never more than half round the world', () => {
    const place = fc.record({
      latitude: fc.double({ min: -90, max: 90, noNaN: true }),
      longitude: fc.double({ min: -180, max: 180, noNaN: true }),
    });
    fc.assert(
      fc.property(place, place, (a, b) => {
        const { ms } = networkPrior(a, b);
        expect(ms).toBeCloseTo(networkPrior(b, a).ms, 6);
        expect(ms >= 3 && ms < 330).toBe(true);
      }),
    );
  });

  it('says what it does not know', () => {
    expect(networkPrior({}, FRANKFURT).why).toMatch(/app’s place is not known/);
    expect(networkPrior(FRANKFURT, {}).why).toMatch(/region states no place/);
    expect(networkPrior({ continent: 'EU' }, FRANKFURT).why).toMatch(/by continent/);
  });
});

describe('regions of other kinds', () => {
  const [lambda, team, spare] = regionsSchema.parse([
    {
      name: 'lambda',
      kind: 'lambda',
      function: 'f',
      awsRegion: 'eu-central-1',
      accessKeyIdSecret: 'ID',
      secretAccessKeySecret: 'KEY',
      coldStartMs: 3_000,
      ...FRANKFURT,
    },
    { name: 'team', kind: 'openai', url: 'https://llm.example', models: { math: 'm' }, ...FRANKFURT },
    { name: 'spare', url: 'https://spare.example', role: 'overflow', overflowAfterMs: 1_000, ...FRANKFURT },
  ]);
  if (lambda === undefined || team === undefined || spare === undefined) throw new Error('three were parsed');
  const virginia = region('virginia', VIRGINIA);
  const plan = (regions: readonly Region[], more: Partial<PlanFacts> = {}) =>
    planRegions(regions, undefined, facts(FRANKFURT, more));

  it('a Lambda function that has not answered of late is judged with its cold start', () => {
    const first = (ms: number | undefined) => plan([lambda, virginia], { sinceAnsweredMs: () => ms })[0]?.region.name;
    expect(first(undefined)).toBe('virginia');
    expect(first(299_999)).toBe('lambda');
    expect(first(300_000)).toBe('virginia');
    const [, planned] = plan([lambda, virginia]);
    expect(planned?.terms.map(({ term, ms }) => [term, ms]).slice(1)).toEqual([
      ['cold-start', 3_000],
      // 100 tokens at the usual rate.
      ['prefill', 50],
    ]);
  });

  it('a stranger is judged by what waits at its server, and asked only for models that it has', () => {
    const beats = [heard('virginia', at('device', MATH))];
    const first = (waiting: number) =>
      plan([team, virginia], { beats, foreignLoad: () => ({ waiting, running: 9 }) })[0]?.region.name;
    expect([first(0), first(4)]).toEqual(['team', 'virginia']);
    expect(names(plan([team, virginia], { load: { model: 'code', promptTokens: 1 } }))).toEqual(['virginia']);
  });

  it('overflow comes after the others, unless the best of them would take longer than it may', () => {
    const queued = (tokens: number) => [heard('virginia', { queuedTokens: tokens, ...at('device', MATH) })];
    const idle = plan([spare, virginia], { beats: queued(0) });
    expect(idle.map(({ region, isHeldBack }) => [region.name, isHeldBack])).toEqual([
      ['virginia', false],
      ['spare', true],
    ]);
    const busy = plan([spare, virginia], { beats: [...queued(2_000), heard('spare', at('device', MATH))] });
    expect(busy.map(({ region, isHeldBack }) => [region.name, isHeldBack])).toEqual([
      ['spare', false],
      ['virginia', false],
    ]);
    // Without a limit it is there for failures alone.
    const { overflowAfterMs: _, ...last } = spare;
    const patient = plan([last, virginia], { beats: [...queued(1e6), heard('spare', at('device', MATH))] });
    expect(names(patient)).toEqual(['virginia', 'spare']);
  });

  it('overflow is asked before a region that drains, and is not held back where nobody else is', () => {
    expect(names(plan([virginia, spare], { beats: [heard('virginia', { draining: true })] }))).toEqual([
      'spare',
      'virginia',
    ]);
    expect(plan([spare])[0]?.isHeldBack).toBe(false);
  });
});

describe('regions', () => {
  it.each([
    [[], /at least one region/],
    [[{ name: 'a', url: 'ftp://x' }], /http\(s\) URL/],
    [[{ name: 'a b', url: 'http://x' }], /letters, digits/],
    [[{ name: 'a', url: 'http://x', latitude: 1 }], /go together/],
    [[{ name: 'a', url: 'http://x', continent: 'XX' }], /continent/],
    [[{ name: 'a', url: 'http://x', weight: 1 }], /weight/],
    [['a', 'a'].map((name) => ({ name, url: 'http://x' })), /same name/],
    [[{ name: 'a', url: 'http://x', kind: 'ftp' }], /expected the kind/],
    [[{ name: 'a', url: 'http://x', overflowAfterMs: 5 }], /overflowAfterMs says nothing/],
    [[{ name: 'a', url: 'http://x', models: { base: 'x' } }], /models/],
  ])('that make no sense are refused: %j', (regions, message) => {
    expect(() => regionsSchema.parse(regions)).toThrow(message);
  });

  it('lose slashes at the end of their URL', () => {
    expect(regionsSchema.parse([{ name: 'a', url: 'https://x.example/api//' }])).toMatchObject([
      { url: 'https://x.example/api' },
    ]);
  });
});
