import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decide, holds, possibleDecisions, type RoutingFacts, type Truth } from './evaluate.ts';
import { type Condition, parseRoutingRules } from './rules.ts';

/** A condition as it is written in YAML. */
type Written = Record<string, unknown>;

const facts: RoutingFacts = {
  model: 'auto',
  tenant: 'acme',
  path: '/v1/chat/completions',
  headers: new Headers({ 'x-team': 'blue' }),
  continent: 'EU',
  country: 'DE',
  colo: 'FRA',
  prompt: 'What is 3 + 4?',
  body: { max_tokens: 50, stream: true, tools: [{ type: 'function' }], metadata: { team: 'blue' } },
  // A Tuesday.
  now: Date.UTC(2026, 10, 24, 9, 30),
  classification: { label: 'math', confidence: 0.8 },
};

function conditionOf(when: Written): Condition {
  const { rules } = parseRoutingRules(
    {
      version: 1,
      rules: [
        { name: 'r', when, then: { model: 'base' } },
        { name: 'last', then: { model: 'base' } },
      ],
    },
    'test',
  );
  return rules[0]?.when ?? {};
}

/**
 * The oracle: an unknown label is no third truth value here but every value it could take. A condition is true (false) when it is so
 * whatever the classifier would have said about that leaf, each leaf for itself, and unknown otherwise.
 */
function oracle(when: Written, about: RoutingFacts): Truth {
  const outcomes = new Set(possible(when, about));
  return outcomes.size > 1 ? 'unknown' : outcomes.has(true);
}

function possible(when: Written, about: RoutingFacts): boolean[] {
  let outcomes: boolean[] = [true];
  for (const [field, wanted] of Object.entries(when)) {
    const here = possibleField(field, wanted, about);
    outcomes = combine(outcomes, here, (a, b) => a && b);
  }
  return outcomes;
}

function possibleField(field: string, wanted: unknown, about: RoutingFacts): boolean[] {
  const list = (Array.isArray(wanted) ? wanted : [wanted]) as unknown[];
  const one = (value: unknown) => [list.includes(value)];
  const range = (value: number) => {
    const { min, max } = wanted as { min?: number; max?: number };
    return [!(min !== undefined && value < min) && !(max !== undefined && value > max)];
  };
  switch (field) {
    case 'all':
      return (wanted as Written[]).map((w) => possible(w, about)).reduce((a, b) => combine(a, b, (x, y) => x && y));
    case 'any':
      return (wanted as Written[]).map((w) => possible(w, about)).reduce((a, b) => combine(a, b, (x, y) => x || y));
    case 'not':
      return possible(wanted as Written, about).map((x) => !x);
    case 'header':
      return [
        Object.entries(wanted as Record<string, unknown>).every(([name, values]) => {
          const value = about.headers.get(name);
          return value !== null && (values === true || [values].flat().includes(value));
        }),
      ];
    case 'prompt':
      return [new RegExp(wanted as string).test(about.prompt)];
    case 'promptChars':
      return range(about.prompt.length);
    case 'body':
      return [
        Object.entries(wanted as Record<string, unknown>).every(([path, test]) => {
          let value: unknown = about.body;
          for (const key of path.split('.')) value = (value as Record<string, unknown> | undefined)?.[key];
          if (test === true) return value != null;
          if (typeof test === 'object' && !Array.isArray(test)) {
            const { min = -Infinity, max = Infinity } = test as { min?: number; max?: number };
            return typeof value === 'number' && value >= min && value <= max;
          }
          return ([test].flat() as unknown[]).includes(value);
        }),
      ];
    case 'time': {
      // Only what the arbitrary makes: UTC, whole hours.
      const { days, from = '00:00', to = '24:00' } = wanted as { days?: string[]; from?: string; to?: string };
      const [start, end] = [Number(from.slice(0, 2)), Number(to.slice(0, 2))];
      const hour = new Date(about.now).getUTCHours();
      const began = start < end || hour >= start ? about.now : about.now - 86_400_000;
      const isOpen = start < end ? hour >= start && hour < end : hour >= start || hour < end;
      const day = new Date(began).toUTCString().slice(0, 3).toLowerCase();
      return [isOpen && (days === undefined || days.includes(day))];
    }
    case 'label':
      return about.classification === undefined ? [true, false] : one(about.classification.label);
    case 'confidence':
      return about.classification === undefined ? [true, false] : range(about.classification.confidence);
    default:
      return one(about[field as 'model' | 'tenant' | 'path' | 'continent' | 'country' | 'colo']);
  }
}

function combine(a: boolean[], b: boolean[], by: (x: boolean, y: boolean) => boolean): boolean[] {
  return [...new Set(a.flatMap((x) => b.map((y) => by(x, y))))];
}

