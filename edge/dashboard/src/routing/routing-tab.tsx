/**
 * Routing: the rules, what they make of prompts, and what they have decided.
 */
import { useState } from 'preact/hooks';
import type { Client } from '../api/client.ts';
import type { ConfigView, ListOf, RuleHits } from '../api/types.ts';
import { KeyForm, type OnKey } from '../ui/key-form.tsx';
import { usePoll } from '../ui/poll.ts';
import { ProblemLine } from '../ui/problem.tsx';
import { Decisions } from './decisions.tsx';
import { RulesEditor } from './rules-editor.tsx';
import { RulesInForce } from './rules-in-force.tsx';
import { Trials } from './trials.tsx';

const EVERY_MS = 5_000;

const askConfig = (client: Client, signal: AbortSignal) =>
  client.json<ConfigView>('operator', '/admin/config', { signal });
const askHits = (client: Client, signal: AbortSignal) =>
  client.json<ListOf<RuleHits>>('operator', '/admin/rules/hits', { signal });

interface RoutingTabProps {
  readonly client: Client;
  readonly onKey: OnKey;
  readonly isShown: boolean;
}

export function RoutingTab({ client, onKey, isShown }: RoutingTabProps) {
  const isOn = isShown && client.has('operator');
  /** Undefined until somebody types: it follows the edge's till then. */
  const [draft, setDraft] = useState<string>();
  const config = usePoll(client, askConfig, { everyMs: EVERY_MS, isOn });
  const hits = usePoll(client, askHits, { everyMs: EVERY_MS, isOn });
  const isRefused = config.problem?.status === 401;
  if (!client.has('operator') || isRefused) {
    return (
      <>
        <h2>Routing</h2>
        <KeyForm kind="operator" onKey={onKey} problem={isRefused ? config.problem?.message : undefined} />
      </>
    );
  }
  const edited = draft === config.value?.text ? undefined : draft;
  return (
    <>
      <h2>Routing</h2>
      <ProblemLine text={config.problem?.message ?? hits.problem?.message} />
      <div class="routing">
        <RulesInForce config={config.value} hits={hits.value?.data ?? []} />
        <RulesEditor
          client={client}
          config={config.value}
          draft={draft}
          onDraft={setDraft}
          onWritten={config.refresh}
        />
        <Trials client={client} edited={edited} />
        <Decisions client={client} isShown={isShown} />
      </div>
    </>
  );
}
