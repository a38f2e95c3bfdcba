import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseRulesText } from '../src/rules/parse.ts';
import { parseCases, runCases } from './cases.ts';
import { lintRules } from './lint.ts';
import { run as runCommand } from './run.ts';

const ROUTING = join(import.meta.dirname, '../../routing.yaml');

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-routes-'));
});
afterAll(() => rm(dir, { recursive: true }));

const run = (...args: string[]) => runCommand(['routes', ...args]);

const rulesOf = (...rules: string[]) =>
  parseRulesText(
    `version: 1\nrules:\n${[...rules, '{ name: last, then: { model: base } }'].map((rule) => `  - ${rule}\n`).join('')}`,
    'r.yaml',
  );
const errors = (...rules: string[]) =>
  lintRules(rulesOf(...rules)).flatMap(({ rule, level }) => (level === 'error' ? rule : []));

describe('lint', () => {
  it.each([
    ['the same condition', '{ continent: EU }', '{ continent: EU }', ['b']],
    ['a narrower one', '{ continent: [EU, NA] }', '{ continent: EU, tenant: acme }', ['b']],
    ['the same pattern', '{ prompt: "a+" }', '{ prompt: "a+", model: auto }', ['b']],
    ['another pattern', '{ prompt: "a+" }', '{ prompt: "b+", model: auto }', []],
    ['a wider one', '{ continent: EU, tenant: acme }', '{ continent: EU }', []],
    ['more values', '{ continent: EU }', '{ continent: [EU, NA] }', []],
    ['another group', '{ any: [{ model: a }, { model: b }] }', '{ any: [{ model: a }] }', []],
  ])('after a rule, %s', (_, first, second, found) => {
    expect(
      errors(
        `{ name: a, when: ${first}, then: { model: math } }`,
        `{ name: b, when: ${second}, then: { model: code } }`,
      ),
    ).toEqual(found);
  });

  it('says what answers while the classifier is cold', () => {
    const notes = lintRules(
      rulesOf(
        '{ name: a, when: { tenant: x }, then: { model: label, otherwise: math } }',
        '{ name: b, when: { tenant: y }, then: { mixture: { from: probabilities }, otherwise: chat } }',
      ),
    );
    expect(notes.map(({ rule, level, message }) => [rule, level, message])).toEqual([
      ['a', 'note', expect.stringContaining('by math while the classifier is cold or unsure')],
      ['b', 'note', expect.stringContaining('by chat while the classifier is cold, and where')],
    ]);
  });

  it('notes what waits for the classifier', () => {
    const rules = rulesOf(
      '{ name: a, when: { label: math }, then: { model: math } }',
      '{ name: b, when: { any: [{ label: code }, { model: code }] }, then: { model: code } }',
      '{ name: c, when: { not: { label: chat } }, then: { model: code } }',
    );
    expect(lintRules(rules).map(({ rule, level }) => [rule, level])).toEqual([
      ['a', 'note'],
      ['c', 'note'],
    ]);
  });

  it('passes the rules of this repository, and says where others are wrong', async () => {
    const good = await run('lint', ROUTING, '--regions', 'local');
    expect([good.code, good.err]).toEqual([0, '']);
    expect(good.out).toMatch(/\d+ rules\n$/);
    const file = join(dir, 'bad.yaml');
    await writeFile(file, 'version: 1\nrules:\n  - { name: a, then: { model: math, regions: [mars] } }\n');
    const elsewhere = await run('lint', file, '--regions', 'local,eu');
    expect(elsewhere).toMatchObject({ code: 1, err: expect.stringMatching(/names region "mars".*local, eu/) });
    expect((await run('lint', file)).code).toBe(0);
    expect((await run('lint', join(dir, 'none.yaml'))).err).toMatch(/^signpost: .*none\.yaml: ENOENT/);
  });
});

describe('test', () => {
  const CASES = `
- request: { prompt: "What is 3 + 4?" }
  expect: { rule: sum, model: math }
- request: { model: "math@stable", prompt: hello }
  expect: { rule: requested, model: "math@stable" }
- name: a story
  request: { prompt: Tell me a story, label: chat, confidence: 0.95 }
  expect: { model: chat }
`;

  it('decides as the edge does, and says what differs and why', async () => {
    const file = join(dir, 'cases.yaml');
    await writeFile(file, CASES);
    const good = await run('test', ROUTING, file);
    expect(good).toMatchObject({
      code: 0,
      out: expect.stringMatching(/ok {4}What is 3 \+ 4\?: sum → math\n.*\n.*\n3 of 3 as expected\n$/),
    });
    await writeFile(file, CASES.replace('model: chat }', 'model: code }'));
    const bad = await run('test', ROUTING, file);
    expect(bad.code).toBe(1);
    expect(bad.out).toMatch(/FAIL {2}a story: expected model code, got chat \(passed over: requested/);
  });

  it('knows every field that a rule may look at', () => {
    const rules = rulesOf(
      '{ name: a, when: { tenant: acme, header: { x-team: ml }, country: DE, body: { stream: true }, time: { from: "22:00", to: "06:00" }, label: math, confidence: { min: 0.5 }, path: /v1/completions }, then: { refuse: closed } }',
    );
    const cases = parseCases(
      '- { request: { tenant: acme, header: { x-team: ml }, country: DE, body: { stream: true }, time: "2026-11-24T23:00:00Z", label: math, path: /v1/completions }, expect: { rule: a, refused: closed } }',
      'cases.yaml',
    );
    expect(runCases(rules, cases)[0]?.differences).toEqual([]);
    expect(() => parseCases('- { request: { promt: x }, expect: { rule: a } }', 'cases.yaml')).toThrow(
      /cases\.yaml: \[?0\]?.*promt/,
    );
    expect(() => parseCases('- { request: {}, expect: {} }', 'cases.yaml')).toThrow(/expects nothing/);
  });
});
