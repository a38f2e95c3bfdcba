/**
 * `signpost feedback export`.
 */
import { type Feedback, feedbackListSchema, lessonOf, parseWith } from '@signpost/contracts';
import { Command } from 'commander';
import { callEdge, EDGE_VARIABLE, readKey } from './edge-client.ts';

interface ExportFlags {
  readonly edge?: string;
  readonly keyFile?: string;
}

const KEY_VARIABLE = 'SIGNPOST_API_KEY';
const PAGE = 1_000;

export function exportCommand(): Command {
  return new Command('export')
    .description("print a key's feedback as JSON lines, for signpost-packer router train --feedback")
    .option('--edge <url>', `where the edge is (or ${EDGE_VARIABLE})`)
    .option('--key-file <file>', `holds the API key (or ${KEY_VARIABLE} does); none for an edge that serves everybody`)
    .action(async ({ edge, keyFile }: ExportFlags) => {
      const key = await readKey(keyFile, KEY_VARIABLE);
      const feedback: Feedback[] = [];
      for (let after: string | null = '0'; after !== null; ) {
        const path: string = `/v1/feedback?limit=${PAGE}&after=${after}`;
        const page = parseWith(feedbackListSchema, await callEdge(edge, { method: 'GET', path, key }), path);
        feedback.push(...page.data);
        after = page.next;
      }
      for (const line of feedback) console.log(JSON.stringify(line));
      const lessons = feedback.filter((one) => lessonOf(one) !== undefined).length;
      console.error(`${feedback.length} lines, ${lessons} with a prompt and its label`);
    });
}
