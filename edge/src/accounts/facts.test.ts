import { type DecisionRecord, decide, decisionSchema, factsOf, lacks, parseRoutingRules } from '@signpost/contracts';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bodyFacts, headerFacts } from './facts.ts';

const scalar = fc.oneof(fc.constantFrom('a', 'b', ''), fc.constantFrom(0, 1, 2), fc.boolean());
const name = fc.constantFrom('a', 'b', 'c');
const path = fc.array(name, { minLength: 1, maxLength: 3 }).map((keys) => keys.join('.'));
const body = fc.dictionary(
  name,
  fc.oneof(
    scalar,
    fc.constant(null),
    fc.array(scalar),
    fc.dictionary(name, fc.oneof(scalar, fc.dictionary(name, scalar))),
  ),
);
const headers = fc.dictionary(fc.constantFrom('x-a', 'x-b'), fc.constantFrom('a', 'b'));
const condition = fc.letrec((again) => ({
  condition: fc.oneof(
    { maxDepth: 2 },
    fc.record({
      body: fc.dictionary(path, fc.oneof(fc.constant(true), scalar, fc.constant({ min: 1 })), { minKeys: 1 }),
    }),
    fc.record({
      header: fc.dictionary(fc.constantFrom('x-a', 'x-b'), fc.oneof(fc.constant(true), fc.constantFrom('a', 'b')), {
        minKeys: 1,
      }),
    }),
    fc.record({ percent: fc.record({ of: fc.constantFrom(30, 70), by: fc.constantFrom('tenant', 'header x-a') }) }),
    fc.record({ not: again('condition') }),
    fc.record({ any: fc.array(again('condition'), { minLength: 1, maxLength: 2 }) }),
  ),
})).condition;

describe('recorded facts', () => {
  it('decide as the request itself did', () => {
    fc.assert(
      fc.property(fc.array(condition, { minLength: 1, maxLength: 4 }), body, headers, (conditions, fields, heads) => {
        const rules = parseRoutingRules(
          {
            version: 1,
            rules: [
              ...conditions.map((when, i) => ({ name: `r${i}`, when, then: { model: 'math' } })),
              {
                name: 'rest',
                then: {
                  split: [
                    { model: 'a', weight: 1 },
                    { model: 'b', weight: 1 },
                  ],
                  by: 'header x-b',
                },
              },
            ],
          },
          'rules',
        );
        const given = new Headers(heads);
        const record = decisionSchema.parse({
          event: 'decision',
          schema: 1,
          id: 'r',
          time: '2026-11-28T05:00:00.000Z',
          trace_id: 't',
          span_id: 's',
          'signpost.sample': 1,
          'url.path': '/v1/completions',
          'signpost.tenant': 'acme',
          'gen_ai.provider.name': 'signpost',
          'gen_ai.operation.name': 'text_completion',
          'gen_ai.request.model': 'auto',
          'signpost.prompt_chars': 3,
          'http.response.status_code': 200,
          'signpost.ending': 'whole',
          'signpost.duration_ms': 1,
          'signpost.facts.headers': headerFacts(rules, given),
          'signpost.facts.body': bodyFacts(rules, fields),
        } satisfies Record<keyof DecisionRecord, unknown> | Record<string, unknown>);
        const facts = factsOf(JSON.parse(JSON.stringify(record))) ?? expect.unreachable();
        expect(lacks(record, rules)).toEqual([]);
        const { rule, model } = decide(rules, { ...facts, headers: given, body: fields });
        expect(decide(rules, facts)).toMatchObject({ rule, model });
      }),
    );
  });

  it('hold no texts, no secrets and nothing long, whatever the rules look at', () => {
    const rules = parseRoutingRules(
      {
        version: 1,
        rules: [
          {
            name: 'nosy',
            when: {
              header: { authorization: true, cookie: true, 'x-long': true },
              body: { 'messages.0.content': 'Mallory', 'messages.0.role': true, prompt: true, seed: 1, note: true },
            },
            then: { model: 'math' },
          },
          { name: 'rest', then: { model: 'chat' } },
        ],
      },
      'rules',
    );
    const long = 'x'.repeat(5_000);
    const sent = {
      messages: [{ role: 'user', content: 'Mallory' }],
      prompt: 'Mallory',
      user: 'Mallory',
      stop: ['Mallory'],
      metadata: { who: 'Mallory' },
      note: long,
      seed: 1,
      'a.b': 1,
    };
    const given = new Headers({ authorization: 'Mallory', cookie: 'Mallory', 'x-long': long, 'x-other': 'Mallory' });
    const facts = JSON.stringify([headerFacts(rules, given), bodyFacts(rules, sent)]);
    expect(facts).not.toContain('Mallory');
    expect(facts.length).toBeLessThan(1_000);
    expect(JSON.parse(facts)).toMatchObject([{}, { seed: 1, stop: {}, metadata: {} }]);
  });
});
