import {
  type Catalogue,
  CHANNEL_HISTORY,
  catalogueSchema,
  type Digest,
  EMPTY_CATALOGUE,
  expertOfLabel,
} from '@signpost/contracts';
import { describe, expect, it } from 'vitest';
import { labelling, preloading, promoted, rolledBack, withVersion } from './changes.ts';

const digestOf = (letter: string) => letter.repeat(64) as Digest;
const BASE = digestOf('b');
const published = (catalogue: Catalogue, letter: string, channel = 'stable') =>
  withVersion(
    catalogue,
    'math',
    {
      digest: digestOf(letter),
      base: BASE,
      key: `experts/${letter}`,
      bytes: 1,
      method: 'sign',
      published: '2026-01-01T00:00:00Z',
    },
    channel,
    'demo',
  );
const stable = (catalogue: Catalogue) =>
  catalogue.experts.math?.channels.stable?.map(({ digest, weight }) => [digest[0], weight]);
const two = published(published(EMPTY_CATALOGUE, '1'), '2');

describe('a new version', () => {
  it('takes the channel, and the one before is remembered', () => {
    expect(stable(two)).toEqual([['2', 1]]);
    expect(stable(rolledBack(two, 'math', 'stable'))).toEqual([['1', 1]]);
    expect(catalogueSchema.safeParse(two).success).toBe(true);
  });

  it('published again changes nothing', () => {
    expect(published(two, '2')).toEqual(two);
  });

  it('can’t take a channel whose name reads like a digest, or is no name', () => {
    expect(() => published(two, '3', 'deadbeef')).toThrow(/reads like the beginning of a digest/);
    expect(() => published(two, '3', 'a b')).toThrow(/channel "a b"/);
  });
});

describe('a promotion', () => {
  const next = published(two, '3', 'next');

  it('points the channel at a digest, its beginning, or what another channel points at', () => {
    for (const selector of [digestOf('1'), '11111111'])
      expect(stable(promoted(next, 'math', { selector, channel: 'stable', share: 1 }))).toEqual([['1', 1]]);
    expect(stable(promoted(next, 'math', { selector: 'next', channel: 'stable', share: 1 }))).toEqual([['3', 1]]);
  });

  it('gives a canary its share, and leaves the others theirs of the rest', () => {
    const canary = promoted(next, 'math', { selector: 'next', channel: 'stable', share: 0.1 });
    expect(stable(canary)).toEqual([
      ['2', 0.9],
      ['3', 0.1],
    ]);
    const three = promoted(canary, 'math', { selector: '11111111', channel: 'stable', share: 0.5 });
    expect(stable(three)).toEqual([
      ['2', 0.45],
      ['3', 0.05],
      ['1', 0.5],
    ]);
    const more = promoted(three, 'math', { selector: '33333333', channel: 'stable', share: 0.05 });
    expect(stable(more)?.map(([letter]) => letter)).toEqual(['2', '1', '3']);
    expect(more.experts.math?.channels.stable?.reduce((sum, { weight }) => sum + weight, 0)).toBeCloseTo(1, 10);
  });

  it('is refused where there is nothing to share with, or the source is several', () => {
    expect(() => promoted(next, 'math', { selector: '22222222', channel: 'stable', share: 0.1 })).toThrow(
      /points at no other version that could take the rest; promote it whole/,
    );
    expect(() => promoted(next, 'math', { selector: 'next', channel: 'beta', share: 0.1 })).toThrow(/no other version/);
    const canary = promoted(next, 'math', { selector: 'next', channel: 'stable', share: 0.1 });
    expect(() => promoted(canary, 'math', { selector: 'stable', channel: 'next', share: 1 })).toThrow(
      'points at 222222222222 and 333333333333; say which by digest',
    );
    expect(() => promoted(next, 'law', { selector: 'next', channel: 'stable', share: 1 })).toThrow(/no expert "law"/);
    expect(() => promoted(next, 'math', { selector: '44444444', channel: 'stable', share: 1 })).toThrow(/neither a ch/);
  });
});

describe('a rollback', () => {
  it('undoes a canary as a whole, and goes further back each time', () => {
    const canary = promoted(two, 'math', { selector: '11111111', channel: 'stable', share: 0.1 });
    const once = rolledBack(canary, 'math', 'stable');
    expect(stable(once)).toEqual([['2', 1]]);
    const twice = rolledBack(once, 'math', 'stable');
    expect(stable(twice)).toEqual([['1', 1]]);
    expect(() => rolledBack(twice, 'math', 'stable')).toThrow(/has pointed at nothing else.*channels: stable/);
    expect(() => rolledBack(two, 'math', 'constructor')).toThrow(/has pointed at nothing else/);
    expect(() => rolledBack(two, 'law', 'stable')).toThrow('there is no expert "law"; known: math');
  });

  it('is possible as often as states are kept', () => {
    let catalogue = two;
    for (let i = 0; i < 2 * CHANNEL_HISTORY; i++)
      catalogue = promoted(catalogue, 'math', { selector: `${(i % 2) + 1}`.repeat(8), channel: 'stable', share: 1 });
    expect(catalogueSchema.safeParse(catalogue).success).toBe(true);
    for (let i = 0; i < CHANNEL_HISTORY; i++) catalogue = rolledBack(catalogue, 'math', 'stable');
    expect(() => rolledBack(catalogue, 'math', 'stable')).toThrow(/nothing else/);
  });
});

describe('what regions bring in ahead', () => {
  it('is the list last said, of what is there, each once', () => {
    const listed = preloading(two, ['math', 'math@11111111', 'math']);
    expect(listed.preload).toEqual(['math', 'math@11111111']);
    expect(catalogueSchema.safeParse(listed).success).toBe(true);
    expect(preloading(listed, ['math']).preload).toEqual(['math']);
    expect(preloading(listed, [])).toEqual(two);
  });

  it.each([
    ['nobody', /no expert "nobody"/],
    ['math@canary', /neither a channel nor a digest/],
    ['math:0.5', /no single expert/],
    ['base', /no single expert/],
  ])('is refused where it names %s', (name, message) => {
    expect(() => preloading(two, [name])).toThrow(message);
  });
});

describe('labels', () => {
  it('stand for experts of the catalogue, in place of what was said before', () => {
    const mapped = labelling(two, { sums: 'math@stable', talk: 'base' });
    expect(mapped.router).toEqual({ labels: { sums: 'math@stable', talk: 'base' } });
    expect(catalogueSchema.safeParse(mapped).success).toBe(true);
    expect(['sums', 'talk', 'math', 'other'].map((label) => expertOfLabel(mapped, label))).toEqual([
      'math@stable',
      'base',
      'math',
      undefined,
    ]);
    expect(labelling(mapped, {})).toEqual(two);
  });

  it.each([
    ['law', /there is no expert "law"/],
    ['math@next', /"next" is neither a channel/],
    ['math:0.5', /is no single expert/],
  ])('can’t stand for %s', (name, message) => {
    expect(() => labelling(two, { sums: name })).toThrow(message);
  });
});
