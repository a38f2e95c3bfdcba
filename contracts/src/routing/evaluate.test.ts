import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decide, holds, possibleDecisions, type RoutingFacts } from './evaluate.ts';
import { condition, FIELDS, factsArbitrary, oracle, type Written } from './oracle.ts';
import { type Condition, parseRoutingRules } from './rules.ts';

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
        const truths = conditions.map((when, i) => oracle(when, about, `r${i}`));
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
  it.each(Object.entries(FIELDS))('equals the oracle for %s alone', (field, values) => {
    fc.assert(
      fc.property(values, factsArbitrary, (value, about) => {
        const when = { [field]: value };
        expect(holds(conditionOf(when), about, 'r')).toBe(oracle(when, about, 'r'));
      }),
      { numRuns: 3_000 },
    );
  });

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
