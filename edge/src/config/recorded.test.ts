import { type DecisionRecord, decide, parseRoutingRules, possibleDecisions } from '@signpost/contracts';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bodyFacts, headerFacts } from '../accounts/facts.ts';
import { readRecorded, recordedRequest } from './recorded.ts';

const rulesOf = (...conditions: readonly Record<string, unknown>[]) => dealing('tenant', ...conditions);

/** Rules of which the last deals two models by key. */
const dealing = (by: string, ...conditions: readonly Record<string, unknown>[]) =>
  parseRoutingRules(
    {
      version: 1,
      rules: [
        ...conditions.map((when, i) => ({ name: `r${i}`, when, then: { model: `m${i}` } })),
        { name: 'rest', then: { split: ['a', 'b'].map((model) => ({ model, weight: 1 })), by } },
      ],
    },
    'rules',
  );

const request = {
  model: 'auto',
  tenant: 'acme',
  path: '/v1/chat/completions',
  continent: 'EU',
  country: 'DE',
  colo: 'FRA',
  prompt: 'What is 3 + 4?',
  now: Date.parse('2026-11-28T12:00:00.000Z'),
};

/** What is kept of a request where `rules` decided it. */
function record(
  rules: ReturnType<typeof rulesOf>,
  body: Record<string, unknown>,
  headers: Record<string, string>,
): DecisionRecord {
  return {
    id: 'x',
    time: new Date(request.now).toISOString(),
    'url.path': request.path,
    'signpost.tenant': request.tenant,
    'geo.continent.code': request.continent,
    'geo.country.iso_code': request.country,
    'signpost.colo': request.colo,
    'gen_ai.request.model': request.model,
    'signpost.prompt_chars': request.prompt.length,
    'signpost.facts.headers': headerFacts(rules, new Headers(headers)),
    'signpost.facts.body': bodyFacts(rules, body),
  } as unknown as DecisionRecord;
}

const condition = fc.constantFrom<Record<string, unknown>>(
  { prompt: '\\d' },
  { promptChars: { min: 10 } },
  { promptChars: { max: 10 } },
  { header: { 'x-team': true } },
  { header: { 'x-team': ['blue', 'red'] } },
  { not: { header: { 'x-user': 'ada' } } },
  { body: { max_tokens: { min: 100 } } },
  { body: { max_tokens: [50, 60] } },
  { body: { user: true } },
  { body: { user: ['ada', 5] } },
  { body: { 'metadata.team': 'blue' } },
  { body: { metadata: true } },
  { body: { 'tools.0.type': 'function' } },
  { body: { 'stream_options.include_usage': true } },
  { body: { 'messages.0.role': 'user' } },
  { body: { stream: true } },
  { body: { stream: false } },
  { any: [{ body: { stream: true } }, { body: { user: 'ada' } }] },
  { percent: { of: 50, by: 'header x-user' } },
  { percent: { of: 50, by: 'body user' } },
  { percent: { of: 50, by: 'body metadata.team' } },
  { percent: { of: 50, by: 'body messages.0.role' } },
);
/** Longer than what is recorded of a value: keys that differ beyond it. */
const long = ['a', 'b', 'c'].map((end) => 'y'.repeat(300) + end);
const key = fc.constantFrom('tenant', 'header x-user', 'body user', 'body max_tokens', 'body metadata.team');
const body = fc.record(
  {
    max_tokens: fc.constantFrom(50, 200, null, 'many'),
    user: fc.constantFrom('ada', 'bob', 5, null, ...long),
    metadata: fc.constantFrom<unknown>({ team: 'blue' }, { team: 'red' }, 'blue', null, {}),
    tools: fc.constantFrom<unknown>([{ type: 'function' }], [], null),
    stream: fc.boolean(),
    stream_options: fc.constantFrom<unknown>({ include_usage: true }, null),
    messages: fc.constantFrom<unknown>([{ role: 'user' }], [{ role: 'system' }]),
  },
  { requiredKeys: ['messages'] },
);
const headers = fc.record(
  { 'x-team': fc.constantFrom('blue', 'green'), 'x-user': fc.constantFrom('ada', 'bob', ...long) },
  { requiredKeys: [] },
);

