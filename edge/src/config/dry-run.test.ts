import type { RecordedFacts } from '@signpost/contracts';
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
      changes: [{ after: { model: null, refused: 'closed' } }],
    });
    expect(run('{ model: base, limits: { maxTokens: 5 } }')).toMatchObject({ changed: 1 });
    expect(run('{ model: base, regions: [eu] }')).toMatchObject({ changed: 1 });
    expect(run('{ model: base }')).toMatchObject({ unchanged: 1 });
  });
});
