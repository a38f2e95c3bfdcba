import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readTasks } from './tasks.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-tasks-'));
  await writeFile(
    join(dir, 'rows.jsonl'),
    '{"prompt":"a","answer":"b","number":7,"id":1}\n{"prompt":"c","answer":"d"}\n',
  );
  await writeFile(join(dir, 'numbers.jsonl'), '{"prompt":"a","number":7}\n{"prompt":"b","number":"8"}\n');
  await writeFile(join(dir, 'choices.jsonl'), '{"prompt":"a","choices":["x","y"],"gold":2}\n');
});
afterAll(() => rm(dir, { recursive: true }));

async function tasks(yaml: string, limit?: number) {
  const path = join(dir, 'tasks.yaml');
  await writeFile(path, `version: 1\ntasks:\n  ${yaml}\n`);
  return readTasks(path, limit);
}

describe('tasks', () => {
  it('are read with their rows, a number being as good as a text', async () => {
    expect(await tasks('sum: { kind: exact, data: numbers.jsonl, field: number, tuned: math }', 1)).toMatchObject([
      {
        name: 'sum',
        kind: 'exact',
        format: 'chat',
        tuned: 'math',
        maxTokens: 256,
        rows: [{ prompt: 'a', answer: '7' }],
      },
    ]);
  });

  it.each([
    [
      'sum: { kind: exact, data: rows.jsonl, fields: number }',
      /tasks\.yaml: task sum: unknown key "fields"; did you mean "field"\?/,
    ],
    ['sum: { kind: guess, data: rows.jsonl }', /tasks\.sum\.kind: /],
    [
      'sum: { kind: likelihood, data: rows.jsonl, maxTokens: 3 }',
      /task sum: unknown key "maxTokens"; known: kind, data, format, tuned, field/,
    ],
    ['sum: { kind: regex, data: rows.jsonl, pattern: "(" }', /tasks\.sum\.pattern: not a pattern in RE2 syntax/],
    ['sum: { kind: exact, data: none.jsonl }', /none\.jsonl can't be read/],
    ['sum: { kind: exact, data: rows.jsonl, field: number }', /rows\.jsonl:2: number: neither a string nor a number/],
    ['sum: { kind: multiple-choice, data: choices.jsonl }', /choices\.jsonl:1: gold: not the index of a choice/],
    ['2nd: { kind: exact, data: rows.jsonl }', /expected a letter/],
    ['sum: {', /tasks\.yaml is not YAML/],
  ])('that are wrong are refused, and why: %s', async (yaml, message) => {
    await expect(tasks(yaml)).rejects.toThrow(message);
  });
});
