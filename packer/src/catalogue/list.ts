/**
 * The catalogue as a table: every version, and which channels point at it.
 */
import type { Catalogue, CatalogueExpert, ChannelTargets } from '@signpost/contracts';
import { formatBytes } from '../progress.ts';

/** Lines for a person, newest version last. */
export function describeCatalogue({ bases, experts, preload = [] }: Catalogue): string {
  const rows = Object.entries(experts).flatMap(([name, { versions, channels }]) =>
    versions.map(({ digest, base, bytes, method, published }) => [
      name,
      digest.slice(0, 12),
      channelsOf(channels, digest),
      formatBytes(bytes),
      method,
      bases[base]?.name ?? base.slice(0, 12),
      published.slice(0, 16).replace('T', ' '),
    ]),
  );
  if (rows.length === 0) return 'no experts';
  const table = [['expert', 'version', 'channels', 'size', 'method', 'base', 'published (UTC)'], ...rows];
  const widths = table[0]?.map((_, column) => Math.max(...table.map((row) => row[column]?.length ?? 0))) ?? [];
  const lines = table.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd(),
  );
  return [...lines, ...(preload.length === 0 ? [] : [`brought in ahead: ${preload.join(', ')}`])].join('\n');
}

/** What a channel points at: a digest, or `0123456789ab 90 %, ba9876543210 10 %`. */
export function describeChannel(catalogue: Catalogue, name: string, channel: string): string {
  const targets = catalogue.experts[name]?.channels[channel] ?? [];
  return targets
    .map(({ digest, weight }) => (targets.length === 1 ? digest : `${digest.slice(0, 12)}${shareOf(targets, weight)}`))
    .join(', ');
}

function channelsOf(channels: CatalogueExpert['channels'], digest: string): string {
  const pointing = Object.entries(channels).flatMap(([channel, targets]) => {
    const weight = targets.find((target) => target.digest === digest)?.weight;
    return weight === undefined ? [] : [`${channel}${shareOf(targets, weight)}`];
  });
  return pointing.join(', ') || '–';
}

/** " 90 %"; nothing for the only target. */
function shareOf(targets: ChannelTargets, weight: number): string {
  const total = targets.reduce((sum, target) => sum + target.weight, 0);
  return targets.length === 1 ? '' : ` ${Number(((100 * weight) / total).toFixed(2))} %`;
}