const oneOrMore = (...values: string[]) =>
  fc.oneof(fc.constantFrom(...values), fc.uniqueArray(fc.constantFrom(...values), { minLength: 1 }));
const rangeArbitrary = (unit: number) =>
  fc
    .tuple(fc.integer({ min: 0, max: 10 }), fc.integer({ min: 0, max: 10 }))
    .chain(([a, b]) =>
      fc.constantFrom<Written>(
        { min: a * unit },
        { max: b * unit },
        { min: Math.min(a, b) * unit, max: Math.max(a, b) * unit },
      ),
    );

const FIELDS: Readonly<Record<string, fc.Arbitrary<unknown>>> = {
  model: oneOrMore('auto', 'base', 'math'),
  tenant: oneOrMore('acme', 'umbrella'),
  path: oneOrMore('/v1/chat/completions', '/v1/completions'),
  header: fc.constantFrom<Written>(
    { 'x-team': true },
    { 'x-team': ['blue', 'red'] },
    { 'x-other': 'red' },
    { 'x-team': 'green', 'x-other': true },
  ),
  continent: oneOrMore('EU', 'NA'),
  country: oneOrMore('DE', 'US'),
  colo: oneOrMore('FRA', 'IAD'),
  prompt: fc.constantFrom('\\d', '^What', 'function', 'a+b'),
  promptChars: rangeArbitrary(3),
  label: oneOrMore('math', 'code', 'chat'),
  confidence: rangeArbitrary(0.1),
  body: fc.constantFrom<Written>(
    { max_tokens: { min: 100 } },
    { max_tokens: [50, 7], stream: true },
    { 'metadata.team': 'blue' },
    { tools: true, 'tools.0.type': 'function' },
    { 'metadata.team.name': true },
  ),
  time: fc.constantFrom<Written>(
    { from: '08:00', to: '18:00' },
    { from: '22:00', to: '06:00' },
    { days: ['mon', 'fri'] },
    { days: ['mon'], from: '20:00', to: '10:00' },
  ),
};

/** One to three fields, those of the classifier as likely as all others together. */
const leaf: fc.Arbitrary<Written> = fc
  .uniqueArray(fc.oneof(fc.constantFrom('label', 'confidence'), fc.constantFrom(...Object.keys(FIELDS))), {
    minLength: 1,
    maxLength: 3,
  })
  .chain((names) => fc.tuple(...names.map((name) => (FIELDS[name] ?? fc.constant(null)).map((value) => [name, value]))))
  .map((entries) => Object.fromEntries(entries) as Written);

const { condition } = fc.letrec<{ condition: Written }>((tie) => ({
  condition: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    leaf,
    fc.record({ not: tie('condition') }),
    fc.record({ all: fc.array(tie('condition'), { minLength: 1, maxLength: 3 }) }),
    fc.record({ any: fc.array(tie('condition'), { minLength: 1, maxLength: 3 }) }),
    fc.tuple(leaf, tie('condition')).map(([fields, not]): Written => ({ ...fields, not })),
  ),
}));

const factsArbitrary: fc.Arbitrary<RoutingFacts> = fc.record({
  model: fc.constantFrom('auto', 'base', 'math', 'other'),
  tenant: fc.constantFrom('acme', 'umbrella', undefined),
  path: fc.constantFrom('/v1/chat/completions', '/v1/completions'),
  headers: fc
    .constantFrom<Record<string, string>>({}, { 'x-team': 'blue' }, { 'x-team': 'green' }, { 'x-other': 'red' })
    .map((init) => new Headers(init)),
  continent: fc.constantFrom('EU', 'NA', undefined),
  country: fc.constantFrom('DE', 'US', undefined),
  colo: fc.constantFrom('FRA', 'IAD', undefined),
  body: fc.constantFrom<Record<string, unknown>>(
    {},
    { max_tokens: 50, stream: true, metadata: { team: 'blue' } },
    { max_tokens: 200, tools: [{ type: 'function' }], metadata: null },
  ),
  now: fc.integer({ min: Date.UTC(2026, 10, 22), max: Date.UTC(2026, 10, 29) }),
  prompt: fc.constantFrom('', 'What is 3 + 4?', 'write a function', 'aab', 'What a day'),
  classification: fc.constantFrom(
    undefined,
    { label: 'math', confidence: 0.8 },
    { label: 'code', confidence: 0.4 },
    { label: 'poetry', confidence: 1 },
  ),
});

