/**
 * Prompts to try the rules on: those in force, and the edited ones beside them.
 */
import { useId, useState } from 'preact/hooks';
import type { Client } from '../api/client.ts';
import { messageOf } from '../api/refusal.ts';
import type { Explanation } from '../api/types.ts';
import { formatPercent } from '../ui/numbers.ts';
import { ProblemLine } from '../ui/problem.tsx';
import { Scroll } from '../ui/scroll.tsx';
import { ExplanationView } from './explanation-view.tsx';
import { promptsOf, type TrialFields, trialOf } from './trial.ts';

interface Outcome {
  readonly prompt: string;
  readonly live: Explanation;
  readonly edited: Explanation | undefined;
}

const START: TrialFields = {
  prompts: 'What is 17 plus 25?\nWrite a haiku about rain.',
  model: 'auto',
  tenant: '',
  country: '',
  headers: '',
};

export function Trials({ client, edited }: { readonly client: Client; readonly edited: string | undefined }) {
  const id = useId();
  const [fields, setFields] = useState(START);
  const [outcomes, setOutcomes] = useState<readonly Outcome[]>([]);
  const [problem, setProblem] = useState<string>();
  const [isBusy, setBusy] = useState(false);
  const set = (more: Partial<TrialFields>) => setFields({ ...fields, ...more });

  const tryOut = async () => {
    setBusy(true);
    setProblem(undefined);
    const ask = (prompt: string, rules: string | undefined) =>
      client.json<Explanation>('operator', '/admin/route', { method: 'POST', body: trialOf(fields, prompt, rules) });
    try {
      setOutcomes(
        await Promise.all(
          promptsOf(fields.prompts).map(async (prompt) => {
            const [live, other] = await Promise.all([
              ask(prompt, undefined),
              edited === undefined ? undefined : ask(prompt, edited),
            ]);
            return { prompt, live, edited: other };
          }),
        ),
      );
    } catch (error) {
      setProblem(messageOf(error));
    } finally {
      setBusy(false);
    }
  };

  return (
    <section class="card trials" aria-label="Try prompts">
      <h3>
        Try prompts{' '}
        <span class="state">
          {edited === undefined ? 'by the rules in force' : 'by the rules in force and the edited ones'}
        </span>
      </h3>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void tryOut();
        }}
      >
        <label for={`${id}-prompts`}>Prompts, one a line</label>
        <textarea
          id={`${id}-prompts`}
          rows={3}
          value={fields.prompts}
          onInput={(event) => set({ prompts: event.currentTarget.value })}
        />
        <details>
          <summary>As whom, from where</summary>
          <div class="row">
            <TextField title="Model" value={fields.model} onChange={(model) => set({ model })} />
            <TextField title="Tenant" value={fields.tenant} onChange={(tenant) => set({ tenant })} />
            <TextField title="Country" value={fields.country} onChange={(country) => set({ country })} />
            <TextField
              title="Headers, as x-team: core; x-plan: gold"
              value={fields.headers}
              onChange={(headers) => set({ headers })}
            />
          </div>
        </details>
        <div class="row">
          <button type="submit" disabled={isBusy}>
            Try
          </button>
        </div>
      </form>
      <ProblemLine text={problem} />
      <Scroll label="What the rules make of them" kind="tall">
        {outcomes.length > 0 && <Outcomes outcomes={outcomes} />}
      </Scroll>
    </section>
  );
}

function Outcomes({ outcomes }: { readonly outcomes: readonly Outcome[] }) {
  const hasEdited = outcomes.some(({ edited }) => edited !== undefined);
  return (
    <>
      <Scroll label="Outcomes">
        <table>
          <thead>
            <tr>
              <th scope="col">Prompt</th>
              <th scope="col">Label</th>
              <th scope="col">{hasEdited ? 'In force' : 'Rule and model'}</th>
              {hasEdited && <th scope="col">Edited</th>}
            </tr>
          </thead>
          <tbody>
            {outcomes.map(({ prompt, live, edited }) => (
              <tr key={prompt}>
                <th scope="row" class="prompt">
                  {prompt}
                </th>
                <td>
                  {live.classification === null
                    ? live.classifier.state
                    : `${live.classification.label} ${formatPercent(live.classification.confidence)}`}
                </td>
                <td>{outcomeText(live)}</td>
                {edited !== undefined && (
                  <td class={outcomeText(edited) === outcomeText(live) ? undefined : 'changed'}>
                    {outcomeText(edited)}
                    {outcomeText(edited) !== outcomeText(live) && ' (changed)'}
                  </td>
                )}
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
      {outcomes.map(({ prompt, live, edited }) => (
        <details key={prompt}>
          <summary>Why: {prompt}</summary>
          <ExplanationView explanation={edited ?? live} />
        </details>
      ))}
    </>
  );
}

function outcomeText({ rule, model, refused }: Explanation): string {
  return `${rule} → ${refused === null ? model : 'refused'}`;
}

interface TextFieldProps {
  readonly title: string;
  readonly value: string;
  readonly onChange: (value: string) => void;
}

function TextField({ title, value, onChange }: TextFieldProps) {
  return (
    <label class="text-field">
      <span>{title}</span>
      <input
        value={value}
        autocomplete="off"
        spellcheck={false}
        onInput={(event) => onChange(event.currentTarget.value)}
      />
    </label>
  );
}
