/**
 * Experts × regions: where each version is. A table, so that it is read out as one; colour only helps.
 */
import type { FleetView } from '../api/types.ts';
import { shortDigest } from '../ui/numbers.ts';
import { ResidencyMark } from '../ui/plan-bars.tsx';
import { Scroll } from '../ui/scroll.tsx';
import { type Cell, RESIDENCIES, type RESIDENCY_TEXT, residencyRows, standingOf } from './residency.ts';

export function HeatMap({ regions, catalogue }: Pick<FleetView, 'regions' | 'catalogue'>) {
  const rows = residencyRows(catalogue, regions);
  return (
    <section class="card heat-map" aria-label="Residency">
      <h3>Experts by region</h3>
      <Scroll label="Experts by region, table">
        <table class="steady">
          <thead>
            <tr>
              <th scope="col" class="first">
                Expert
              </th>
              {regions.map((region) => {
                const standing = standingOf(region);
                return (
                  <th key={region.name} scope="col">
                    {region.name} <span class={`standing ${standing}`}>{standing}</span>
                  </th>
                );
              })}
            </tr>
          </thead>
          <tbody>
            {rows.map(({ expert, digest, channels, cells }) => (
              <tr key={digest}>
                <th scope="row">
                  {expert} <span class="hint">{channels.join(', ') || 'no channel'}</span>{' '}
                  <code>{shortDigest(digest)}</code>
                </th>
                {cells.map((cell, i) => (
                  <HeatCell key={regions[i]?.name} cell={cell} />
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
      <ul class="legend" aria-label="Marks">
        {RESIDENCIES.map((one) => (
          <li key={one}>
            <ResidencyMark residency={one} /> <span class="hint">{MEANING[one]}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}

const MEANING: Readonly<Record<keyof typeof RESIDENCY_TEXT, string>> = {
  device: 'in a slot, ready',
  loading: 'on its way into one',
  host: 'a copy away',
  store: 'in object storage',
};

function HeatCell({ cell }: { readonly cell: Cell }) {
  switch (cell.kind) {
    case 'silent':
      return <td class="cell silent">not heard of</td>;
    case 'foreign':
      return <td class="cell silent">not ours</td>;
    case 'known':
      return (
        <td class={`cell ${cell.nearest}`}>
          <ResidencyMark residency={cell.nearest} />
          {cell.of > 1 && ` ${cell.has} of ${cell.of}`}
        </td>
      );
    default:
      return cell satisfies never;
  }
}
