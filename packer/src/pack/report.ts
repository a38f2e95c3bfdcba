/**
 * What a pack run leaves beside its delta: the recipe that repeats it, a README with bytes and errors, and a chart of the errors.
 */
import { basename, dirname } from 'node:path';
import { stringify } from 'yaml';
import { formatBytes } from '../progress.ts';
import { seriesChart } from '../report/chart.ts';
import { markdownTable, percent } from '../report/table.ts';
import type { PackedParamReport, PackReport } from './pack.ts';
import { type PackTask, resolvedRecipe } from './recipe.ts';

export interface ReportFiles {
  readonly recipe: string;
  readonly readme: string;
  readonly chart: string;
}

/** @param names of the files, which the README refers to. */
export async function reportFiles(
  report: PackReport,
  task: PackTask,
  names: { readonly recipe: string; readonly chart: string },
): Promise<ReportFiles> {
  return {
    recipe: stringify(resolvedRecipe(task, dirname(report.out))),
    readme: readme(report, task, names),
    chart: await errorChart(report, task.name),
  };
}

function readme(report: PackReport, task: PackTask, names: { recipe: string; chart: string }): string {
  const { out, bytes, sourceBytes, errors, bits } = report;
  return `# ${task.name}

\`${basename(out)}\`: ${formatBytes(bytes)} (${bytes} bytes), ${percent(bytes / sourceBytes)} of the fine-tune's ${formatBytes(sourceBytes)}; ${bits.toFixed(3)} sign bits a weight
of its 1-bit matrices. Packed by \`signpost-packer pack ${names.recipe}\`.

- base: \`${task.base}\`, digest \`${report.base}\`
- fine-tune: \`${task.model}\`, digest \`${report.source}\`
${task.calibration === undefined ? '' : `- calibrated on \`${task.calibration.prompts}\`, at most ${task.calibration.tokens} tokens\n`}
## Bytes

${markdownTable(
  ['group', 'parameters', 'kept as', 'bytes', 'share'],
  groupsOf(report.params).map(({ group, kind, count, bytes: own }) => [
    group,
    String(count),
    kind,
    formatBytes(own),
    percent(own / bytes),
  ]),
)}

## Errors

Relative error ‖Δ − Δ̂‖ / ‖Δ‖ of each 1-bit matrix, of the weights themselves: calibration lessens the error of the outputs, not this one.

![errors by layer and module](${names.chart})

${markdownTable(
  ['matrix', 'planes', 'error'],
  report.params.flatMap(({ stem, planes }) =>
    planes === undefined ? [] : [[stem, String(planes), (errors[stem] ?? Number.NaN).toFixed(4)]],
  ),
)}
`;
}

interface Group {
  readonly group: string;
  readonly kind: PackedParamReport['kind'];
  readonly count: number;
  readonly bytes: number;
}

function groupsOf(params: readonly PackedParamReport[]): Group[] {
  const groups = new Map<string, Group>();
  for (const { stem, kind, bytes } of params) {
    const group = groupOf(stem);
    const key = `${group} ${kind}`;
    const before = groups.get(key) ?? { group, kind, count: 0, bytes: 0 };
    groups.set(key, { ...before, count: before.count + 1, bytes: before.bytes + bytes });
  }
  return [...groups.values()];
}

function groupOf(stem: string): string {
  if (stem.includes('norm')) return 'norms';
  if (stem.includes('.self_attn.')) return 'attention';
  if (stem.includes('.mlp.')) return 'MLP';
  return stem.startsWith('lm_head') ? 'head' : 'embedding';
}

function errorChart({ errors }: PackReport, name: string): Promise<string> {
  const points = Object.entries(errors).flatMap(([stem, value]) => {
    const { layer, module } = /\.layers\.(?<layer>\d+)\.\w+\.(?<module>\w+)$/.exec(stem)?.groups ?? {};
    return layer === undefined || module === undefined ? [] : [{ category: layer, series: module, value }];
  });
  return seriesChart({
    title: `${name}: relative error by layer and module`,
    mark: 'line',
    categoryTitle: 'layer',
    valueTitle: 'error (relative)',
    seriesTitle: 'module',
    points,
  });
}
