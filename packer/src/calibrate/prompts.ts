/**
 * Calibration prompts: what activations are measured on.
 */
import { readFile } from 'node:fs/promises';
import { type Digest, sha256 } from '@signpost/contracts';
import type { Tokenizer } from '@signpost/engine';
import { z } from 'zod';
import { readJsonLines } from '../json-lines.ts';

const EXPECTED = '{"prompt", "answer"}, {"messages"} that end in an answer, or {"text"}';

const rowSchema = z.union([
  z.looseObject({ prompt: z.string().min(1), answer: z.string() }),
  z.looseObject({
    messages: z
      .array(z.looseObject({ role: z.enum(['system', 'user', 'assistant']), content: z.string() }))
      .min(2)
      .refine((messages) => messages.at(-1)?.role === 'assistant', 'the last message must be the assistant’s'),
  }),
  z.looseObject({ text: z.string().min(1) }),
]);
type Row = z.output<typeof rowSchema>;

export interface CalibrationSequence {
  readonly tokens: readonly number[];
  /** First token that belongs to the answer; 0 where all of it does. */
  readonly answerStart: number;
}

export interface CalibrationSet {
  readonly sequences: readonly CalibrationSequence[];
  /** sha256 of the file. */
  readonly digest: Digest;
}

/**
 * Reads JSON lines and puts them through the chat template, up to `maxTokens` in all; the sequence that would go beyond is cut.
 *
 * @throws Problem naming the file and line that is malformed.
 */
export async function readCalibration(path: string, tokenizer: Tokenizer, maxTokens: number): Promise<CalibrationSet> {
  const rows = await readJsonLines(path, rowSchema, EXPECTED);
  const sequences: CalibrationSequence[] = [];
  let left = maxTokens;
  for (const row of rows) {
    if (left <= 0) break;
    const { tokens, answerStart } = encode(row, tokenizer);
    const kept = tokens.slice(0, left);
    left -= kept.length;
    if (kept.length > 0) sequences.push({ tokens: kept, answerStart });
  }
  return { sequences, digest: await sha256(await readFile(path)) };
}

function encode(row: Row, tokenizer: Tokenizer): { tokens: number[]; answerStart: number } {
  if ('text' in row && typeof row.text === 'string') return { tokens: tokenizer.encode(row.text), answerStart: 0 };
  const { context, answer } = turns(row);
  const prompt = tokenizer.encodeChat(context);
  const [end] = tokenizer.eosIds;
  const tokens = [...prompt, ...tokenizer.encode(answer), ...(end === undefined ? [] : [end])];
  return { tokens, answerStart: prompt.length };
}

type Message = Parameters<Tokenizer['encodeChat']>[0][number];

function turns(row: Row): { context: Message[]; answer: string } {
  if ('messages' in row) {
    const messages = row.messages as Message[];
    return { context: messages.slice(0, -1), answer: messages.at(-1)?.content ?? '' };
  }
  const { prompt, answer } = row as { prompt: string; answer: string };
  return { context: [{ role: 'user', content: prompt }], answer };
}
