import { type Action, decide, parseRoutingRules, type RecordedFacts } from '@signpost/contracts';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseRulesText } from '../rules/parse.ts';
import { dryRun, type RecordedRequest } from './dry-run.ts';

const set = (version: string, ...rules: string[]) => ({
  version,
  rules: parseRulesText(`version: 1\nrules:\n${rules.map((rule) => `  - ${rule}\n`).join('')}`, version),
});

const SUM = '{ name: sum, when: { prompt: "^[0-9 +]+=" }, then: { model: math } }';
const GERMANS = '{ name: germans, when: { country: DE }, then: { model: chat } }';
const REST = '{ name: rest, then: { model: base } }';

/** A request whose prompt was not recorded, of 9 characters. */
function request(id: string, more: Partial<RecordedFacts> = {}, decided?: RecordedRequest['decided']): RecordedRequest {
  return {
    id,
    time: '2026-11-28T12:00:00.000Z',
    decided,
    facts: {
      model: 'auto',
      tenant: 'acme',
      path: '/v1/chat/completions',
      headers: new Headers(),
      continent: 'EU',
      country: 'FR',
      colo: 'CDG',
      prompt: ' '.repeat(9),
      body: {},
      now: 0,
      classification: undefined,
      lacks: { prompt: true, header: () => true, body: () => true },
      ...more,
    },
  };
}

describe('a dry run', () => {
  it('tells what changes, for how many, with examples', () => {
    const requests = [
      ...Array.from({ length: 5 }, (_, i) => request(`fr${i}`)),
      request('de', { country: 'DE' }),
      request('asked', { model: 'math' }),
    ];
    const asked = '{ name: asked, when: { not: { model: auto } }, then: { model: requested } }';
    const run = dryRun(
      set('a', asked, GERMANS, REST),
      set('b', asked, GERMANS, '{ name: rest, then: { model: chat } }'),
      requests,
    );
    expect(run).toEqual({
      requests: 7,
      unchanged: 2,
      changed: 5,
      unknown: 0,
      rules: [
        { name: 'rest', before: 5, after: 5 },
        { name: 'germans', before: 1, after: 1 },
        { name: 'asked', before: 1, after: 1 },
      ],
      models: [
        { name: 'chat', before: 1, after: 6 },
        { name: 'base', before: 5, after: 0 },
        { name: 'math', before: 1, after: 1 },
      ],
      changes: [
        {
          before: { rule: 'rest', model: 'base', refused: null },
          after: { rule: 'rest', model: 'chat', refused: null },
          fields: ['model'],
          requests: 5,
          examples: ['fr0', 'fr1', 'fr2'].map((id) => ({
            id,
            time: '2026-11-28T12:00:00.000Z',
            model: 'auto',
            tenant: 'acme',
            prompt_chars: 9,
          })),
        },
      ],
      undecided: [],
    });
  });

  it('counts as unknown what hangs on a prompt that was not recorded, and names the rule', () => {
    expect(dryRun(set('a', REST), set('b', SUM, REST), [request('x'), request('y')])).toMatchObject({
      unchanged: 0,
      changed: 0,
      unknown: 2,
      rules: [],
      undecided: [{ rule: 'sum', requests: 2 }],
    });
    // Where both ways lead to the same there is no doubt.
    const same = dryRun(set('a', REST), set('b', '{ name: sum, when: { prompt: x }, then: { model: base } }', REST), [
      request('x'),
    ]);
    expect(same).toMatchObject({ unchanged: 1, unknown: 0, rules: [{ name: 'rest' }, { name: '(one of several)' }] });
  });

  it('knows of conditions that decided a request what they came to, by whatever name and wherever they stand now', () => {
    const old = set('a', SUM, GERMANS, REST);
    const renamed = SUM.replace('name: sum', 'name: sums');
    const requests = [
      request('sum', {}, { rule: 'sum', version: 'a' }),
      request('rest', {}, { rule: 'rest', version: 'a' }),
      request('german', { country: 'DE' }, { rule: 'germans', version: 'a' }),
    ];
    const young = set('b', '{ name: french, when: { country: FR }, then: { model: code } }', renamed, GERMANS, REST);
    expect(dryRun(old, young, requests)).toMatchObject({ unchanged: 1, changed: 2, unknown: 0 });
    const run = dryRun(old, set('c', GERMANS, renamed, REST), requests);
    expect(run).toMatchObject({ unchanged: 3, changed: 0, unknown: 0 });
    // Nothing is known of what other rules decided,
    expect(dryRun({ ...old, version: 'z' }, young, requests)).toMatchObject({ unchanged: 0, unknown: 3 });
    // or of another condition.
    const stricter = set('d', SUM.replace('^[0-9', '^[1-9'), GERMANS, REST);
    expect(dryRun(old, stricter, requests)).toMatchObject({ unknown: 3 });
  });

  it('does not take one share for another: each rule deals its own', () => {
    const half = (name: string) =>
      `{ name: ${name}, when: { percent: { of: 50, by: header x-user } }, then: { model: math } }`;
    const requests = [request('x', {}, { rule: 'half', version: 'a' })];
    const old = set('a', half('half'), REST);
    expect(dryRun(old, set('b', half('half').replace('model: math', 'model: code'), REST), requests)).toMatchObject({
      changed: 1,
    });
    expect(dryRun(old, set('b', half('other'), REST), requests)).toMatchObject({ unknown: 1 });
  });

  it('sees refusals, and what goes with a model', () => {
    const run = (then: string) => dryRun(set('a', REST), set('b', `{ name: rest, then: ${then} }`), [request('x')]);
    expect(run('{ refuse: closed }')).toMatchObject({
      changed: 1,
      models: [
        { name: 'base', before: 1, after: 0 },
        { name: '(refused)', before: 0, after: 1 },
      ],
      changes: [{ after: { model: null, refused: 'closed' }, fields: ['model', 'refuse'] }],
    });
    expect(run('{ mixture: { from: probabilities }, otherwise: base }')).toMatchObject({
      changed: 1,
      models: [
        { name: 'base', before: 1, after: 0 },
        { name: '(mixture)', before: 0, after: 1 },
      ],
      changes: [{ after: { model: '(mixture)', refused: null }, fields: ['mixture', 'model', 'otherwise'] }],
    });
    expect(run('{ cache: { seconds: 5 }, model: base, limits: { maxTokens: 5 } }')).toMatchObject({
      changes: [{ after: { model: 'base' }, fields: ['cache', 'limits'] }],
    });
    // However it is written, and whatever it is dealt from.
    for (const same of ['{ model: base }', '{ split: [{ model: base, weight: 1 }, { weight: 2, model: base }] }'])
      expect(run(same), same).toMatchObject({ unchanged: 1 });
  });
});

