/**
 * The part of `terraform fmt` that can be checked without it: spaces, depth, and `=` under each other. Where a terraform or tofu is installed,
 * it checks the rest.
 */
import type { Finding } from './module.ts';

const ARGUMENT = /^(?<indent> *)(?<name>[\w.-]+|"[^"]*"|\([^()]*\))(?<space> *) = ?(?<value>.*)$/;

export function checkFormat(file: string, text: string): Finding[] {
  const lines = text.replace(/\n$/, '').split('\n');
  const at = (line: number) => `${file}:${line + 1}`;
  const ending = text.endsWith('\n') && lines.at(-1) !== '' ? [] : [{ at: file, problem: 'must end in one newline' }];
  return [...ending, ...checkSpaces(lines, at), ...groupsOf(lines).flatMap((group) => checkGroup(group, at))];
}

function checkSpaces(lines: readonly string[], at: (line: number) => string): Finding[] {
  const levels = new Levels();
  return lines.flatMap((line, index) => {
    const bare = bareOf(line);
    const expected = 2 * levels.of(bare);
    levels.pass(bare);
    if (/\s$/.test(line)) return [{ at: at(index), problem: 'ends in spaces' }];
    if (line.includes('\t')) return [{ at: at(index), problem: 'has a tab' }];
    const indent = line.length - line.trimStart().length;
    return line === '' || indent === expected
      ? []
      : [{ at: at(index), problem: `is indented by ${indent} spaces, not ${expected}` }];
  });
}

/** How deep lines stand. Brackets that one line opens make one level together: `jsonencode({` */
class Levels {
  /** By line that has opened some, how many of them are open still. */
  #open: number[] = [];

  /** Of a line, which may begin by closing some. */
  of(bare: string): number {
    const open = [...this.#open];
    for (const character of /^[\s\])}]*/.exec(bare)?.[0] ?? '') if (character !== ' ') close(open);
    return open.length;
  }

  pass(bare: string): void {
    let opened = 0;
    for (const character of bare) {
      if ('[({'.includes(character)) opened++;
      else if ('])}'.includes(character)) {
        if (opened > 0) opened--;
        else close(this.#open);
      }
    }
    if (opened > 0) this.#open.push(opened);
  }
}

function close(open: number[]): void {
  const last = open.pop();
  if (last !== undefined && last > 1) open.push(last - 1);
}

interface Argument {
  readonly line: number;
  readonly indent: number;
  readonly name: string;
  /** Between the name and its `=`. */
  readonly space: number;
}

/** Arguments of one line each that stand under each other. */
function groupsOf(lines: readonly string[]): Argument[][] {
  const groups: Argument[][] = [];
  for (const [line, text] of lines.entries()) {
    const { indent = '', name, space = '', value = '' } = ARGUMENT.exec(text)?.groups ?? {};
    const bare = bareOf(value);
    if (name === undefined || count(bare, /[[({]/g) !== count(bare, /[\])}]/g)) continue;
    const argument = { line, indent: indent.length, name, space: space.length };
    const last = groups.at(-1)?.at(-1);
    if (last?.line === line - 1 && last.indent === argument.indent) groups.at(-1)?.push(argument);
    else groups.push([argument]);
  }
  return groups;
}

function checkGroup(group: readonly Argument[], at: (line: number) => string): Finding[] {
  const width = Math.max(...group.map(({ name }) => name.length));
  return group
    .filter(({ name, space }) => name.length + space !== width)
    .map(({ line, name }) => ({ at: at(line), problem: `the "=" of ${name} isn't right under those beside it` }));
}

/** Without what stands in quotes and comments. */
function bareOf(line: string): string {
  return line.replace(/"(?:[^"\\]|\\.)*"/g, '""').replace(/(#|\/\/).*$/, '');
}

function count(text: string, what: RegExp): number {
  return text.match(what)?.length ?? 0;
}
