/**
 * Actions that go by what the classifier says: the label's expert, and mixtures.
 */
import { type Catalogue, catalogueSchema } from '@signpost/contracts';
import { describe, expect, it } from 'vitest';
import { catalogueObject } from '../../local/catalogues.ts';
import type { Ask } from '../ask/ask.ts';
import { Classifier } from '../classify/classifier.ts';
import { PrefixMemory } from '../plan/prefixes.ts';
import { parseRulesText } from '../rules/parse.ts';
import { routeAsk } from './route.ts';

const asker = {
  tenant: undefined,
  headers: new Headers(),
  place: { latitude: undefined, longitude: undefined, continent: undefined, country: undefined, colo: undefined },
};

const experts = { math: { a: 1 }, code: { b: 1 }, chat: { c: 1 } };
const catalogueOf = (labels?: Record<string, string>): Catalogue =>
  catalogueSchema.parse(JSON.parse(catalogueObject(experts, labels && { router: { labels } })['catalogue.json'] ?? ''));

/** The model that a prompt of these probabilities comes to; cold where there are none. */
async function routed(then: string, probabilities: Record<string, number> | undefined, catalogue?: Catalogue) {
  const classifier = new Classifier({
    load: async () => ({
      model: { labels: ['a', 'b'], threshold: 0.4, classify: async () => probabilities ?? {} },
      origin: 'test',
      version: '1',
      release: async () => {},
    }),
    newest: async () => '1',
    bundled: () => Promise.reject(new Error('none')),
    now: () => 0,
    log: () => undefined,
  });
  if (probabilities !== undefined) await classifier.start();
  const rules = parseRulesText(`{ version: 1, rules: [{ name: all, then: ${then} }] }`, 'rules', ['eu']);
  const ask = { path: '/v1/chat/completions', model: 'auto', prompt: 'text', text: 'text', promptTokens: 3, body: {} };
  const { resolution } = await routeAsk(ask as unknown as Ask, asker, {
    classifier,
    rules: { rules, source: 'bundled', version: '1', number: undefined, checkedAt: 0 },
    regions: [{ name: 'eu', url: 'https://eu.example' }],
    known: { beats: [], catalogue, networkMs: () => undefined, prefixes: new PrefixMemory(() => 0) },
    now: 0,
  });
  return resolution.kind === 'serve' ? resolution.model : resolution;
}

describe('the label’s expert', () => {
  const then = '{ model: label, otherwise: chat }';

  it('is the one that the catalogue maps it to, or the one of its name', async () => {
    const mapped = catalogueOf({ sums: 'math@stable' });
    expect(await routed(then, { sums: 0.9, code: 0.1 }, mapped)).toBe('math@stable');
    expect(await routed(then, { code: 0.9, sums: 0.1 }, mapped)).toBe('code');
  });

  it('is what is said otherwise while nobody is sure, and where there is none', async () => {
    expect(await routed(then, undefined, catalogueOf())).toBe('chat');
    expect(await routed(then, { math: 0.39, code: 0.38 }, catalogueOf())).toBe('chat');
    expect(await routed(then, { poetry: 0.9, code: 0.1 }, catalogueOf({ poetry: 'poet' }))).toBe('chat');
    expect(await routed(then, { math: 0.9, code: 0.1 })).toBe('chat');
  });
});

describe('a mixture from probabilities', () => {
  const then = '{ mixture: { from: probabilities, top: 2 }, otherwise: chat }';

  it('is of the likeliest labels’ experts, also where the classifier is unsure', async () => {
    expect(await routed(then, { math: 0.7, code: 0.3 }, catalogueOf())).toBe('code:0.3+math:0.7');
    expect(await routed(then, { math: 0.38, code: 0.36, chat: 0.26 }, catalogueOf())).toBe('code:0.5+math:0.5');
    expect(await routed(then, { sums: 0.7, code: 0.3 }, catalogueOf({ sums: 'math' }))).toBe('code:0.3+math:0.7');
  });

  it('is what is said otherwise while the classifier is cold, and without a catalogue', async () => {
    expect(await routed(then, undefined, catalogueOf())).toBe('chat');
    expect(await routed(then, { math: 0.7, code: 0.3 })).toBe('chat');
  });
});