type FieldsOf<A> = A extends A ? keyof A : never;
/** What each field of an action may say. */
const VALUES: Record<FieldsOf<Action>, readonly unknown[]> = {
  model: ['base', 'math', 'code@next', 'requested'],
  split: [
    ['a', 'b'],
    ['c', 'd', 'e'],
    ['a', 'c'],
  ].map((models) => models.map((model) => ({ model, weight: 1 }))),
  by: ['tenant', 'body seed'],
  mixture: [{}, { top: 3 }, { min: 0.2 }, { temperature: 2 }, { total: 2 }, { step: 0.1 }].map((some) => ({
    from: 'probabilities',
    ...some,
  })),
  otherwise: ['base', 'chat'],
  regions: [['eu'], ['us'], ['eu', 'us']],
  limits: [{ maxTokens: 5 }, { maxTokens: 6 }],
  systemPrefix: ['Be brief.', 'Be kind.'],
  stickyBy: ['header x-user', 'body user'],
  cache: [{ seconds: 5 }, { seconds: 6 }, { seconds: 5, shared: true }],
  shadow: [{ model: 's' }, { model: 't' }, { model: 's', percent: 5 }, { model: 's', regions: ['eu'] }],
  refuse: ['closed', 'shut'],
};
type Field = keyof typeof VALUES;
/** By what answers: the fields that there must be, and those that there may be. */
const BESIDE: readonly Field[] = ['regions', 'limits', 'systemPrefix', 'stickyBy', 'cache', 'shadow'];
const KINDS: readonly { readonly needed: readonly Field[]; readonly optional: readonly Field[] }[] = [
  { needed: ['model'], optional: BESIDE },
  { needed: ['split', 'by'], optional: BESIDE },
  { needed: ['mixture', 'otherwise'], optional: BESIDE },
  { needed: ['refuse'], optional: [] },
];

