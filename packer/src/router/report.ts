/**
 * A router's README: what it was trained with and how well it does, by set and source.
 */
import type { RouterManifest } from '@signpost/contracts/router';
import { formatBytes } from '../progress.ts';
import { markdownTable, percent } from '../report/table.ts';
import type { Evaluation } from './evaluate.ts';
import type { RouterOptions } from './train.ts';

/** Markdown, written beside the model. Times are left out: they are the machine's, not the model's. */
export function routerReport(
  manifest: RouterManifest,
  options: RouterOptions,
  trainingRows: number,
  figures: Readonly<Record<string, Evaluation>>,
): string {
  const { labels, model, tokenizer, threshold } = manifest;
  const { members, hashDim, hidden, epochs, seed } = options;
  return `# Router model

Tells ${labels.join(', ')} apart. Written by \`signpost-packer router train\`; the figures come from running the ONNX file in ONNX Runtime Web,
which is what the edge does. \`signpost-packer router eval --model . --data FILE\` measures it again.

- \`model.onnx\`: ${formatBytes(model.bytes)} (${model.bytes} bytes), sha256 \`${model.digest}\`
- \`tokenizer.json\`: ${formatBytes(tokenizer.bytes)}, sha256 \`${tokenizer.digest}\`
- \`router.json\`: labels, threshold and digests, which the edge checks

Trained on ${trainingRows} prompts: ${members} networks of ${hidden} hidden units over pooled token embeddings and ${hashDim} hashed dimensions each,
${epochs} epochs, seed ${seed}. Below a confidence of ${threshold} it abstains.

${markdownTable(
  ['set', 'rows', 'right', ...coverageTitles(figures), `at or above ${threshold}`],
  Object.entries(figures).map(([name, one]) => [
    name,
    String(one.rows),
    percent(one.accuracy),
    ...one.coverage.filter(({ share }) => share < 1).map(({ accuracy }) => percent(accuracy)),
    `${percent(one.decided.accuracy)} of ${percent(one.decided.share)}`,
  ]),
)}

## By source

${markdownTable(
  ['set', 'source', 'rows', 'right'],
  Object.entries(figures).flatMap(([name, { sources }]) =>
    Object.entries(sources).map(([source, one]) => [name, source, String(one.rows), percent(one.accuracy)]),
  ),
)}
`;
}

function coverageTitles(figures: Readonly<Record<string, Evaluation>>): string[] {
  const [first] = Object.values(figures);
  return (first?.coverage ?? []).filter(({ share }) => share < 1).map(({ share }) => `surest ${percent(share)}`);
}
