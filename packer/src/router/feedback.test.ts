import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Feedback } from '@signpost/contracts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readFeedback } from './feedback.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-feedback-'));
});
afterAll(() => rm(dir, { recursive: true }));

const feedback = (more: Partial<Feedback>): Feedback => ({
  object: 'feedback',
  decision_id: 'd',
  time: '2026-11-28T05:00:00.000Z',
  decided: '2026-11-28T04:00:00.000Z',
  tenant: null,
  verdict: 'right',
  expected: null,
  comment: null,
  label: 'math',
  confidence: 0.9,
  rule: 'sum',
  model: 'math',
  text: 'a',
  ...more,
});

async function read(rows: readonly object[], held: readonly string[] = []) {
  const path = join(dir, 'feedback.jsonl');
  await writeFile(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  return readFeedback(path, ['chat', 'math'], new Set(held));
}

describe('feedback as prompts to train on', () => {
  it('has the label that was right, or would have been', async () => {
    const { prompts, left } = await read([
      feedback({}),
      feedback({ verdict: 'wrong', expected: 'chat', text: 'b' }),
      feedback({ verdict: 'right', expected: 'chat', label: null, text: 'c' }),
    ]);
    expect(prompts).toEqual([
      { text: 'a', label: 'math', source: 'feedback' },
      { text: 'b', label: 'chat', source: 'feedback' },
      { text: 'c', label: 'chat', source: 'feedback' },
    ]);
    expect(left).toEqual([]);
  });

  it('leaves out what teaches nothing, and says why', async () => {
    const { prompts, left } = await read(
      [
        feedback({ text: null }),
        feedback({ text: null, verdict: 'wrong' }),
        feedback({ verdict: 'wrong' }),
        feedback({ label: null }),
        feedback({ expected: 'law' }),
        feedback({ text: 'held' }),
      ],
      ['held'],
    );
    expect(prompts).toEqual([]);
    expect(left).toEqual([
      '2 without the prompt',
      '2 that say what is wrong, not what is right',
      '1 with the label "law", which no prompt of the training set has',
      '1 about prompts of the sets it is measured by',
    ]);
  });

  it('that is malformed is refused with its line', async () => {
    await expect(read([feedback({}), { text: 'a', label: 'math' }])).rejects.toThrow(/feedback\.jsonl:2: /);
  });
});
