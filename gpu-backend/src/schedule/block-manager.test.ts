import type { Digest } from '@signpost/contracts';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BlockManager } from './block-manager.ts';
import { BLOCK_TOKENS, mixtureOf, sequenceOf } from './fixtures.ts';
import { FreeBlocks } from './free-blocks.ts';
import type { ExpertTerm, Sequence } from './sequence.ts';

/** Has a prompt computed and leaves its blocks to the cache. */
function compute(blocks: BlockManager, sequence: Sequence): Sequence {
  expect(blocks.admit(sequence)).toBe(true);
  const from = sequence.computed;
  sequence.computed = sequence.tokens.length;
  blocks.cache(sequence, from);
  return sequence;
}

const prompt = Array.from({ length: 10 }, (_, i) => 100 + i);
const cachedOf = (blocks: BlockManager, mixture: readonly ExpertTerm[], tokens: readonly number[] = prompt) => {
  const sequence = sequenceOf({ prompt: tokens, mixture });
  expect(blocks.admit(sequence)).toBe(true);
  blocks.release(sequence);
  return sequence.computed;
};

describe('the prefix cache', () => {
  it('gives a prompt the full blocks that begin it, from who is still there as from who has left', () => {
    const blocks = new BlockManager(16, BLOCK_TOKENS);
    const first = compute(blocks, sequenceOf({ prompt }));
    const second = sequenceOf({ prompt: [...prompt.slice(0, 9), 7, 7] });
    expect(blocks.admit(second)).toBe(true);
    expect(second.computed).toBe(8);
    expect(second.blockTable.slice(0, 2)).toEqual(first.blockTable.slice(0, 2));
    expect(second.blockTable[2]).not.toBe(first.blockTable[2]);
    blocks.release(first);
    blocks.release(second);
    expect(blocks.free).toBe(16);
    expect(cachedOf(blocks, [])).toBe(8);
    expect(cachedOf(blocks, [], [...prompt.slice(0, 5), 7, 7, 7, 7])).toBe(4);
    // The same block, after another beginning.
    expect(cachedOf(blocks, [], [7, 7, 7, 7, ...prompt.slice(4, 9)])).toBe(0);
    expect(blocks.prefix).toEqual({ queries: 10 + 11 + 10 + 9 + 9, hits: 8 + 8 + 4 });
  });

  it('leaves the last token to be computed: its logits are what a request is for', () => {
    const blocks = new BlockManager(16, BLOCK_TOKENS);
    blocks.release(compute(blocks, sequenceOf({ prompt: prompt.slice(0, 8) })));
    expect(cachedOf(blocks, [], prompt.slice(0, 8))).toBe(4);
    expect(cachedOf(blocks, [], prompt.slice(0, 9))).toBe(8);
  });

  it('knows experts by digest and weight: nobody has what others computed, nor what a former version of itself did', () => {
    const blocks = new BlockManager(32, BLOCK_TOKENS);
    const [one, two] = [mixtureOf(1), mixtureOf(2)];
    blocks.release(compute(blocks, sequenceOf({ prompt, mixture: one })));
    expect(cachedOf(blocks, one)).toBe(8);
    // In another slot by now.
    expect(
      cachedOf(
        blocks,
        one.map((term) => ({ ...term, slot: 5 })),
      ),
    ).toBe(8);
    const others = [
      [],
      two,
      one.map((term) => ({ ...term, weight: 0.5 })),
      one.map((term) => ({ ...term, digest: 'f'.repeat(64) as Digest })),
      [...one, ...two],
      [...two, ...one],
    ];
    for (const [i, mixture] of others.entries()) {
      expect(cachedOf(blocks, mixture), `mixture ${i}`).toBe(0);
      blocks.release(compute(blocks, sequenceOf({ prompt, mixture })));
    }
  });

  it('forgets what was used longest ago, of one prompt its end first', () => {
    const blocks = new BlockManager(6, BLOCK_TOKENS);
    const of = (start: number) => Array.from({ length: 9 }, (_, i) => start + i);
    blocks.release(compute(blocks, sequenceOf({ prompt: of(100) })));
    blocks.release(compute(blocks, sequenceOf({ prompt: of(200) })));
    expect(cachedOf(blocks, [], of(100))).toBe(8);
    // Takes the two that hold nothing, and one cached.
    const third = sequenceOf({ prompt: of(300) });
    expect(blocks.admit(third)).toBe(true);
    blocks.release(third);
    expect([cachedOf(blocks, [], of(100)), cachedOf(blocks, [], of(200))]).toEqual([8, 4]);
  });

  it('does not count twice on a cached block that is free: it is either shared or overwritten', () => {
    const blocks = new BlockManager(3, BLOCK_TOKENS);
    blocks.release(compute(blocks, sequenceOf({ prompt: prompt.slice(0, 9) })));
    const long = sequenceOf({ prompt: [...prompt, 1, 2, 3, 4] });
    expect(blocks.admit(long)).toBe(false);
    expect([blocks.free, long.blockTable.length, long.computed]).toEqual([3, 0, 0]);
  });

  it('gives a prompt that is scored only what lies before the first score still wanted', () => {
    const blocks = new BlockManager(16, BLOCK_TOKENS);
    blocks.release(compute(blocks, sequenceOf({ prompt })));
    const scored = sequenceOf({ prompt, scoresPrompt: true });
    expect([0, 4, 5, 9, 10].map((count) => Object.assign(scored, { scored: count }).reusable)).toEqual([0, 3, 4, 8, 9]);
    scored.scored = 6;
    expect(blocks.admit(scored)).toBe(true);
    expect(scored.computed).toBe(4);
  });
});

describe('free blocks', () => {
  it('are taken in order, as a plain list says, whatever is put back where', () => {
    const action = fc.tuple(fc.constantFrom('take', 'delete', 'append', 'prepend'), fc.nat(7));
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        const free = new FreeBlocks(8);
        let list = Array.from({ length: 8 }, (_, block) => block);
        for (const [what, block] of actions) {
          if (what === 'take' && list.length > 0) expect(free.take()).toBe(list.shift());
          if (what === 'delete' && list.includes(block)) {
            free.delete(block);
            list = list.filter((other) => other !== block);
          }
          if (list.includes(block)) continue;
          if (what === 'append') list.push(block);
          if (what === 'prepend') list.unshift(block);
          if (what === 'append' || what === 'prepend') free[what](block);
        }
        expect(free.size).toBe(list.length);
        for (const block of list) expect(free.take()).toBe(block);
        expect(() => free.take()).toThrow('no block is free');
      }),
    );
  });
});
