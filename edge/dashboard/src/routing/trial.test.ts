import { expect, it } from 'vitest';
import { headersOf, promptsOf, trialOf } from './trial.ts';

it('takes a prompt a line, each once', () => {
  expect(promptsOf(' a \n\nb\na\n')).toEqual(['a', 'b']);
  expect(promptsOf(Array.from({ length: 50 }, (_, i) => `${i}`).join('\n'))).toHaveLength(20);
});

it('asks only for what was typed', () => {
  const fields = { prompts: '', model: ' ', tenant: '', country: '', headers: '' };
  expect(trialOf(fields, 'hi', undefined)).toEqual({
    request: { model: 'auto', messages: [{ role: 'user', content: 'hi' }] },
  });
  const all = { ...fields, model: 'math', tenant: 'acme', country: 'de', headers: 'x-plan: gold; X-Team:core' };
  expect(trialOf(all, 'hi', 'version: 1')).toMatchObject({
    request: { model: 'math' },
    tenant: 'acme',
    place: { country: 'DE' },
    headers: { 'x-plan': 'gold', 'X-Team': 'core' },
    rules: 'version: 1',
  });
});

it('leaves out what is no header', () => {
  expect(headersOf('nonsense; a: b: c;')).toEqual({ a: 'b: c' });
});