describe('decide', () => {
  it('equals a naive oracle that tries every label a prompt could have', () => {
    fc.assert(
      fc.property(fc.array(condition, { maxLength: 5 }), factsArbitrary, (conditions, about) => {
        const rules = parseRoutingRules(
          {
            version: 1,
            rules: [
              ...conditions.map((when, i) => ({ name: `r${i}`, when, then: { model: `m${i}` } })),
              { name: 'last', then: { model: 'base' } },
            ],
          },
          'generated',
        );
        const truths = conditions.map((when) => oracle(when, about));
        const first = truths.indexOf(true);
        const passed = (first === -1 ? truths : truths.slice(0, first)).map((result, i) => ({ rule: `r${i}`, result }));
        expect(decide(rules, about)).toEqual({
          rule: first === -1 ? 'last' : `r${first}`,
          action: { model: first === -1 ? 'base' : `m${first}` },
          model: first === -1 ? 'base' : `m${first}`,
          passed,
        });
      }),
      { numRuns: 2_000 },
    );
  });

  it('takes the first rule that holds and says why those before it did not', () => {
    const rules = parseRoutingRules(
      {
        version: 1,
        rules: [
          { name: 'elsewhere', when: { continent: 'NA' }, then: { model: 'chat' } },
          { name: 'math', when: { label: 'math' }, then: { model: 'math' } },
          { name: 'rest', then: { refuse: 'closed' } },
        ],
      },
      'test',
    );
    expect(decide(rules, facts)).toEqual({
      rule: 'math',
      action: { model: 'math' },
      model: 'math',
      passed: [{ rule: 'elsewhere', result: false }],
    });
    expect(decide(rules, { ...facts, classification: undefined })).toEqual({
      rule: 'rest',
      action: { refuse: 'closed' },
      model: undefined,
      passed: [
        { rule: 'elsewhere', result: false },
        { rule: 'math', result: 'unknown' },
      ],
    });
  });
});

describe('holds', () => {
  it('honours every field of a condition: changing what one looks at makes it false', () => {
    const when: Written = {
      model: 'auto',
      tenant: 'acme',
      path: '/v1/chat/completions',
      header: { 'x-team': 'blue' },
      continent: 'EU',
      country: 'DE',
      colo: 'FRA',
      prompt: '3 \\+ 4',
      promptChars: { max: 20 },
      label: 'math',
      confidence: { min: 0.7 },
      body: { stream: true, 'metadata.team': ['blue', 'red'], max_tokens: { max: 50 } },
      time: { days: ['mon', 'tue'], from: '10:00', to: '11:00', zone: 'Europe/Berlin' },
      percent: 100,
      not: { model: 'base' },
      all: [{ tenant: 'acme' }],
      any: [{ tenant: 'umbrella' }, { colo: 'FRA' }],
    };
    expect(holds(conditionOf(when), facts, 'r')).toBe(true);
    const others: Written = {
      model: 'math',
      tenant: 'umbrella',
      path: '/v1/completions',
      header: { 'x-team': 'red' },
      continent: 'NA',
      country: 'US',
      colo: 'IAD',
      prompt: 'no such text',
      promptChars: { min: 1_000 },
      label: 'code',
      confidence: { max: 0.5 },
      body: { stream: true, 'metadata.team': 'red' },
      time: { days: ['mon', 'tue'], from: '10:00', to: '11:00' },
      percent: { of: 100, by: 'header x-missing' },
      not: { model: 'auto' },
      all: [{ tenant: 'acme' }, { tenant: 'umbrella' }],
      any: [{ tenant: 'umbrella' }],
    };
    for (const [field, other] of Object.entries(others))
      expect(holds(conditionOf({ ...when, [field]: other }), facts, 'r'), field).toBe(false);
  });

  it('leaves a negated label unknown while nobody has classified the prompt', () => {
    const unclassified = { ...facts, classification: undefined };
    expect(holds(conditionOf({ not: { label: 'math' } }), unclassified, 'r')).toBe('unknown');
    expect(holds(conditionOf({ any: [{ label: 'math' }, { model: 'auto' }] }), unclassified, 'r')).toBe(true);
    expect(holds(conditionOf({ label: 'math', model: 'base' }), unclassified, 'r')).toBe(false);
  });
});

describe('shares', () => {
  const tenants = Array.from({ length: 20_000 }, (_, i) => `tenant-${i}`);
  const of = (tenant: string): RoutingFacts => ({ ...facts, tenant });

  it('are as large as they say, stay with their key, and each rule deals for itself', () => {
    const tenth = conditionOf({ percent: 10 });
    const inside = tenants.filter((tenant) => holds(tenth, of(tenant), 'a') === true);
    // Three standard deviations of a binomial are 127.
    expect(Math.abs(inside.length - 2_000)).toBeLessThan(200);
    expect(inside.every((tenant) => holds(tenth, of(tenant), 'a') === true)).toBe(true);
    const both = inside.filter((tenant) => holds(tenth, of(tenant), 'b') === true);
    expect(Math.abs(both.length - 200)).toBeLessThan(60);
    // A share that grows keeps who was in it.
    expect(inside.every((tenant) => holds(conditionOf({ percent: 20 }), of(tenant), 'a') === true)).toBe(true);
  });

  it('of a split are as its weights say, by the header that it names', () => {
    const rules = parseRoutingRules(
      {
        version: 1,
        rules: [
          {
            name: 'ab',
            then: {
              split: [
                { model: 'math', weight: 3 },
                { model: 'math@next', weight: 1 },
              ],
              by: 'header x-user',
            },
          },
        ],
      },
      'test',
    );
    const modelFor = (user?: string) =>
      decide(rules, { ...facts, headers: new Headers(user === undefined ? {} : { 'x-user': user }) }).model;
    const next = tenants.filter((user) => modelFor(user) === 'math@next');
    expect(Math.abs(next.length - 5_000)).toBeLessThan(300);
    expect(modelFor(next[0])).toBe('math@next');
    expect(modelFor()).toBe('math');
  });
});

