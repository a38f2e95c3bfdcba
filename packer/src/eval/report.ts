/**
 * What an evaluation found, as a table for the terminal, as JSON, as Markdown and as charts.
 */
import { formatBytes } from '../progress.ts';
import { seriesChart } from '../report/chart.ts';
import { type Column, formatTable, markdownTable, percent } from '../report/table.ts';
import { BASE_METHOD, type MethodScores } from './evaluate.ts';
import type { TaskScore } from './score.ts';
import type { Task } from './tasks.ts';

/** A method's figure on a task, and what it keeps. */
interface Figure extends TaskScore {
  /** exp of minus the mean log-likelihood; of likelihood tasks. */
  readonly perplexity?: number;
  /** Share of the fine-tune's gain over the base that is kept, where the task names a fine-tune that gained. */
  readonly retention?: number;
}

export interface EvalReport {
  readonly tasks: readonly {
    readonly name: string;
    readonly kind: Task['kind'];
    readonly tuned?: string | undefined;
    readonly rows: number;
  }[];
  readonly methods: readonly (Omit<MethodScores, 'scores'> & { readonly scores: Readonly<Record<string, Figure>> })[];
}

export function evalReport(tasks: readonly Task[], methods: readonly MethodScores[]): EvalReport {
  const figureOf = (method: string | undefined, task: string) =>
    methods.find(({ name }) => name === method)?.scores[task]?.value;
  const figures = (scores: MethodScores['scores']) =>
    Object.fromEntries(
      tasks.flatMap(({ name, tuned }): [string, Figure][] => {
        const score = scores[name];
        if (score === undefined) return [];
        const kept = retention(score.value, figureOf(BASE_METHOD, name), figureOf(tuned, name));
        const perplexity = score.measure === 'log-likelihood' ? { perplexity: Math.exp(-score.value) } : {};
        return [[name, { ...score, ...perplexity, ...(kept === undefined ? {} : { retention: kept }) }]];
      }),
    );
  return {
    tasks: tasks.map(({ name, kind, tuned, rows }) => ({ name, kind, tuned, rows: rows.length })),
    methods: methods.map((method) => ({ ...method, scores: figures(method.scores) })),
  };
}

/** (method - base) / (fine-tune - base); nothing where there is no fine-tune, or it gained nothing. */
export function retention(method: number, base?: number, tuned?: number): number | undefined {
  if (base === undefined || tuned === undefined || tuned <= base) return undefined;
  return (method - base) / (tuned - base);
}

type MethodRow = EvalReport['methods'][number];

/** Title and cell of each column: method, bytes, and by task the figure and what it keeps. */
function columns({ tasks, methods }: EvalReport): Column<MethodRow>[] {
  return [
    { title: 'method', value: ({ name }) => name },
    { title: 'bytes', value: ({ bytes }) => formatBytes(bytes), align: 'right' },
    ...tasks.flatMap(({ name, kind }): Column<MethodRow>[] => [
      {
        title: kind === 'likelihood' ? `${name} (perplexity)` : name,
        value: ({ scores }) => scores[name]?.perplexity?.toFixed(3) ?? percent(scores[name]?.value ?? Number.NaN),
        align: 'right',
      },
      ...(methods.some(({ scores }) => scores[name]?.retention !== undefined)
        ? [{ title: 'kept', value: (row: MethodRow) => keptBy(row, name), align: 'right' as const }]
        : []),
    ]),
  ];
}

function keptBy({ scores }: MethodRow, task: string): string {
  const kept = scores[task]?.retention;
  return kept === undefined ? '–' : percent(kept);
}

/** As wide as it needs to be: a figure that is cut off is of no use. */
export function evalTable(report: EvalReport): string {
  return formatTable(columns(report), report.methods, Number.POSITIVE_INFINITY);
}

/** Markdown, written beside the JSON and the charts. `files` are the charts' names. */
export function evalMarkdown(report: EvalReport, charts: readonly string[]): string {
  const shown = columns(report);
  return `# Evaluation

Written by \`signpost-packer eval\`. "kept" is the share of the fine-tune's gain over the base: (method − base) / (fine-tune − base), of mean
log-likelihood where the figure is a perplexity (lower is better), of accuracy elsewhere.

${markdownTable(
  shown.map(({ title }) => title),
  report.methods.map((row) => shown.map(({ value }) => value(row))),
)}

${markdownTable(
  ['task', 'kind', 'rows', 'fine-tune'],
  report.tasks.map(({ name, kind, rows, tuned }) => [name, kind, String(rows), tuned ?? '–']),
)}

${charts.map((file) => `![](${file})`).join('\n\n')}
`;
}

/** Figures by task and method; accuracy, and for likelihood the geometric mean of a token's probability, so that all share one axis. */
export function scoreChart({ tasks, methods }: EvalReport): Promise<string> {
  return seriesChart({
    title: 'Score by task and method',
    mark: 'bar',
    categoryTitle: 'task',
    valueTitle: "accuracy, or a token's mean probability (%)",
    seriesTitle: 'method',
    points: tasks.flatMap(({ name: category }) =>
      methods.map(({ name: series, scores }) => {
        const { measure, value } = scores[category] ?? { value: Number.NaN };
        return { category, series, value: 100 * (measure === 'log-likelihood' ? Math.exp(value) : value) };
      }),
    ),
  });
}

/** What methods keep, of the tasks that name a fine-tune. */
export function retentionChart({ tasks, methods }: EvalReport): Promise<string> {
  return seriesChart({
    title: "Share of the fine-tune's gain that is kept",
    mark: 'bar',
    categoryTitle: 'task',
    valueTitle: 'kept (%)',
    seriesTitle: 'method',
    points: tasks.flatMap(({ name: category }) =>
      methods
        .filter(({ name }) => name !== BASE_METHOD)
        .flatMap(({ name: series, scores }) => {
          const kept = scores[category]?.retention;
          return kept === undefined ? [] : [{ category, series, value: 100 * kept }];
        }),
    ),
  });
}
