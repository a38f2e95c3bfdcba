/**
 * A router's README and charts: what it was trained with and how well it does, by set and source.
 */
import type { RouterManifest } from '@signpost/contracts/router';
import { formatBytes } from '../progress.ts';
import { heatMap, reliabilityDiagram } from '../report/chart.ts';
import { markdownTable, percent } from '../report/table.ts';
import { RISK_CONFIDENCE, type Selection } from './calibrate.ts';
import type { Evaluation } from './evaluate.ts';
import type { RouterOptions } from './train.ts';

/** Figures by data set. */
export type Figures = Readonly<Record<string, Evaluation>>;

/** How a model came by its confidence. */
export interface Calibration {
  /** What the logits were divided by. */
  readonly temperature: number;
  /** Where the threshold was chosen for a risk, on the validation set: that risk, and what was found. */
  readonly selection?: Selection & { readonly wanted: number };
}

const RELIABILITY_FILE = 'reliability.svg';
const confusionFile = (set: string) => `confusion-${set}.svg`;

/** Markdown, written beside the model. Times are left out: they are the machine's, not the model's. */
export function routerReport(
  manifest: RouterManifest,
  options: RouterOptions,
  calibration: Calibration,
  trainingRows: number,
  figures: Figures,
): string {
  const { labels, model, tokenizer } = manifest;
  const { members, hashDim, hidden, epochs, seed } = options;
  const threshold = manifest.threshold.toFixed(3);
  return `# Router model

Tells ${labels.join(', ')} apart. Written by \`signpost-packer router train\`; the figures come from running the ONNX file in ONNX Runtime Web,
which is what the edge does. \`signpost-packer router eval --model . --data FILE\` measures it again.

- \`model.onnx\`: ${formatBytes(model.bytes)} (${model.bytes} bytes), sha256 \`${model.digest}\`
- \`tokenizer.json\`: ${formatBytes(tokenizer.bytes)}, sha256 \`${tokenizer.digest}\`
- \`router.json\`: labels, threshold and digests, which the edge checks

Trained on ${trainingRows} prompts: ${members} networks of ${hidden} hidden units over pooled token embeddings and ${hashDim} hashed dimensions each,
${epochs} epochs, seed ${seed}. Logits are divided by a temperature of ${calibration.temperature.toFixed(3)}, fitted on the validation set.
${describeThreshold(threshold, calibration)}

${markdownTable(
  ['set', 'rows', 'right', ...coverageTitles(figures), `at or above ${threshold}`, 'calibration error'],
  Object.entries(figures).map(([name, one]) => [
    name,
    String(one.rows),
    percent(one.accuracy),
    ...one.coverage.filter(({ share }) => share < 1).map(({ accuracy }) => percent(accuracy)),
    `${percent(one.decided.accuracy)} of ${percent(one.decided.share)}`,
    percent(one.calibrationError),
  ]),
)}

![](${RELIABILITY_FILE})

${Object.keys(figures)
  .map((set) => `![](${confusionFile(set)})`)
  .join('\n\n')}

## By source

${markdownTable(
  ['set', 'source', 'rows', 'right'],
  Object.entries(figures).flatMap(([name, { sources }]) =>
    Object.entries(sources).map(([source, one]) => [name, source, String(one.rows), percent(one.accuracy)]),
  ),
)}
`;
}

function describeThreshold(threshold: string, { selection }: Calibration): string {
  if (selection === undefined) return `Below a confidence of ${threshold}, which was set by hand, it abstains.`;
  const { wanted, coverage, risk, bound } = selection;
  return `Below a confidence of ${threshold} it abstains. On the validation set it so decides ${percent(coverage)} of prompts, ${percent(risk)} of them wrongly; of prompts like
these at most ${percent(bound)}, with ${percent(RISK_CONFIDENCE)} confidence (asked for: ${percent(wanted)}). Prompts from other sources are harder, as the other sets show.`;
}

/** The charts that the README shows, by file name. */
export async function routerCharts(labels: readonly string[], figures: Figures): Promise<[string, string][]> {
  const sets = Object.entries(figures);
  const reliability = reliabilityDiagram({
    title: 'Reliability of the confidence',
    series: sets.map(([name, { reliability: bins }]) => ({ name, bins })),
  });
  const columns = [...labels, 'abstained'];
  const confusions = sets.map(async ([set, { confusion }]): Promise<[string, string]> => {
    const cells = confusion.flatMap((counts, r) =>
      counts.map((value, c) => ({ row: labels[r] ?? '', column: columns[c] ?? '', value })),
    );
    const title = `Confusion, ${set}`;
    return [
      confusionFile(set),
      await heatMap({ title, rowTitle: 'label', columnTitle: 'said', valueTitle: 'rows', cells, format: 'd' }),
    ];
  });
  return [[RELIABILITY_FILE, await reliability], ...(await Promise.all(confusions))];
}

function coverageTitles(figures: Figures): string[] {
  const [first] = Object.values(figures);
  return (first?.coverage ?? []).filter(({ share }) => share < 1).map(({ share }) => `surest ${percent(share)}`);
}

/** For the terminal. */
export function describeEvaluation(name: string, labels: readonly string[], figures: Evaluation): string {
  const { rows, accuracy, sources, coverage, decided, confusion, calibrationError, medianMs } = figures;
  return [
    `${name}: ${percent(accuracy)} of ${rows} right, calibration error ${percent(calibrationError)}, ${medianMs.toFixed(2)} ms each (median)`,
    ...coverage.map(
      (part) =>
        `  surest ${percent(part.share)}: ${percent(part.accuracy)} right (confidence ≥ ${part.confidence.toFixed(3)})`,
    ),
    `  at or above the threshold: ${percent(decided.share)} of rows, ${percent(decided.accuracy)} right`,
    ...confusion.map((counts, row) => {
      const said = counts.map((count, column) => `${labels[column] ?? 'abstained'} ${count}`);
      return `  ${labels[row]} taken for: ${said.join(', ')}`;
    }),
    ...Object.entries(sources).map(([source, one]) => `  ${source}: ${percent(one.accuracy)} of ${one.rows}`),
  ].join('\n');
}
