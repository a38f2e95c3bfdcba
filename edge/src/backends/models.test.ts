import type { ModelCard } from '@signpost/contracts';
import { describe, expect, it } from 'vitest';
import { type OpenaiRegion, type Region, regionsSchema } from '../plan/regions.ts';
import { nameThere, serves, strangersModels } from './models.ts';

const DIGEST = 'a'.repeat(64);
const stranger = (name: string, models: Record<string, string>): OpenaiRegion => {
  const [region] = regionsSchema.parse([{ name, kind: 'openai', url: 'https://llm.example/v1', models }]);
  return region?.kind === 'openai' ? region : expect.unreachable();
};
const ours: Region = { name: 'eu', url: 'http://127.0.0.1:1' };
const team = stranger('team', {
  base: 'meta/llama',
  math: 'our-math',
  'math:1+chat:0.3': 'mixed',
  'code@beta': 'beta',
});

describe('a model’s name at a stranger’s', () => {
  it.each([
    ['base', 'meta/llama'],
    ['math', 'our-math'],
    [`math@${DIGEST}`, 'our-math'],
    ['code@beta', 'beta'],
    [`math@${DIGEST}:1+chat:0.3`, 'mixed'],
    ['code', undefined],
    ['chat', undefined],
    [`code@${DIGEST}`, undefined],
    ['constructor', undefined],
    ['not a name@@', undefined],
  ])('of %s is %s', (model, there) => {
    expect(nameThere(team, model)).toBe(there);
    expect(serves(team, model)).toBe(there !== undefined);
    expect(serves(ours, model)).toBe(true);
  });
});

it('strangers’ models are listed once, and behind our own', () => {
  const own = [{ id: 'math' }] as ModelCard[];
  const listed = strangersModels([ours, team, stranger('other', { base: 'x', gpt: 'gpt-9' })], own);
  expect(listed.map(({ id, root, owned_by: owner }) => [id, root, owner])).toEqual([
    ['base', 'meta/llama', 'team'],
    ['math:1+chat:0.3', 'mixed', 'team'],
    ['code@beta', 'beta', 'team'],
    ['gpt', 'gpt-9', 'other'],
  ]);
});