type Written = Partial<Record<Field, unknown>>;
const actionOf = ({ needed, optional }: (typeof KINDS)[number]): fc.Arbitrary<Written> =>
  fc.record(Object.fromEntries([...needed, ...optional].map((field) => [field, fc.constantFrom(...VALUES[field])])), {
    requiredKeys: [...needed],
  });
const action = fc.constantFrom(...KINDS).chain(actionOf);

/** An action, one of its fields, and what else that may say: nothing at all where it may be left out. */
const edit = fc
  .constantFrom(...KINDS)
  .chain((kind) => fc.tuple(actionOf(kind), fc.constantFrom(...kind.needed, ...kind.optional), fc.constant(kind)))
  .chain(([before, field, { optional }]) => {
    const others = VALUES[field].filter((value) => value !== before[field]);
    const { [field]: left, ...rest } = before;
    const after = others.map((value): Written => ({ ...rest, [field]: value }));
    return fc.record({
      before: fc.constant(before),
      field: fc.constant(field),
      after: fc.constantFrom(...after, ...(optional.includes(field) && left !== undefined ? [rest] : [])),
    });
  });

const CHATS = { path: '/v1/chat/completions' };
const condition = fc.constantFrom<Record<string, unknown>>(
  { country: 'DE' },
  { prompt: 'x' },
  { header: { 'x-team': true } },
  { not: { body: { seed: 1 } } },
  { percent: 50 },
  { percent: { of: 50, by: 'body seed' } },
  { percent: { of: 50, by: 'header x-user' } },
);

const parsed = (version: string, rules: readonly { when?: Record<string, unknown>; then: Written }[]) => ({
  version,
  rules: parseRoutingRules(
    {
      version: 1,
      rules: [
        ...rules.map(({ when, then }, i) => ({ name: `r${i}`, when: { ...CHATS, ...when }, then })),
        { name: 'rest', then: { model: 'base' } },
      ],
    },
    version,
  ),
});

const recorded = fc
  .record({
    country: fc.constantFrom('DE', 'FR'),
    tenant: fc.constantFrom('acme', 'other', undefined),
    model: fc.constantFrom('math', 'code'),
    body: fc.constantFrom({ seed: 1 }, { seed: 2 }),
    lacks: fc
      .record({ prompt: fc.boolean(), header: fc.boolean(), body: fc.boolean() })
      .map(({ prompt, header, body }) => ({ prompt, header: () => header, body: () => body })),
  })
  .map((facts) => request('x', facts));

describe('whatever its rules say, a dry run', () => {
  it('finds nothing changed by the same rules', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ when: condition, then: action }), { maxLength: 4 }),
        fc.array(recorded, { maxLength: 5 }),
        (rules, requests) => {
          const { unchanged, changed, unknown, changes } = dryRun(parsed('a', rules), parsed('a', rules), requests);
          expect({ changed, all: unchanged + unknown, changes }).toEqual({
            changed: 0,
            all: requests.length,
            changes: [],
          });
        },
      ),
      { numRuns: 500 },
    );
  });

  it('finds each request changed whose action says something else, and names what', () => {
    fc.assert(
      fc.property(edit, recorded, ({ before, field, after }, { facts }) => {
        const known = request('x', { ...facts, lacks: { prompt: false, header: () => false, body: () => false } });
        const [old, young] = [parsed('a', [{ then: before }]), parsed('b', [{ then: after }])];
        // A request has but one of a split's models, and of `requested` what it asked for.
        const comesTo = [old, young].map(({ rules }) => {
          const { model } = decide(rules, known.facts);
          return model === 'requested' ? facts.model : model;
        });
        const isOther = ['model', 'split', 'by'].includes(field) ? comesTo[0] !== comesTo[1] : true;
        const run = dryRun(old, young, [known]);
        expect(run).toMatchObject({ changed: isOther ? 1 : 0, unchanged: isOther ? 0 : 1, unknown: 0 });
        const named = field === 'split' || field === 'by' ? 'model' : field;
        expect(run.changes.map(({ fields }) => fields)).toEqual(isOther ? [[named]] : []);
      }),
      { numRuns: 1_000 },
    );
  });
});
