/**
 * Tables: plain text, as wide as their content needs and the terminal allows, and Markdown.
 */

const GAP = '  ';
const DEFAULT_WIDTH = 160;

export interface Column<Row> {
  readonly title: string;
  readonly value: (row: Row) => string;
  readonly align?: 'left' | 'right';
  /** Longest content shown; the rest is cut with an ellipsis. */
  readonly max?: number;
}

/** The rows as lines of text. The last column takes what is left of `width` characters. */
export function formatTable<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  width = process.stdout.columns ?? DEFAULT_WIDTH,
): string {
  const cells = rows.map((row) => columns.map((column) => oneLine(column.value(row), column.max)));
  const widths = columns.map((column, i) => Math.max(column.title.length, ...cells.map((row) => row[i]?.length ?? 0)));
  const line = (values: readonly string[]) =>
    values
      .map((value, i) =>
        columns[i]?.align === 'right' ? value.padStart(widths[i] ?? 0) : value.padEnd(widths[i] ?? 0),
      )
      .join(GAP)
      .trimEnd()
      .slice(0, width);
  const titles = line(columns.map((column) => column.title));
  return [
    titles,
    '─'.repeat(
      Math.min(
        width,
        widths.reduce((sum, w) => sum + w + GAP.length, -GAP.length),
      ),
    ),
    ...cells.map(line),
  ].join('\n');
}

function oneLine(text: string, max = Number.POSITIVE_INFINITY): string {
  const flat = text.trim().replaceAll('\n', '⏎');
  return flat.length > max ? `${flat.slice(0, max - 1)}…` : flat;
}

export function markdownTable(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(titles), line(titles.map(() => '---')), ...rows.map(line)].join('\n');
}

/** 0.98765 → "98.8 %" */
export function percent(value: number): string {
  return `${(100 * value).toFixed(1)} %`;
}
