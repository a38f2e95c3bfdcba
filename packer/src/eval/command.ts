/**
 * `signpost-packer eval`: a base, fine-tunes, deltas and merges on tasks of one's own.
 */
import { Problem } from '@signpost/contracts';
import { openStore } from '@signpost/store';
import { Command, InvalidArgumentError } from 'commander';
import { wholeNumber } from '../arguments.ts';
import { createProgress } from '../progress.ts';
import { BASE_METHOD, evaluate, type Method } from './evaluate.ts';
import { type EvalReport, evalMarkdown, evalReport, evalTable, retentionChart, scoreChart } from './report.ts';
import { readTasks, type Task } from './tasks.ts';

interface EvalFlags {
  readonly base: string;
  readonly model: readonly Method[];
  readonly tokenizer?: string;
  readonly out: string;
  readonly limit?: number;
  readonly json: boolean;
}

export function evalCommand(): Command {
  return new Command('eval')
    .description('score a base, fine-tunes, deltas and merges on tasks')
    .argument('<tasks>', 'YAML file of tasks (docs/eval.md)')
    .requiredOption('--base <dir>', 'base checkpoint')
    .option(
      '--model <name=path>',
      'what to score: a delta file for the base, or a checkpoint folder; give it once for each',
      addMethod,
      [],
    )
    .option(
      '--tokenizer <dir>',
      "folder of one tokenizer and chat template for all of them (each one's own by default)",
    )
    .requiredOption('--out <dir>', 'folder for eval.json, README.md and charts')
    .option('--limit <n>', 'only the first rows of each task', wholeNumber)
    .option('--json', 'print the figures as JSON', false)
    .action(run);
}

async function run(tasksFile: string, flags: EvalFlags): Promise<void> {
  const { base, model: methods, tokenizer } = flags;
  const tasks = await readTasks(tasksFile, flags.limit);
  for (const line of missingFineTunes(tasks, methods)) process.stderr.write(`${line}\n`);
  const controller = new AbortController();
  const interrupt = () => controller.abort(new Problem('interrupted; nothing was written'));
  process.once('SIGINT', interrupt);
  const progress = createProgress('evaluating', (rows) => `${Math.round(rows)} rows`);
  try {
    const { signal } = controller;
    const scores = await evaluate(base, methods, tasks, { tokenizer, onProgress: progress.update, signal });
    progress.stop();
    const report = evalReport(tasks, scores);
    await writeReport(flags.out, report);
    console.log(flags.json ? JSON.stringify(report) : evalTable(report));
  } finally {
    progress.stop();
    process.removeListener('SIGINT', interrupt);
  }
}

async function writeReport(dir: string, report: EvalReport): Promise<void> {
  const out = openStore(dir);
  const text = new TextEncoder();
  const charts: [string, string][] = [['score.svg', await scoreChart(report)]];
  const hasRetention = report.methods.some(({ scores }) =>
    Object.values(scores).some(({ retention }) => retention !== undefined),
  );
  if (hasRetention) charts.push(['retention.svg', await retentionChart(report)]);
  const names = charts.map(([name]) => name);
  // JSON last: where it is, the rest is.
  const files = [
    ...charts,
    ['README.md', evalMarkdown(report, names)],
    ['eval.json', `${JSON.stringify(report, null, 2)}\n`],
  ] as const;
  for (const [name, contents] of files) await out.write(name, text.encode(contents));
}

/** Without its fine-tune a task is scored, but says nothing of what is kept. */
function missingFineTunes(tasks: readonly Task[], methods: readonly Method[]): string[] {
  const missing = new Set(tasks.flatMap(({ tuned }) => tuned ?? []));
  for (const { name } of methods) missing.delete(name);
  return [...missing].map((tuned) => {
    const names = tasks.filter((task) => task.tuned === tuned).map(({ name }) => name);
    return `the fine-tune ${tuned} is not among the models (--model ${tuned}=DIR): nothing is kept on ${names.join(', ')}`;
  });
}

function addMethod(text: string, before: readonly Method[]): Method[] {
  const [, name, path] = /^([^=]+)=(.+)$/s.exec(text) ?? [];
  if (name === undefined || path === undefined) throw new InvalidArgumentError('expected NAME=PATH');
  if (name === BASE_METHOD || before.some((method) => method.name === name))
    throw new InvalidArgumentError(`the name "${name}" is taken`);
  return [...before, { name, path }];
}