describe('possible decisions', () => {
  const generated = (conditions: readonly Written[]) =>
    parseRoutingRules(
      {
        version: 1,
        rules: [
          ...conditions.map((when, i) => ({ name: `r${i}`, when, then: { model: `m${i}` } })),
          { name: 'last', then: { model: 'base' } },
        ],
      },
      'generated',
    );
  const nothing = { prompt: false, header: () => false, body: () => false };
  const unsure = () => undefined;

  it('hold the real one, whatever was not recorded, and are that one alone where all was', () => {
    fc.assert(
      fc.property(
        fc.array(condition, { maxLength: 5 }),
        factsArbitrary,
        factsArbitrary,
        fc.record({ prompt: fc.boolean(), header: fc.boolean(), body: fc.boolean() }),
        (conditions, about, other, lacking) => {
          const rules = generated(conditions);
          // The request as it was: it differs from its record in what that lacks.
          const real = {
            ...about,
            ...(lacking.prompt
              ? { prompt: other.prompt.slice(0, about.prompt.length).padEnd(about.prompt.length, '1') }
              : {}),
            ...(lacking.header ? { headers: other.headers } : {}),
            ...(lacking.body ? { body: other.body } : {}),
          };
          const { rule, model } = decide(rules, real);
          const lacks = { prompt: lacking.prompt, header: () => lacking.header, body: () => lacking.body };
          expect(possibleDecisions(rules, { ...about, lacks }, unsure)).toContainEqual({
            rule,
            model,
            action: { model },
          });
          expect(possibleDecisions(rules, { ...real, lacks: nothing }, unsure)).toEqual([
            { rule, model, action: { model } },
          ]);
        },
      ),
      { numRuns: 2_000 },
    );
  });

  it('are fewer where fields that were recorded settle it, or what came of a rule is known', () => {
    const lacks = { prompt: true, header: (name: string) => name === 'x-new', body: (path: string) => path === 'user' };
    const possible = (when: Written, known: (rule: { name: string }) => boolean | undefined = unsure) =>
      possibleDecisions(generated([when]), { ...facts, lacks }, known).map(({ rule }) => rule);
    expect(possible({ prompt: 'What' })).toEqual(['r0', 'last']);
    expect(possible({ prompt: 'What', tenant: 'umbrella' })).toEqual(['last']);
    expect(possible({ any: [{ prompt: 'What' }, { tenant: 'acme' }] })).toEqual(['r0']);
    expect(possible({ not: { header: { 'x-new': true } } })).toEqual(['r0', 'last']);
    expect(possible({ header: { 'x-team': 'blue' }, body: { stream: true } })).toEqual(['r0']);
    expect(possible({ body: { user: 'a' } })).toEqual(['r0', 'last']);
    expect(possible({ percent: { of: 50, by: 'header x-new' } })).toEqual(['r0', 'last']);
    expect(possible({ percent: { of: 50, by: 'body user' } })).toEqual(['r0', 'last']);
    expect(possible({ percent: { of: 50, by: 'body metadata.team' } })).toHaveLength(1);
    expect(possible({ prompt: 'What' }, ({ name }) => (name === 'r0' ? false : undefined))).toEqual(['last']);
    expect(possible({ prompt: 'What' }, () => true)).toEqual(['r0']);
  });

  it.each([
    ['header x-team', { header: () => true }],
    ['body metadata.team', { body: () => true }],
  ])('don’t know which model a share comes to whose key, %s, was not recorded', (by, lacking) => {
    const split = [
      { model: 'a', weight: 1 },
      { model: 'b', weight: 1 },
    ];
    const rules = parseRoutingRules({ version: 1, rules: [{ name: 'all', then: { split, by } }] }, 'r');
    const modelWhere = (lacks: typeof nothing) => possibleDecisions(rules, { ...facts, lacks }, unsure)[0]?.model;
    expect(modelWhere({ ...nothing, ...lacking })).toBe('unknown');
    expect(modelWhere(nothing)).toBe(decide(rules, facts).model);
  });
});
