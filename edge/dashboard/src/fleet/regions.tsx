/**
 * What each region's containers are busy with, and whether the edge asks them.
 */
import type { RegionView, ReplicaView } from '../api/types.ts';
import { formatAge, formatBytes, formatMs } from '../ui/numbers.ts';
import { Scroll } from '../ui/scroll.tsx';
import { standingOf } from './residency.ts';

export function Regions({ regions }: { readonly regions: readonly RegionView[] }) {
  return (
    <section class="card regions-card" aria-label="Regions">
      <h3>Regions and their containers</h3>
      {regions.map((region) => {
        const standing = standingOf(region);
        return (
          <section key={region.name} class="region" aria-label={region.name}>
            <h4>
              {region.name} <span class={`standing ${standing}`}>{standing}</span>
            </h4>
            <dl class="figures">
              <Figure name="Kind" value={region.role === 'overflow' ? `${region.kind}, overflow` : region.kind} />
              <Figure name="Breaker" value={region.breaker} />
              <Figure name="Network" value={region.network_ms === null ? undefined : formatMs(region.network_ms)} />
              <Figure
                name="Hedge after"
                value={region.hedge_after_ms === null ? undefined : formatMs(region.hedge_after_ms)}
              />
            </dl>
            <Containers region={region} />
          </section>
        );
      })}
    </section>
  );
}

function Figure({ name, value }: { readonly name: string; readonly value: string | undefined }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value ?? '–'}</dd>
    </div>
  );
}

function Containers({ region: { name, replicas } }: { readonly region: RegionView }) {
  return (
    <Scroll label={`Containers of ${name}`}>
      <table class="steady wide">
        <thead>
          <tr>
            <th scope="col" class="container">
              Container
            </th>
            <th scope="col" class="short">
              Heard
            </th>
            <th scope="col" class="short">
              Running
            </th>
            <th scope="col">Waiting</th>
            <th scope="col" class="gauge-column">
              KV in use
            </th>
            <th scope="col" class="gauge-column">
              Slots in use
            </th>
            <th scope="col">Prefill</th>
            <th scope="col">Page-in from store</th>
            <th scope="col">Page-in from memory</th>
          </tr>
        </thead>
        <tbody>
          {replicas.map((replica) => (
            <Container key={replica.replica} replica={replica} />
          ))}
          {replicas.length === 0 && (
            <tr>
              <th scope="row">none</th>
              <td colSpan={8}>No container has been heard from in the last 10 s.</td>
            </tr>
          )}
        </tbody>
      </table>
    </Scroll>
  );
}

function Container({ replica }: { readonly replica: ReplicaView }) {
  const { host, store } = replica.page_in_bytes_per_second;
  return (
    <tr>
      <th scope="row">
        <code>{replica.replica.slice(0, 8)}</code>
        {replica.draining && ' draining'}
      </th>
      <td>{formatAge(replica.heard_ms_ago)}</td>
      <td>{replica.running}</td>
      <td>
        {replica.waiting}
        {replica.queued_tokens > 0 && ` (${replica.queued_tokens} tokens)`}
      </td>
      <td>
        <Gauge used={replica.kv_blocks - replica.kv_blocks_free} of={replica.kv_blocks} unit="blocks" />
      </td>
      <td>
        <Gauge used={replica.slots - replica.slots_free} of={replica.slots} unit="slots" />
      </td>
      <td>
        {replica.prefill_tokens_per_second === null ? '–' : `${replica.prefill_tokens_per_second.toFixed(0)} tokens/s`}
      </td>
      <td>{rate(store)}</td>
      <td>{rate(host)}</td>
    </tr>
  );
}

function Gauge({ used, of, unit }: { readonly used: number; readonly of: number; readonly unit: string }) {
  const share = of === 0 ? 0 : used / of;
  return (
    <span class="gauge">
      {used} of {of} {unit}
      <span class="track" aria-hidden="true">
        <span class="fill" style={{ width: `${100 * share}%` }} />
      </span>
    </span>
  );
}

function rate(bytesPerSecond: number | null): string {
  return bytesPerSecond === null ? '–' : `${formatBytes(Math.round(bytesPerSecond))}/s`;
}
