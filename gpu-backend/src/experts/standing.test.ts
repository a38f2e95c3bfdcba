import type { Catalogue, Digest, ExpertVersion } from '@signpost/contracts';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Standing } from './prefetch.ts';
import { StandingOrders, type Upkeep } from './standing.ts';

const BASE = 'b'.repeat(64) as Digest;
const digestOf = (letter: string) => letter.repeat(64) as Digest;
const versionOf = (letter: string, base = BASE): ExpertVersion => ({
  digest: digestOf(letter),
  base,
  key: `experts/${letter}`,
  bytes: 1,
  method: 'sign',
  published: '2026-01-01T00:00:00Z',
});
const expert = (letters: string, stable = letters.at(-1) ?? '') => ({
  versions: [...letters].map((letter) => versionOf(letter)),
  channels: { stable: [...stable].map((letter) => ({ digest: digestOf(letter), weight: 1 })) },
});

let catalogue: Catalogue;
let kept: Standing[];
let hinted: string[][];
let problems: string[];
const letters = (versions: readonly ExpertVersion[]) => versions.map(({ digest }) => digest[0] ?? '').join('');
const latest = () => {
  const { pinned = [], preload = [] } = kept.at(-1) ?? {};
  return [letters(pinned), letters(preload)];
};

function orders(slots: number, pins: readonly string[] = [], upkeep: Upkeep = 'timed'): StandingOrders {
  return new StandingOrders({
    catalogue: {
      catalogue: async () => catalogue,
      get current() {
        return catalogue;
      },
    },
    base: BASE,
    slots,
    keep: (standing) => kept.push(standing),
    hint: (versions) => hinted.push(versions.map(({ digest }) => digest[0] ?? '')),
    onProblem: (problem) => problems.push(problem),
    pins,
    upkeep,
  });
}

beforeEach(() => {
  vi.useFakeTimers();
  [kept, hinted, problems] = [[], [], []];
  const foreign = {
    versions: [versionOf('f', digestOf('0'))],
    channels: { stable: [{ digest: digestOf('f'), weight: 1 }] },
  };
  catalogue = {
    format: 1,
    revision: 1,
    bases: {},
    experts: { math: expert('12'), chat: expert('3'), code: expert('4'), foreign },
  };
});
afterEach(() => {
  vi.useRealTimers();
});

describe('what a region has at hand', () => {
  it('follows the catalogue: a pinned name its newest version, the preload list as it is now', async () => {
    orders(4, ['math']);
    await vi.advanceTimersByTimeAsync(0);
    expect(latest()).toEqual(['2', '']);
    catalogue = { ...catalogue, preload: ['chat', 'gone', 'code', 'foreign'] };
    await vi.advanceTimersByTimeAsync(2_000);
    expect(latest()).toEqual(['2', '34']);
    expect(problems).toEqual([
      expect.stringMatching(/"gone" can't be kept at hand: there is no expert.*"foreign" is made for base 0{64}/),
    ]);
    catalogue = { ...catalogue, experts: { ...catalogue.experts, math: expert('125') } };
    await vi.advanceTimersByTimeAsync(2_000);
    expect(latest()).toEqual(['5', '34']);
    await vi.advanceTimersByTimeAsync(20_000);
    // Said once, as its trouble was.
    expect(kept).toHaveLength(3);
    expect(problems).toHaveLength(1);
  });

  it('follows it only when told to, on demand', async () => {
    const standing = orders(4, ['math'], 'on demand');
    await vi.advanceTimersByTimeAsync(0);
    expect(latest()).toEqual(['2', '']);
    catalogue = { ...catalogue, experts: { ...catalogue.experts, math: expert('125') } };
    expect(vi.getTimerCount()).toBe(0);
    await vi.advanceTimersByTimeAsync(20_000);
    expect(latest()).toEqual(['2', '']);
    await standing.look();
    expect(latest()).toEqual(['5', '']);
  });

  it('keeps every version of a pinned channel that is shared', async () => {
    catalogue = { ...catalogue, experts: { ...catalogue.experts, math: expert('12', '12') } };
    const standing = orders(4);
    await standing.pin('math');
    expect(latest()).toEqual(['12', '']);
    expect([digestOf('1'), digestOf('3')].map((digest) => standing.pinsOf(digest))).toEqual([['math'], []]);
    expect([standing.unpin('math'), standing.unpin('math')]).toEqual([true, false]);
    expect(latest()).toEqual(['', '']);
  });

  it('leaves a slot for what is not pinned', async () => {
    const standing = orders(2);
    await standing.pin('math');
    await standing.pin('math');
    await expect(standing.pin('chat')).rejects.toMatchObject({ status: 409, code: 'too_many_pins' });
    await expect(standing.pin('nobody')).rejects.toMatchObject({ status: 404, message: /known: math, chat, code/ });
    await expect(standing.pin('foreign')).rejects.toMatchObject({ status: 404 });
    await expect(standing.pin('math:0.5')).rejects.toMatchObject({ status: 404, message: /no single expert/ });
    expect(standing.pins).toEqual(['math']);
    // A channel that came to be shared since.
    catalogue = { ...catalogue, experts: { ...catalogue.experts, math: expert('12', '12') } };
    await vi.advanceTimersByTimeAsync(2_000);
    expect(latest()).toEqual(['1', '']);
    expect(problems).toEqual([expect.stringContaining('2 experts are pinned, of 2 slots')]);
  });

  it('passes on what may be asked for soon, and passes over what is nothing', () => {
    const standing = orders(2);
    standing.hint(['chat', 'nobody', 'chat', '::', 'code']);
    standing.hint(['nobody']);
    expect(hinted).toEqual([['3', '4']]);
  });
});
