import { describe, expect, it } from 'vitest';
import type { Ask } from '../ask/ask.ts';
import { Classifier } from '../classify/classifier.ts';
import { PrefixMemory } from '../plan/prefixes.ts';
import { parseRulesText } from '../rules/parse.ts';
import { routeAsk } from './route.ts';

const RULES = parseRulesText(
  `
version: 1
rules:
  - { name: math, when: { label: math, confidence: { min: 0.5 } }, then: { model: math } }
  - { name: code, when: { label: code }, then: { model: code } }
  - { name: named, when: { not: { model: auto } }, then: { model: requested } }
  - { name: rest, then: { model: chat } }
`,
  'rules',
  ['eu'],
);
const asker = {
  tenant: undefined,
  headers: new Headers(),
  place: { latitude: undefined, longitude: undefined, continent: undefined, country: undefined, colo: undefined },
};

/** What follows from a prompt of these probabilities. */
async function routed(probabilities: Record<string, number>) {
  const classifier = new Classifier({
    load: async () => ({
      model: { labels: Object.keys(probabilities), threshold: 0.4, classify: async () => probabilities },
      origin: 'test',
      version: '1',
      release: async () => {},
    }),
    newest: async () => '1',
    bundled: () => Promise.reject(new Error('none')),
    now: () => 0,
    log: () => undefined,
  });
  await classifier.start();
  const ask = {
    path: '/v1/chat/completions',
    model: 'auto',
    prompt: 'some text',
    text: 'some text',
    promptTokens: 3,
    body: {},
  } as unknown as Ask;
  const rules = { rules: RULES, source: 'bundled' as const, version: '1', number: undefined, checkedAt: 0 };
  const { resolution } = await routeAsk(ask, asker, {
    classifier,
    rules,
    regions: [{ name: 'eu', url: 'https://eu.example' }],
    known: { beats: [], catalogue: undefined, networkMs: () => undefined, prefixes: new PrefixMemory(() => 0) },
    now: 0,
  });
  return resolution.kind === 'serve' ? [resolution.model, resolution.ahead] : resolution;
}

describe('what is brought in ahead', () => {
  it('is what the next likely labels would have been answered by', async () => {
    expect(await routed({ math: 0.6, code: 0.3, chat: 0.1 })).toEqual(['math', ['code']]);
    expect(await routed({ math: 0.85, code: 0.1, chat: 0.05 })).toEqual(['math', []]);
    // The rule for math wants more than that; the last one answers, as it does for the label chat.
    expect(await routed({ math: 0.4, chat: 0.3, code: 0.3 })).toEqual(['chat', ['code']]);
  });

  it('is every likely one where none was sure', async () => {
    expect(await routed({ code: 0.39, chat: 0.31, math: 0.3 })).toEqual(['chat', ['code']]);
  });
});
