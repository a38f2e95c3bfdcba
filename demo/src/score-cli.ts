/**
 * `npm run score`: base, full fine-tunes and 1-bit experts on the demo's evaluation prompts, through the edge.
 */
import { type Column, formatBytes, formatTable, percent } from '@signpost/packer';
import { score, TASKS } from './score.ts';
import { startScoreSystem } from './score-system.ts';

interface Row {
  readonly title: string;
  readonly bytes: number;
  readonly scores: Readonly<Record<string, number>>;
}

const share = (value: number | undefined) => (value === undefined ? '' : percent(value));
const COLUMNS: readonly Column<Row>[] = [
  { title: 'model', value: ({ title }) => title },
  { title: 'bytes', value: ({ bytes }) => formatBytes(bytes), align: 'right' },
  { title: 'chat (perplexity)', value: ({ scores }) => scores.chat?.toFixed(3) ?? '', align: 'right' },
  { title: 'math', value: ({ scores }) => share(scores.math), align: 'right' },
  { title: 'code', value: ({ scores }) => share(scores.code), align: 'right' },
];

const system = await startScoreSystem();
try {
  const rows: Row[] = [];
  for (const { title, model, bytes } of system.models) {
    const scores: Record<string, number> = {};
    for (const task of TASKS) {
      console.error(`${title} on ${task} …`);
      scores[task] = await score(system.url, model, task);
    }
    rows.push({ title, bytes, scores });
  }
  console.log(formatTable(COLUMNS, rows));
} finally {
  await system.close();
}
process.exit();
