/**
 * Right or wrong, and if wrong, what would have been right.
 */
import { useState } from 'preact/hooks';
import type { Client } from '../api/client.ts';
import { messageOf } from '../api/refusal.ts';
import type { DecisionRecord } from '../api/types.ts';

type State =
  | { readonly kind: 'unsaid' }
  | { readonly kind: 'choosing' }
  | { readonly kind: 'said'; readonly text: string }
  | { readonly kind: 'failed'; readonly message: string };

interface JudgeProps {
  readonly client: Client;
  readonly record: DecisionRecord;
  readonly labels: readonly string[];
}

export function Judge({ client, record, labels }: JudgeProps) {
  const [state, setState] = useState<State>({ kind: 'unsaid' });
  const tenant = record['signpost.tenant'];
  const path = tenant === undefined ? '/admin/feedback' : `/admin/feedback?tenant=${encodeURIComponent(tenant)}`;
  const say = async (verdict: 'right' | 'wrong', expected?: string) => {
    const body = { decision_id: record.id, verdict, ...(expected === undefined ? {} : { expected }) };
    try {
      await client.ask('operator', path, { method: 'POST', body });
      setState({ kind: 'said', text: expected === undefined ? verdict : `${verdict}: ${expected}` });
    } catch (error) {
      setState({ kind: 'failed', message: messageOf(error) });
    }
  };
  const name = `the decision of ${record.time.slice(11, 19)}`;
  switch (state.kind) {
    case 'unsaid':
      return (
        <span class="judge">
          <button type="button" class="quiet" aria-label={`Right: ${name}`} onClick={() => void say('right')}>
            Right
          </button>
          <button
            type="button"
            class="quiet"
            aria-label={`Wrong: ${name}`}
            onClick={() => setState({ kind: 'choosing' })}
          >
            Wrong
          </button>
        </span>
      );
    case 'choosing':
      return (
        <span class="judge">
          <select
            aria-label={`The right label for ${name}`}
            value=""
            onChange={(event) => void say('wrong', event.currentTarget.value || undefined)}
          >
            <option value="" disabled>
              Which is right?
            </option>
            {labels
              .filter((label) => label !== record['signpost.label'])
              .map((label) => (
                <option key={label} value={label}>
                  {label}
                </option>
              ))}
          </select>
          <button type="button" class="quiet" onClick={() => void say('wrong')}>
            None
          </button>
        </span>
      );
    case 'said':
      return <span role="status">{state.text}</span>;
    case 'failed':
      return <span class="problem">{state.message}</span>;
    default:
      return state satisfies never;
  }
}
