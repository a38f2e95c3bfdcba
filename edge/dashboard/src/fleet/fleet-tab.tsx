/**
 * The fleet: which region has which expert, what it is busy with, and how fast answers have been.
 */
import { useCallback, useRef } from 'preact/hooks';
import type { Client } from '../api/client.ts';
import type { DecisionRecord, FleetView, ListOf } from '../api/types.ts';
import { KeyForm, type OnKey } from '../ui/key-form.tsx';
import { usePoll } from '../ui/poll.ts';
import { ProblemLine } from '../ui/problem.tsx';
import { Catalogue } from './catalogue.tsx';
import { HeatMap } from './heat-map.tsx';
import { Plots } from './plots.tsx';
import { Regions } from './regions.tsx';
import { keepLatest } from './window.ts';

const FLEET_EVERY_MS = 2_000;
const DECISIONS_EVERY_MS = 4_000;
/** At the first look, and then of what is new. */
const LOOK_BACK = 500;
const NEW = 100;

const askFleet = (client: Client, signal: AbortSignal) =>
  client.json<FleetView>('operator', '/admin/fleet', { signal });

interface FleetTabProps {
  readonly client: Client;
  readonly onKey: OnKey;
  readonly isShown: boolean;
}

export function FleetTab({ client, onKey, isShown }: FleetTabProps) {
  const isOpen = client.has('operator');
  const fleet = usePoll(client, askFleet, { everyMs: FLEET_EVERY_MS, isOn: isShown && isOpen });
  const records = useRecords(client, isShown && isOpen);
  const isRefused = fleet.problem?.status === 401;
  if (!isOpen || isRefused) {
    return (
      <>
        <h2>Fleet</h2>
        <KeyForm kind="operator" onKey={onKey} problem={isRefused ? fleet.problem?.message : undefined} />
      </>
    );
  }
  const { regions, catalogue } = fleet.value ?? NOTHING;
  return (
    <>
      <h2>Fleet</h2>
      <ProblemLine text={fleet.problem?.message ?? records.problem?.message} />
      <div class="fleet" aria-busy={fleet.value === undefined}>
        <HeatMap regions={regions} catalogue={catalogue} />
        <Plots records={records.value ?? []} />
        <Regions regions={regions} />
        <Catalogue catalogue={catalogue} />
      </div>
    </>
  );
}

const NOTHING: Pick<FleetView, 'regions' | 'catalogue'> = { regions: [], catalogue: null };

/** Those of the last minutes. */
function useRecords(client: Client, isOn: boolean) {
  const kept = useRef<readonly DecisionRecord[]>([]);
  const ask = useCallback(async (asked: Client, signal: AbortSignal) => {
    const path = `/admin/decisions?limit=${kept.current.length === 0 ? LOOK_BACK : NEW}`;
    const { data } = await asked.json<ListOf<DecisionRecord>>('operator', path, { signal });
    kept.current = keepLatest(kept.current, data, Date.now());
    return kept.current;
  }, []);
  return usePoll(client, ask, { everyMs: DECISIONS_EVERY_MS, isOn });
}
