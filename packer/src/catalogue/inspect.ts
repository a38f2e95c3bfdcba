/**
 * What is in a delta file, from its header alone.
 */
import type { DeltaMetadata, ParamDeltaLayout, TensorInfo } from '@signpost/contracts';
import type { ByteSource } from '@signpost/store';
import { formatBytes } from '../progress.ts';
import { readDeltaLayout } from './delta-source.ts';

interface GroupBytes {
  readonly params: number;
  readonly signs: number;
  readonly scales: number;
  readonly exact: number;
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
  /** By module group, in the order they first occur. */
  readonly groups: Readonly<Record<string, GroupBytes>>;
  /** 1-bit matrices, in file order. */
  readonly matrices: readonly MatrixReport[];
}

/** @throws Problem when it is no whole, well-formed delta file. */
export async function inspect(source: ByteSource): Promise<Inspection> {
  const { metadata, params } = await readDeltaLayout(source);
  const groups: Record<string, GroupBytes> = {};
  const matrices: MatrixReport[] = [];
  let tensorBytes = 0;
  for (const param of params) {
    const group = groupOf(param.stem);
    const before = groups[group] ?? { params: 0, signs: 0, scales: 0, exact: 0 };
    const { signs, scales, exact } = bytesOf(param);
    groups[group] = {
      params: before.params + 1,
      signs: before.signs + signs,
      scales: before.scales + scales,
      exact: before.exact + exact,
    };
    const bytes = signs + scales + exact;
    tensorBytes += bytes;
    if (param.planes.length > 0)
      matrices.push({ stem: param.stem, planes: param.planes.length, bytes, error: metadata.errors[param.stem] });
  }
  return {
    where: source.where,
    bytes: source.bytes,
    headerBytes: source.bytes - tensorBytes,
    metadata,
    groups,
    matrices,
  };
}

/** Lines for a person. */
export function describeInspection({ where, bytes, headerBytes, metadata, groups, matrices }: Inspection): string {
  const { base, source, expert, method, parameters, calibration, packer } = metadata;
  return [
    `${where}: ${formatBytes(bytes)}`,
    `  expert       ${expert}, by ${method} ${JSON.stringify(parameters)}, packer ${packer}`,
    `  base         ${base}`,
    `  fine-tune    ${source}`,
    ...(calibration === undefined ? [] : [`  calibration  ${calibration}`]),
    `  header       ${formatBytes(headerBytes)}`,
    ...Object.entries(groups).map(
      ([group, { params, signs, scales, exact }]) =>
        `  ${group.padEnd(11)}  ${params} parameters: signs ${formatBytes(signs)}, scales ${formatBytes(scales)}, exact ${formatBytes(exact)}`,
    ),
    '  relative error, planes, bytes by matrix:',
    ...matrices.map(
      (matrix) =>
        `    ${matrix.error?.toFixed(4) ?? '     ?'}  ${matrix.planes}  ${formatBytes(matrix.bytes).padStart(10)}  ${matrix.stem}`,
    ),
  ].join('\n');
}

function groupOf(stem: string): string {
  if (/(^|\.)(embed_tokens|lm_head)$/.test(stem)) return 'embedding';
  if (/\.self_attn\.\w+_proj(\.bias)?$/.test(stem)) return 'attention';
  return /\.mlp\.\w+_proj(\.bias)?$/.test(stem) ? 'mlp' : 'norm';
}

function bytesOf({ planes, exact }: ParamDeltaLayout): { signs: number; scales: number; exact: number } {
  const sum = (tensors: readonly (TensorInfo | undefined)[]) =>
    tensors.reduce((total, tensor) => total + (tensor?.bytes ?? 0), 0);
  return {
    signs: sum(planes.map(({ sign }) => sign)),
    scales: sum(planes.flatMap(({ rowScale, colScale }) => [rowScale, colScale])),
    exact: sum([exact]),
  };
}
