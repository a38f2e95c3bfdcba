/**
 * Scores models on the demo's evaluation prompts, through the edge and its OpenAI API.
 *
 * math is right when the last word of the answer is the number, code when the text is the answer verbatim; chat has no single right
 * answer, so its figure is the perplexity of the given one.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Tokenizer } from '@signpost/engine';
import { lastWord } from '@signpost/packer';
import OpenAI from 'openai';
import { DEMO_BASE, DEMO_MODELS } from './paths.ts';

export const TASKS = ['chat', 'math', 'code'] as const;
export type Task = (typeof TASKS)[number];

interface EvalRow {
  readonly prompt: string;
  readonly answer: string;
  readonly number?: string;
}

/** Requests under way at once: enough to fill batches. */
const CONCURRENCY = 16;
const MAX_ANSWER_TOKENS = 100;

/** Perplexity for chat (lower is better), share right for math and code. */
export async function score(url: string, model: string, task: Task): Promise<number> {
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none' });
  const rows = await readRows(task);
  if (task === 'chat') return perplexity(client, model, rows);
  const right = await mapConcurrently(rows, async (row) => {
    const completion = await client.chat.completions.create({
      model,
      messages: [{ role: 'user', content: row.prompt }],
      temperature: 0,
      max_tokens: MAX_ANSWER_TOKENS,
    });
    const text = (completion.choices[0]?.message.content ?? '').trim();
    return task === 'code' ? text === row.answer.trim() : lastWord(text) === row.number;
  });
  return right.filter(Boolean).length / rows.length;
}

async function readRows(task: Task): Promise<EvalRow[]> {
  const text = await readFile(join(DEMO_MODELS, 'eval', `${task}.jsonl`), 'utf8');
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as EvalRow);
}

/** exp of the mean negative log-likelihood of the answers' tokens, the end of turn included. */
async function perplexity(client: OpenAI, model: string, rows: readonly EvalRow[]): Promise<number> {
  const tokenizer = await Tokenizer.load(DEMO_BASE);
  const sums = await mapConcurrently(rows, async ({ prompt, answer }) => {
    const context = tokenizer.encodeChat([{ role: 'user', content: prompt }]);
    const tokens = [...context, ...tokenizer.encodePart(answer), ...tokenizer.eosIds];
    const completion = await client.completions.create({
      model,
      prompt: tokens,
      max_tokens: 0,
      echo: true,
      logprobs: 0,
      temperature: 0,
    });
    const logprobs = completion.choices[0]?.logprobs?.token_logprobs?.slice(context.length) ?? [];
    if (logprobs.length !== tokens.length - context.length)
      throw new Error(`${logprobs.length} log-probabilities for ${tokens.length - context.length} tokens`);
    return { sum: logprobs.reduce((total, value) => total + value, 0), count: logprobs.length };
  });
  const total = sums.reduce((all, { sum, count }) => ({ sum: all.sum + sum, count: all.count + count }), {
    sum: 0,
    count: 0,
  });
  return Math.exp(-total.sum / total.count);
}

async function mapConcurrently<T, R>(items: readonly T[], task: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = new Array(items.length);
  const queue = items.entries();
  const worker = async () => {
    for (const [index, item] of queue) results[index] = await task(item);
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, worker));
  return results;
}
