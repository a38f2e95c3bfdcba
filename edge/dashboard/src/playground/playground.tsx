/**
 * The playground: a prompt, what the edge makes of it, and the answer; of two models side by side where wanted.
 */
import { useId, useState } from 'preact/hooks';
import type { Client } from '../api/client.ts';
import type { ListOf } from '../api/types.ts';
import { KeyForm, type OnKey } from '../ui/key-form.tsx';
import { usePoll } from '../ui/poll.ts';
import { AnswerColumn } from './answer-column.tsx';
import { useLane } from './lane.ts';
import type { Choice } from './model-choice.tsx';
import { ModelChoice, modelName } from './model-choice.tsx';

const EXAMPLES = ['What is 17 plus 25?', 'Write a Python function that adds two numbers.', 'Hi, how are you?'];
const MODELS_EVERY_MS = 30_000;
const askModels = (client: Client, signal: AbortSignal) =>
  client.json<ListOf<{ id: string }>>('api', '/v1/models', { signal });
const AUTO: Choice = { model: 'auto', weights: {} };

export function Playground({ client, onKey }: { readonly client: Client; readonly onKey: OnKey }) {
  const id = useId();
  const [text, setText] = useState('What is 17 plus 25?');
  const [maxTokens, setMaxTokens] = useState(128);
  const [temperature, setTemperature] = useState(0);
  const [isComparing, setComparing] = useState(false);
  const [choices, setChoices] = useState<readonly [Choice, Choice]>([AUTO, { model: 'base', weights: {} }]);
  const lanes = [useLane(client), useLane(client)] as const;
  const list = usePoll(client, askModels, { everyMs: MODELS_EVERY_MS, isOn: true });
  const refused = [list.problem, lanes[0].problem, lanes[1].problem].find((problem) => problem?.status === 401);
  const shown = isComparing ? ([0, 1] as const) : ([0] as const);
  const isRunning = shown.some((i) => lanes[i].state === 'running');
  const models = list.value?.data.map((model) => model.id) ?? [];

  const send = () => {
    if (text.trim() === '') return;
    for (const i of shown) void lanes[i].run({ text, maxTokens, temperature }, modelName(choices[i]));
  };
  const stop = () => {
    for (const lane of lanes) lane.stop();
  };
  const choose = (i: 0 | 1, choice: Choice) =>
    setChoices(([first, second]) => (i === 0 ? [choice, second] : [first, choice]));

  return (
    <>
      <h2 class="visually-hidden">Playground</h2>
      {refused !== undefined && (
        <KeyForm kind="api" onKey={onKey} problem={client.has('api') ? refused.message : undefined} />
      )}
      <form
        class="card prompt-form"
        onSubmit={(event) => {
          event.preventDefault();
          send();
        }}
      >
        <label for={`${id}-prompt`}>Prompt</label>
        <textarea
          id={`${id}-prompt`}
          rows={3}
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) send();
          }}
        />
        <div class="row examples">
          <span class="hint">Try:</span>
          {EXAMPLES.map((example) => (
            <button key={example} type="button" class="quiet" onClick={() => setText(example)}>
              {example}
            </button>
          ))}
        </div>
        <div class={isComparing ? 'two' : 'one'}>
          {shown.map((i) => (
            <ModelChoice
              key={i}
              title={isComparing ? `Model ${i + 1}` : 'Model'}
              models={models}
              choice={choices[i]}
              onChange={(choice) => choose(i, choice)}
            />
          ))}
        </div>
        <div class="row">
          <button type="submit" disabled={isRunning || text.trim() === ''}>
            Send
          </button>
          <button type="button" disabled={!isRunning} onClick={stop}>
            Stop
          </button>
          <label class="check">
            <input
              type="checkbox"
              checked={isComparing}
              onChange={(event) => setComparing(event.currentTarget.checked)}
            />{' '}
            Compare two models
          </label>
          <NumberField title="Max tokens" value={maxTokens} min={1} max={4096} step={1} onChange={setMaxTokens} />
          <NumberField title="Temperature" value={temperature} min={0} max={2} step={0.1} onChange={setTemperature} />
        </div>
      </form>
      <div class={isComparing ? 'two lanes' : 'one lanes'}>
        {shown.map((i) => (
          <AnswerColumn key={i} title={isComparing ? `Answer ${i + 1}` : 'Answer'} answer={lanes[i]} />
        ))}
      </div>
    </>
  );
}

interface NumberFieldProps {
  readonly title: string;
  readonly value: number;
  readonly min: number;
  readonly max: number;
  readonly step: number;
  readonly onChange: (value: number) => void;
}

function NumberField({ title, value, onChange, min, max, step }: NumberFieldProps) {
  return (
    <label class="number">
      {title}{' '}
      <input
        type="number"
        {...{ value, min, max, step }}
        onChange={(event) => {
          const given = event.currentTarget.valueAsNumber;
          onChange(Number.isNaN(given) ? value : Math.min(max, Math.max(min, given)));
        }}
      />
    </label>
  );
}
