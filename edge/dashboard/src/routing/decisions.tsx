/**
 * The latest decisions, why they were made, and whether they were right: that is what `router train --feedback` learns from.
 */
import { useState } from 'preact/hooks';
import type { Client } from '../api/client.ts';
import type { DecisionRecord, Explanation, ListOf } from '../api/types.ts';
import { formatMs, formatPercent } from '../ui/numbers.ts';
import { usePoll } from '../ui/poll.ts';
import { ProblemLine } from '../ui/problem.tsx';
import { Scroll } from '../ui/scroll.tsx';
import { Judge } from './judge.tsx';
import { describeDecision } from './record-text.ts';

const EVERY_MS = 5_000;
const LIMIT = 50;
const askDecisions = (client: Client, signal: AbortSignal) =>
  client.json<ListOf<DecisionRecord>>('operator', `/admin/decisions?limit=${LIMIT}`, { signal });

export function Decisions({ client, isShown }: { readonly client: Client; readonly isShown: boolean }) {
  const [opened, setOpened] = useState<string>();
  const list = usePoll(client, askDecisions, { everyMs: EVERY_MS, isOn: isShown });
  const latest = list.value?.data ?? [];
  /** What is being looked at stays where it is: new ones come when they are asked for. */
  const [shown, setShown] = useState<readonly DecisionRecord[]>([]);
  const records = shown.length === 0 ? latest : shown;
  const added = latest.findIndex(({ id }) => id === records[0]?.id);
  const fresh = added === -1 && latest.length > 0 && records.length > 0 ? latest.length : Math.max(0, added);
  if (shown.length === 0 && latest.length > 0) setShown(latest);
  const labels = useLabels(client, isShown, records);
  return (
    <section class="card decisions" aria-label="Latest decisions">
      <h3>
        Latest decisions <span class="state">{records.length}</span>{' '}
        <button type="button" class="quiet" disabled={fresh === 0} onClick={() => setShown(latest)}>
          Show new: {fresh}
        </button>
      </h3>
      <ProblemLine text={list.problem?.message} />
      <Scroll label="Latest decisions, table" kind="tall">
        <table>
          <thead>
            <tr>
              <th scope="col">Time</th>
              <th scope="col">Rule</th>
              <th scope="col">Label</th>
              <th scope="col">Model</th>
              <th scope="col">Region</th>
              <th scope="col">First token</th>
              <th scope="col">Ending</th>
              <th scope="col">Was it right?</th>
            </tr>
          </thead>
          <tbody>
            {records.map((record) => (
              <Decision
                key={record.id}
                {...{ client, record, labels }}
                isOpen={opened === record.id}
                onOpen={(isOpen) => setOpened(isOpen ? record.id : undefined)}
              />
            ))}
          </tbody>
        </table>
      </Scroll>
    </section>
  );
}

const LABELS_EVERY_MS = 60_000;
const PROBE = { request: { model: 'auto', messages: [{ role: 'user', content: 'hello' }] } };
const askProbe = (client: Client, signal: AbortSignal) =>
  client.json<Explanation>('operator', '/admin/route', { method: 'POST', body: PROBE, signal });

/** All that the classifier knows, and what it has said. */
function useLabels(client: Client, isOn: boolean, records: readonly DecisionRecord[]): readonly string[] {
  const said = records.flatMap((record) => record['signpost.label'] ?? []);
  const asked = usePoll(client, askProbe, { everyMs: LABELS_EVERY_MS, isOn });
  const known = Object.keys(asked.value?.classification?.probabilities ?? {});
  return [...new Set([...known, ...said])].sort();
}

interface DecisionProps {
  readonly client: Client;
  readonly record: DecisionRecord;
  readonly labels: readonly string[];
  readonly isOpen: boolean;
  readonly onOpen: (isOpen: boolean) => void;
}

function Decision({ client, record, labels, isOpen, onOpen }: DecisionProps) {
  const first = record['gen_ai.response.time_to_first_chunk'];
  const confidence = record['signpost.confidence'];
  return (
    <>
      <tr>
        <th scope="row">
          <button type="button" class="quiet" aria-expanded={isOpen} onClick={() => onOpen(!isOpen)}>
            <span aria-hidden="true">{isOpen ? '▾' : '▸'}</span> {record.time.slice(11, 19)}
          </button>
        </th>
        <td>{record['signpost.rule'] ?? '–'}</td>
        <td>
          {record['signpost.label'] ?? record['signpost.classifier'] ?? '–'}
          {confidence !== undefined && ` ${formatPercent(confidence)}`}
        </td>
        <td>{record['gen_ai.response.model'] ?? '–'}</td>
        <td>{record['signpost.region'] ?? (record['signpost.cache'] === 'hit' ? 'answer cache' : '–')}</td>
        <td>{first === undefined ? '–' : formatMs(1_000 * first)}</td>
        <td>{record['error.type'] ?? record['signpost.ending']}</td>
        <td>
          <Judge {...{ client, record, labels }} />
        </td>
      </tr>
      {isOpen && (
        <tr>
          <td colSpan={8}>
            <dl class="facts">
              {describeDecision(record).map(([name, value]) => (
                <div key={name}>
                  <dt>{name}</dt>
                  <dd>{value}</dd>
                </div>
              ))}
            </dl>
          </td>
        </tr>
      )}
    </>
  );
}
