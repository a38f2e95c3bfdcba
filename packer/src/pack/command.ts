/**
 * `signpost-packer pack`: fine-tunes as delta files, by a recipe or by flags.
 */
import { basename, dirname, join, resolve } from 'node:path';
import { Problem } from '@signpost/contracts';
import { Tokenizer } from '@signpost/engine';
import { FileStore } from '@signpost/store/files';
import { Command, InvalidArgumentError, Option } from 'commander';
import { wholeNumber } from '../arguments.ts';
import { readCalibration } from '../calibrate/prompts.ts';
import { DELTA_SUFFIX } from '../merge/input.ts';
import { formatBytes, withProgress } from '../progress.ts';
import { loadCharts } from '../report/chart.ts';
import { percent } from '../report/table.ts';
import { openSource } from '../source/open.ts';
import { tokenizerChanges } from '../source/tokenizer.ts';
import { type PackReport, pack } from './pack.ts';
import { SCALE_KINDS, type ScaleKind } from './plan.ts';
import { POLICIES } from './policy.ts';
import { EXACT_DTYPES, type PackParameters, type PackTask, packTask, readPackRecipe } from './recipe.ts';
import { reportFiles } from './report.ts';

interface Flags {
  readonly out: string;
  readonly json: boolean;
  readonly base?: string;
  readonly tuned?: string;
  readonly name?: string;
  readonly scale?: ScaleKind;
  readonly policy?: string;
  readonly planes?: number;
  readonly bits?: number;
  readonly maxError?: number;
  readonly exactDtype?: keyof typeof EXACT_DTYPES;
  readonly calibrate?: string;
  readonly calibrationTokens?: number;
}

export function packCommand(): Command {
  return new Command('pack')
    .description('pack the difference between fine-tunes and their base as 1-bit delta files')
    .argument('[recipe]', 'recipe file (YAML); without one, the flags say what to pack')
    .requiredOption('--out <path>', 'delta file to write (NAME.delta.safetensors); with a recipe, a folder')
    .option('--base <model>', 'base checkpoint: a folder, or hf://ORG/NAME@REVISION')
    .option('--tuned <model>', 'fine-tune: a checkpoint of the same architecture, or a LoRA adapter')
    .option('--name <name>', 'expert name')
    .addOption(new Option('--scale <kind>', 'what has a scale of its own (row)').choices(SCALE_KINDS))
    .addOption(new Option('--policy <name>', 'what becomes 1-bit (all-linear)').choices(Object.keys(POLICIES)))
    .option('--planes <n>', '1-bit planes a matrix (1)', wholeNumber)
    .option('--bits <n>', 'sign bits a weight on average, such as 1.25: further planes where they pay most', positive)
    .option('--max-error <share>', 'as many planes as it takes for each matrix’s relative error', positive)
    .addOption(new Option('--exact-dtype <name>', 'of exact differences (bfloat16)').choices(Object.keys(EXACT_DTYPES)))
    .option('--calibrate <file>', 'fit signs and scales to the activations on these prompts (JSON lines)')
    .option('--calibration-tokens <n>', 'most tokens to calibrate on', wholeNumber)
    .option('--json', 'print the reports as JSON, one a line', false)
    .action(run);
}

async function run(recipe: string | undefined, flags: Flags): Promise<void> {
  for (const task of recipe === undefined ? [taskOf(flags)] : await tasksOf(recipe, flags)) {
    const out = recipe === undefined ? flags.out : join(flags.out, `${task.name}${DELTA_SUFFIX}`);
    const report = await packOne(task, out);
    console.log(flags.json ? JSON.stringify(report) : describe(report));
  }
}

/** @throws Problem when flags are missing. */
function taskOf({ base, tuned: model, name, ...flags }: Flags): PackTask {
  if (base === undefined || model === undefined || name === undefined)
    throw new Problem('pack needs a recipe file, or --base, --tuned and --name');
  if (!flags.out.endsWith(DELTA_SUFFIX))
    throw new Problem(`--out ${flags.out}: expected a name that ends in ${DELTA_SUFFIX}`);
  return packTask({ base, model, name }, parametersOf(flags), 'pack');
}

/** @throws Problem for flags that a recipe says itself. */
function tasksOf(recipe: string, { out: _, json: __, ...flags }: Flags): Promise<PackTask[]> {
  const [first] = Object.keys(flags);
  if (first !== undefined) throw new Problem(`${recipe} says what to pack; write ${first} into it`);
  return readPackRecipe(recipe);
}

function parametersOf(flags: Omit<Flags, 'base' | 'tuned' | 'name'>): PackParameters {
  const { scale, policy, planes, bits, maxError, exactDtype, calibrate, calibrationTokens } = flags;
  return {
    scale,
    policy,
    planes,
    bits,
    max_error: maxError,
    exact_dtype: exactDtype,
    calibrate,
    calibration_tokens: calibrationTokens,
  };
}

async function packOne(task: PackTask, out: string): Promise<PackReport> {
  const base = await openSource(task.base);
  const tuned = await openSource(task.model, { base });
  const { calibration, scale, planes, name } = task;
  const tokenizer = await tokenizerChanges(base, tuned);
  const readPrompts = async ({ prompts, tokens }: NonNullable<typeof calibration>) =>
    readCalibration(prompts, (await Tokenizer.load(base.dir)).withChanges(tokenizer), tokens);
  const prompts = calibration === undefined ? {} : { calibration: await readPrompts(calibration) };
  const policy = typeof task.policy === 'string' ? (POLICIES[task.policy] ?? []) : task.policy;
  // Half a second of loading that then falls into the time of hashing.
  loadCharts().catch(() => undefined);
  const report = await withProgress(`packing ${name}`, (watch) =>
    pack(base, tuned, { name, out, scale, planes, policy, exact: EXACT_DTYPES[task.exact], ...prompts, ...watch }),
  );
  await writeReport(report, task);
  return report;
}

/** `NAME.recipe.yaml`, `NAME.report.md` and `NAME.report.svg` beside `NAME.delta.safetensors`. */
async function writeReport(report: PackReport, task: PackTask): Promise<void> {
  const stem = basename(report.out).slice(0, -DELTA_SUFFIX.length);
  const names = { recipe: `${stem}.recipe.yaml`, readme: `${stem}.report.md`, chart: `${stem}.report.svg` };
  const files = await reportFiles(report, task, names);
  const folder = new FileStore(resolve(dirname(report.out)));
  const text = new TextEncoder();
  for (const file of ['recipe', 'readme', 'chart'] as const) await folder.write(names[file], text.encode(files[file]));
}

function describe({ out, bytes, sourceBytes, errors, bits }: PackReport): string {
  const values = Object.values(errors);
  const mean = values.reduce((sum, error) => sum + error, 0) / Math.max(1, values.length);
  const share = percent(bytes / sourceBytes);
  return `${out}: ${formatBytes(bytes)}, ${share} of the fine-tune's ${formatBytes(sourceBytes)}; ${bits.toFixed(3)} bits a weight, mean relative error of ${values.length} matrices ${mean.toFixed(3)}`;
}

function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError('expected a number above 0');
  return value;
}
