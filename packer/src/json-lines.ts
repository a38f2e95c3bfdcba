/**
 * JSON lines, checked row by row.
 */
import { readFile } from 'node:fs/promises';
import { Problem } from '@signpost/contracts';
import type { z } from 'zod';

/**
 * Reads a file of one JSON object a line; blank lines are skipped.
 *
 * @param expected what a row looks like, for messages.
 * @throws Problem naming the file and line that is malformed.
 */
export async function readJsonLines<Row>(path: string, schema: z.ZodType<Row>, expected: string): Promise<Row[]> {
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw new Problem(`${path} can't be read: ${cause instanceof Error ? cause.message : cause}`, { cause });
  });
  const rows: Row[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() !== '') rows.push(parseRow(line, schema, expected, `${path}:${index + 1}`));
  }
  if (rows.length === 0) throw new Problem(`${path} holds no rows; expected one JSON object ${expected} a line`);
  return rows;
}

function parseRow<Row>(line: string, schema: z.ZodType<Row>, expected: string, where: string): Row {
  let raw: unknown;
  try {
    raw = JSON.parse(line);
  } catch (cause) {
    throw new Problem(
      `${where} is not JSON (${cause instanceof Error ? cause.message : cause}); expected ${expected}`,
      { cause },
    );
  }
  const parsed = schema.safeParse(raw);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new Problem(`${where}: ${issue?.path.join('.') || 'row'}: ${issue?.message}; expected ${expected}`);
}
