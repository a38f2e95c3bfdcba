/**
 * The demo family's calibration prompts: right, and none that it is evaluated on.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const DEMO = join(import.meta.dirname, '../../../models/demo');

interface Row {
  readonly prompt: string;
  readonly answer: string;
}

async function rowsOf(folder: string, file: string): Promise<Row[]> {
  const lines = (await readFile(join(DEMO, folder, file), 'utf8')).trim().split('\n');
  return lines.map((line) => JSON.parse(line));
}

/** Spelling aside. */
const plain = (text: string) => text.toLowerCase().replace(/\s+/g, ' ').trim();

describe('calibration prompts of the demo', () => {
  it('are none of those it is evaluated on', async () => {
    const evaluated = new Set<string>();
    for (const file of await readdir(join(DEMO, 'eval')))
      for (const { prompt } of await rowsOf('eval', file)) evaluated.add(plain(prompt));
    expect(evaluated.size).toBeGreaterThan(1_500);
    for (const file of ['math.jsonl', 'code.jsonl', 'chat.jsonl']) {
      const rows = await rowsOf('calibration', file);
      const both = rows.filter(({ prompt }) => evaluated.has(plain(prompt)));
      expect([file, both.map(({ prompt }) => prompt)]).toEqual([file, []]);
    }
  });

  it('in math are answered right, step by step', async () => {
    const operations: Readonly<Record<string, (a: number, b: number) => number>> = {
      '+': (a, b) => a + b,
      '-': (a, b) => a - b,
      '*': (a, b) => a * b,
      '/': (a, b) => a / b,
    };
    for (const { prompt, answer } of await rowsOf('calibration', 'math.jsonl')) {
      const steps = [...answer.matchAll(/(\d+) ([-+*/]) (\d+) = (\d+)\./g)];
      expect([prompt, steps.length > 0]).toEqual([prompt, true]);
      for (const [step, a, operation = '', b, result] of steps)
        expect([step, operations[operation]?.(Number(a), Number(b))]).toEqual([step, Number(result)]);
      expect(answer.endsWith(`The answer is ${steps.at(-1)?.[4]}.`)).toBe(true);
    }
  });
});
