/**
 * `signpost feedback export`.
 */

import { readFile } from 'node:fs/promises';
import { type Feedback, feedbackListSchema, lessonOf, Problem, parseWith } from '@signpost/contracts';
import { Command } from 'commander';

interface ExportFlags {
  readonly edge?: string;
  readonly keyFile?: string;
}

const EDGE_VARIABLE = 'SIGNPOST_EDGE';
const KEY_VARIABLE = 'SIGNPOST_API_KEY';
const TIMEOUT_MS = 30_000;
const PAGE = 1_000;

export function exportCommand(): Command {
  return new Command('export')
    .description("print a key's feedback as JSON lines, for signpost-packer router train --feedback")
    .option('--edge <url>', `where the edge is (or ${EDGE_VARIABLE})`)
    .option('--key-file <file>', `holds the API key (or ${KEY_VARIABLE} does)`)
    .action(async ({ edge = process.env[EDGE_VARIABLE], keyFile }: ExportFlags) => {
      if (edge === undefined) throw new Problem(`which edge? Say --edge https://…, or set ${EDGE_VARIABLE}`);
      const key = await readKey(keyFile);
      const feedback: Feedback[] = [];
      for (let after: string | null = '0'; after !== null; ) {
        const page = await readPage(edge, key, after);
        feedback.push(...page.data);
        after = page.next;
      }
      for (const line of feedback) console.log(JSON.stringify(line));
      const lessons = feedback.filter((one) => lessonOf(one) !== undefined).length;
      console.error(`${feedback.length} lines, ${lessons} with a prompt and its label`);
    });
}

/** What stands in a command's arguments is seen by everybody on the machine. Undefined for an edge that serves everybody. */
async function readKey(file: string | undefined): Promise<string | undefined> {
  if (file === undefined) return process.env[KEY_VARIABLE];
  try {
    return (await readFile(file, 'utf8')).trim();
  } catch (cause) {
    throw new Problem(`${file}: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}

async function readPage(edge: string, key: string | undefined, after: string) {
  let response: Response;
  try {
    const url = new URL(`/v1/feedback?limit=${PAGE}&after=${after}`, edge);
    response = await fetch(url, {
      headers: key === undefined ? {} : { authorization: `Bearer ${key}` },
      redirect: 'error',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch (cause) {
    const why = cause instanceof Error ? (cause.cause instanceof Error ? cause.cause.message : cause.message) : cause;
    throw new Problem(`${edge} can't be reached: ${why}`, { cause });
  }
  const text = await response.text();
  if (!response.ok) throw new Problem(`${edge} says ${response.status}: ${text.slice(0, 500)}`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Problem(`${edge} is no Signpost edge: it answers with something that is no JSON`);
  }
  return parseWith(feedbackListSchema, value, `${edge}/v1/feedback`);
}
