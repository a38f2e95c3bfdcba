/**
 * Calibration prompts: what activations are measured on.
 */
import { readFile } from 'node:fs/promises';
import { type Digest, describeIssues, Problem, sha256 } from '@signpost/contracts';
import type { Tokenizer } from '@signpost/engine';
import { z } from 'zod';

const rowSchema = z.union(
  [
    z.looseObject({ prompt: z.string().min(1), answer: z.string() }),
    z.looseObject({
      messages: z
        .array(z.looseObject({ role: z.enum(['system', 'user', 'assistant']), content: z.string() }))
        .min(2)
        .refine((messages) => messages.at(-1)?.role === 'assistant', 'the last message must be the assistant’s'),
    }),
    z.looseObject({ text: z.string().min(1) }),
  ],
  { error: 'expected {"prompt", "answer"}, {"messages"} that end in an answer, or {"text"}' },
);
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
  const bytes = await readFile(path).catch((cause: unknown) => {
    throw new Problem(`${path} can't be read: ${cause instanceof Error ? cause.message : cause}`, { cause });
  });
  const sequences: CalibrationSequence[] = [];
  let left = maxTokens;
  for (const [index, line] of bytes.toString('utf8').split('\n').entries()) {
    if (line.trim() === '' || left <= 0) continue;
    const { tokens, answerStart } = encode(parseRow(line, `${path}:${index + 1}`), tokenizer);
    const kept = tokens.slice(0, left);
    left -= kept.length;
    if (kept.length > 0) sequences.push({ tokens: kept, answerStart });
  }
  if (sequences.length === 0) throw new Problem(`${path} holds no rows to calibrate on`);
  return { sequences, digest: await sha256(bytes) };
}

function parseRow(line: string, where: string): Row {
  let raw: unknown;
  try {
    raw = JSON.parse(line);
  } catch (cause) {
    throw new Problem(`${where} is not JSON: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
  const parsed = rowSchema.safeParse(raw);
  if (!parsed.success) throw new Problem(`${where}: ${describeIssues(parsed.error)}`);
  return parsed.data;
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
