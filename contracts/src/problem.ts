/**
 * Errors a user can act on.
 */
import type { z } from 'zod';

/** Something outside the program is wrong: a file, a request, a rule. The message says what, where, and what to do. */
export class Problem extends Error {
  override readonly name = 'Problem';
}

/** The first few issues of a failed schema check as one line: `experts.math.versions[0].bytes: expected number`. */
export function describeIssues(error: z.ZodError, limit = 4): string {
  const lines = error.issues.slice(0, limit).map((issue) => {
    const path = issue.path.reduce<string>(
      (text, key) =>
        typeof key === 'number' ? `${text}[${key}]` : text === '' ? String(key) : `${text}.${String(key)}`,
      '',
    );
    // A record's bad key hides what is wrong with it one level down.
    const message = (issue.code === 'invalid_key' ? issue.issues[0]?.message : undefined) ?? issue.message;
    return path === '' ? message : `${path}: ${message}`;
  });
  const more = error.issues.length - lines.length;
  return lines.join('; ') + (more > 0 ? ` (and ${more} more)` : '');
}

/** Checks `value` against `schema`; a mismatch becomes a `Problem` that begins with `where`. */
export function parseWith<T>(schema: z.ZodType<T>, value: unknown, where: string): T {
  const result = schema.safeParse(value);
  if (!result.success) throw new Problem(`${where}: ${describeIssues(result.error)}`);
  return result.data;
}
