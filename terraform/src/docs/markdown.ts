/**
 * Markdown that is written by a program, in pages that are written by hand.
 */
import { Problem } from '@signpost/contracts';

/** As biome formats tables: columns of one width. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = [head, ...rows].map((row) => row.map((cell) => cell.replaceAll('|', '\\|')));
  const widths = head.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]) =>
    `| ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`;
  const [first = [], ...rest] = cells;
  return `${[line(first), `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`, ...rest.map(line)].join('\n')}\n`;
}

/** A page with what stands between the marks of `part` anew. @throws Problem where it has no such marks */
export function replaced(page: string, part: string, text: string, where: string): string {
  const begin = `<!-- ${part}: npm run docs -w @signpost/terraform -->`;
  const end = `<!-- end of ${part} -->`;
  const from = page.indexOf(begin);
  const to = page.indexOf(end);
  if (from < 0 || to < from) throw new Problem(`${where} has no place for its ${part}: "${begin}", then "${end}"`);
  return `${page.slice(0, from)}${begin}\n\n${text.trim()}\n\n${page.slice(to)}`;
}
