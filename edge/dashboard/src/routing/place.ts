/**
 * Where in a routing.yaml a problem is that the edge found. No I/O, and no YAML parser: it need only find lines that people wrote.
 */

/** Counted from 1; undefined where the message names none that is there. */
export function lineOfProblem(message: string, text: string): number | undefined {
  const lines = text.split('\n');
  const syntax = /\bat line (?<line>\d+)/.exec(message)?.groups?.line;
  if (syntax !== undefined) return within(Number(syntax), lines);
  const path = /\brules\[(?<index>\d+)\](?<fields>[\w.[\]-]*)/.exec(message)?.groups;
  if (path !== undefined) {
    const begin = ruleStarts(lines)[Number(path.index)];
    return begin === undefined ? undefined : lineOfField(lines, begin, path.fields ?? '') + 1;
  }
  const name = /\brule "(?<name>[^"]+)"/.exec(message)?.groups?.name;
  if (name === undefined) return undefined;
  const named = lines.findIndex((line) => nameOf(line) === name);
  return named === -1 ? undefined : named + 1;
}

function within(line: number, lines: readonly string[]): number | undefined {
  return line >= 1 && line <= lines.length ? line : undefined;
}

/** Indices of the lines that rules begin at: list items right below `rules:`. */
function ruleStarts(lines: readonly string[]): number[] {
  const rules = lines.findIndex((line) => /^rules:/.test(line));
  let indent: number | undefined;
  return lines.flatMap((line, i) => {
    const dash = /^(?<indent> *)- /.exec(line)?.groups?.indent;
    if (i <= rules || dash === undefined) return [];
    indent ??= dash.length;
    return dash.length === indent ? i : [];
  });
}

/** The line within the rule that the last of the path's fields stands on, else one of those before it, else the rule's first. */
function lineOfField(lines: readonly string[], begin: number, path: string): number {
  const fields = path.split(/[.[\]]+/).filter((field) => field !== '' && !/^\d+$/.test(field));
  const next = ruleStarts(lines).find((start) => start > begin) ?? lines.length;
  let at = begin;
  for (const field of fields) {
    for (let i = at; i < next; i++) {
      if (!hasKey(lines[i] ?? '', field)) continue;
      at = i;
      break;
    }
  }
  return at;
}

function hasKey(line: string, field: string): boolean {
  const code = line.replace(/(^|\s)#.*$/, '');
  const key = new RegExp(`(^|[\\s{,\\[-])["']?${field.replace(/[^\w-]/g, '\\$&')}["']?\\s*:`);
  return key.test(code);
}

function nameOf(line: string): string | undefined {
  return /^\s*(?:- )?\s*name:\s*["']?(?<name>[^"'#]*?)["']?\s*(?:#.*)?$/.exec(line)?.groups?.name;
}

/** Offsets of a line (counted from 1) in a text, for a selection. */
export function rangeOfLine(text: string, line: number): { readonly start: number; readonly end: number } {
  const lines = text.split('\n');
  const start = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0);
  return { start, end: start + (lines[line - 1]?.length ?? 0) };
}