describe('rules tried on a record', () => {
  it('never rule out what they would have made of the request', () => {
    fc.assert(
      fc.property(
        fc.tuple(key, fc.array(condition, { maxLength: 3 })),
        fc.tuple(key, fc.array(condition, { maxLength: 3 })),
        body,
        headers,
        ([thenBy, then], [nowBy, now], sent, heads) => {
          const known = recordedRequest(record(dealing(thenBy, ...then), sent, heads)) ?? expect.unreachable();
          const young = dealing(nowBy, ...now);
          const real = decide(young, {
            ...request,
            body: sent,
            headers: new Headers(heads),
            classification: undefined,
          });
          const possible = possibleDecisions(young, known.facts, () => undefined);
          const models = possible.filter(({ rule }) => rule === real.rule).map(({ model }) => model);
          expect(models).toHaveLength(1);
          expect([real.model, 'unknown']).toContain(models[0]);
        },
      ),
      { numRuns: 3_000 },
    );
  });

  it('are sure of numbers that were not sent, and of what the rules then looked at', () => {
    const possible = (
      when: Record<string, unknown>,
      sent: Record<string, unknown>,
      then: Record<string, unknown>[] = [],
    ) =>
      possibleDecisions(
        rulesOf(when),
        (recordedRequest(record(rulesOf(...then), sent, {})) ?? expect.unreachable()).facts,
        () => undefined,
      ).map(({ rule }) => rule);
    expect(possible({ body: { max_tokens: { min: 100 } } }, {})).toEqual(['rest']);
    expect(possible({ body: { 'metadata.team': 'blue' } }, {})).toEqual(['rest']);
    expect(possible({ body: { 'metadata.team': 'blue' } }, { metadata: { team: 'blue' } })).toEqual(['r0', 'rest']);
    expect(possible({ body: { user: true } }, {})).toEqual(['r0', 'rest']);
    expect(possible({ body: { user: true } }, {}, [{ body: { user: 'ada' } }])).toEqual(['rest']);
    expect(possible({ header: { 'x-team': true } }, {})).toEqual(['r0', 'rest']);
    expect(possible({ header: { 'x-team': true } }, {}, [{ header: { 'x-team': 'blue' } }])).toEqual(['rest']);
  });

  it('know a share where its key was dealt by before, or is a number, but never by a text or a secret', () => {
    const model = (by: string, then: ReturnType<typeof rulesOf> = rulesOf()) => {
      const sent = {
        user: 'ada',
        max_tokens: 7,
        prompt: 'What is 3 + 4?',
        messages: [{ role: 'user', content: 'Hi' }],
      };
      const kept = record(then, sent, { authorization: 'Bearer x', 'x-user': 'ada' });
      const { facts } = recordedRequest(kept) ?? expect.unreachable();
      return possibleDecisions(dealing(by), facts, () => undefined)[0]?.model;
    };
    for (const by of ['body user', 'header x-user']) {
      expect(model(by)).toBe('unknown');
      expect(model(by, dealing(by))).toMatch(/^[ab]$/);
      expect(model(by, rulesOf({ percent: { of: 50, by } }))).toMatch(/^[ab]$/);
    }
    expect(model('body max_tokens')).toMatch(/^[ab]$/);
    for (const by of ['body prompt', 'body messages.0.content', 'header authorization'])
      expect(model(by, dealing(by)), by).toBe('unknown');
  });
});

it('records are read page by page, as many as are wanted, and without those that tell nothing', async () => {
  const all = Array.from({ length: 1_200 }, (_, i) => ({ ...record(rulesOf(), {}, {}), id: String(i) }));
  const pages: (number | undefined)[] = [];
  const records = async (limit: number, before = 0) => {
    pages.push(before);
    const items = all.slice(before, before + limit).map((one) => JSON.stringify(one));
    return { items, next: before + limit < all.length ? before + limit : undefined };
  };
  expect((await readRecorded(records, 600)).map(({ id }) => id)).toEqual(all.slice(0, 600).map(({ id }) => id));
  expect(pages).toEqual([0, 500]);
  expect(await readRecorded(records, 5_000)).toHaveLength(1_200);
  const { 'gen_ai.request.model': _, ...unread } = record(rulesOf(), {}, {});
  expect(recordedRequest(unread as DecisionRecord)).toBeUndefined();
});
