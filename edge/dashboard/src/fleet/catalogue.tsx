/**
 * The catalogue: what experts there are, in which versions, and how good they were found to be.
 */
import type { CatalogueView, ExpertView, VersionView } from '../api/types.ts';
import { formatBytes, formatPercent, shortDigest } from '../ui/numbers.ts';
import { Scroll } from '../ui/scroll.tsx';
import { channelsOf } from './residency.ts';

export function Catalogue({ catalogue }: { readonly catalogue: CatalogueView | null }) {
  return (
    <section class="card catalogue" aria-label="Catalogue">
      <h3>Catalogue {catalogue !== null && <span class="hint">revision {catalogue.revision}</span>}</h3>
      <Scroll label="Catalogue, table">
        <table>
          <thead>
            <tr>
              <th scope="col">Expert</th>
              <th scope="col">Label</th>
              <th scope="col">Version</th>
              <th scope="col">Channels</th>
              <th scope="col">Size</th>
              <th scope="col">Method</th>
              <th scope="col">Published</th>
              <th scope="col">Quality</th>
            </tr>
          </thead>
          <tbody>
            {catalogue?.experts.flatMap((expert) =>
              expert.versions.map((version) => <Version key={version.digest} expert={expert} version={version} />),
            )}
            {catalogue === null && (
              <tr>
                <td colSpan={8}>The edge knows no catalogue: R2 has none.</td>
              </tr>
            )}
          </tbody>
        </table>
      </Scroll>
    </section>
  );
}

interface VersionProps {
  readonly expert: ExpertView;
  readonly version: VersionView;
}

function Version({ expert, version: { digest, bytes, method, published, quality } }: VersionProps) {
  return (
    <tr>
      <th scope="row">{expert.name}</th>
      <td>{expert.labels.join(', ') || expert.name}</td>
      <td>
        <code>{shortDigest(digest)}</code>
      </td>
      <td>{channelsOf(expert.channels, digest).join(', ') || '–'}</td>
      <td>{formatBytes(bytes)}</td>
      <td>{method}</td>
      <td>
        <time dateTime={published}>{published.slice(0, 16).replace('T', ' ')}</time>
      </td>
      <td>{qualityText(quality)}</td>
    </tr>
  );
}

/** What an evaluation found, by task. */
function qualityText(quality: VersionView['quality']): string {
  if (quality === null) return 'not evaluated';
  return Object.entries(quality)
    .map(([task, { measure, value, base, kept }]) => {
      const figure = measure === 'accuracy' ? formatPercent(value) : `perplexity ${value.toFixed(3)}`;
      const before =
        base === undefined
          ? ''
          : measure === 'accuracy'
            ? ` (base ${formatPercent(base)})`
            : ` (base ${base.toFixed(3)})`;
      return `${task} ${figure}${before}${kept === undefined ? '' : `, keeps ${formatPercent(kept)} of the gain`}`;
    })
    .join('; ');
}
