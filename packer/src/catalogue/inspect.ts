/**
 * What is in a delta file, from its header alone.
 */
import type { DeltaMetadata, ParamDeltaLayout, TensorInfo } from '@signpost/contracts';
import type { ByteSource } from '@signpost/store';
import { formatBytes } from '../progress.ts';
import { readDeltaLayout } from './delta-source.ts';

const NAMED_TOKENS = 5;

interface GroupBytes {
  readonly params: number;
  readonly signs: number;
  readonly scales: number;
  readonly exact: number;
  /** Rows for tokens that the base doesn't have. */
  readonly added: number;
}

interface MatrixReport {
  readonly stem: string;
  readonly planes: number;
  readonly bytes: number;
  /** As the metadata states it. */
  readonly error: number | undefined;
}

export interface Inspection {
  readonly where: string;
  readonly bytes: number;
  readonly headerBytes: number;
  readonly metadata: DeltaMetadata;
  /** Rows that it adds to the embedding. */
  readonly addedRows: number;
  /** By module group, in the order they first occur. */
  readonly groups: Readonly<Record<string, GroupBytes>>;
  /** 1-bit matrices, in file order. */
  readonly matrices: readonly MatrixReport[];
}

/** @throws Problem when it is no whole, well-formed delta file. */
export async function inspect(source: ByteSource): Promise<Inspection> {
  const { metadata, params, addedRows } = await readDeltaLayout(source);
  const groups: Record<string, GroupBytes> = {};
  const matrices: MatrixReport[] = [];
  let tensorBytes = 0;
  for (const param of params) {
    const group = groupOf(param.stem);
    const before = groups[group] ?? { params: 0, signs: 0, scales: 0, exact: 0, added: 0 };
    const { signs, scales, exact, added } = bytesOf(param);
    groups[group] = {
      params: before.params + 1,
      signs: before.signs + signs,
      scales: before.scales + scales,
      exact: before.exact + exact,
      added: before.added + added,
    };
    const bytes = signs + scales + exact + added;
    tensorBytes += bytes;
    if (param.planes.length > 0)
      matrices.push({ stem: param.stem, planes: param.planes.length, bytes, error: metadata.errors[param.stem] });
  }
  return {
    where: source.where,
    bytes: source.bytes,
    headerBytes: source.bytes - tensorBytes,
    metadata,
    addedRows,
    groups,
    matrices,
  };
}

/** Lines for a person. */
export function describeInspection(inspection: Inspection): string {
  const { where, bytes, headerBytes, metadata, groups, matrices } = inspection;
  const { base, source, expert, method, parameters, calibration, packer } = metadata;
  return [
    `${where}: ${formatBytes(bytes)}`,
    `  expert       ${expert}, by ${method} ${JSON.stringify(parameters)}, packer ${packer}`,
    `  base         ${base}`,
    `  fine-tune    ${source}`,
    ...(calibration === undefined ? [] : [`  calibration  ${calibration}`]),
    ...describeTokenizer(inspection),
    `  header       ${formatBytes(headerBytes)}`,
    ...Object.entries(groups).map(
      ([group, { params, signs, scales, exact, added }]) =>
        `  ${group.padEnd(11)}  ${params} parameters: signs ${formatBytes(signs)}, scales ${formatBytes(scales)}, exact ${formatBytes(exact)}${added === 0 ? '' : `, added rows ${formatBytes(added)}`}`,
    ),
    '  relative error, planes, bytes by matrix:',
    ...matrices.map(
      (matrix) =>
        `    ${matrix.error?.toFixed(4) ?? '     ?'}  ${matrix.planes}  ${formatBytes(matrix.bytes).padStart(10)}  ${matrix.stem}`,
    ),
  ].join('\n');
}

/** What differs from the base's; nothing where nothing does. */
function describeTokenizer({ metadata: { tokenizer = {} }, addedRows }: Inspection): string[] {
  const { added_tokens: tokens = [], chat_template: template, eos_token: end, eos_token_id: endIds } = tokenizer;
  const names = tokens.slice(0, NAMED_TOKENS).map(({ id, content }) => `${JSON.stringify(content)} (${id})`);
  const more = tokens.length > NAMED_TOKENS ? ` and ${tokens.length - NAMED_TOKENS} more` : '';
  const differing = [
    ...(template === undefined ? [] : [`a chat template of ${template.length} characters`]),
    ...(end === undefined ? [] : [`end token ${JSON.stringify(end)}`]),
    ...(endIds === undefined ? [] : [`end ids ${endIds.join(', ')}`]),
  ];
  return [
    ...(addedRows === 0 ? [] : [`  added rows   ${addedRows}`]),
    ...(tokens.length === 0 ? [] : [`  tokens       ${names.join(', ')}${more}`]),
    ...(differing.length === 0 ? [] : [`  its own      ${differing.join(', ')}`]),
  ];
}

function groupOf(stem: string): string {
  if (/(^|\.)(embed_tokens|lm_head)$/.test(stem)) return 'embedding';
  if (/\.self_attn\.\w+_proj(\.bias)?$/.test(stem)) return 'attention';
  return /\.mlp\.\w+_proj(\.bias)?$/.test(stem) ? 'mlp' : 'norm';
}

function bytesOf({ planes, exact, added }: ParamDeltaLayout): Omit<GroupBytes, 'params'> {
  const sum = (tensors: readonly (TensorInfo | undefined)[]) =>
    tensors.reduce((total, tensor) => total + (tensor?.bytes ?? 0), 0);
  return {
    signs: sum(planes.map(({ sign }) => sign)),
    scales: sum(planes.flatMap(({ rowScale, colScale }) => [rowScale, colScale])),
    exact: sum([exact]),
    added: sum([added]),
  };
}
