/**
 * Which model: the rules' choice, one of the edge's list, or a mixture by sliders.
 */
import { useId } from 'preact/hooks';
import { mixableExperts, mixtureName, type Weights } from './mixture.ts';

const MIXTURE = '(mixture)';

export interface Choice {
  /** A model's name, or that it is mixed. */
  readonly model: string;
  readonly weights: Weights;
}

export function modelName({ model, weights }: Choice): string {
  return model === MIXTURE ? mixtureName(weights) : model;
}

interface ModelChoiceProps {
  readonly title: string;
  readonly models: readonly string[];
  readonly choice: Choice;
  readonly onChange: (choice: Choice) => void;
}

export function ModelChoice({ title, models, choice, onChange }: ModelChoiceProps) {
  const id = useId();
  const experts = mixableExperts(models);
  const choose = (model: string) => {
    const isFirst = model === MIXTURE && Object.keys(choice.weights).length === 0;
    const weights = isFirst
      ? Object.fromEntries(experts.map((expert, i) => [expert, i === 0 ? 1 : 0]))
      : choice.weights;
    onChange({ model, weights });
  };
  // What was chosen stays there before the list is, and without it.
  const listed = [...new Set(['auto', 'base', ...models, ...(choice.model === MIXTURE ? [] : [choice.model])])];
  return (
    <div class="model-choice">
      <label for={id}>{title}</label>
      <select id={id} value={choice.model} onChange={(event) => choose(event.currentTarget.value)}>
        {listed.map((model) => (
          <option key={model} value={model}>
            {model === 'auto' ? 'auto: the rules choose' : model}
          </option>
        ))}
        <option value={MIXTURE} disabled={experts.length === 0}>
          a mixture …
        </option>
      </select>
      {choice.model === MIXTURE && (
        <fieldset class="mixture">
          <legend>
            Mixture <code>{mixtureName(choice.weights)}</code>
          </legend>
          {experts.map((expert) => (
            <label key={expert}>
              <span>{expert}</span>
              <input
                type="range"
                min={0}
                max={2}
                step={0.05}
                value={choice.weights[expert] ?? 0}
                aria-valuetext={`${choice.weights[expert] ?? 0}`}
                onInput={(event) =>
                  onChange({
                    ...choice,
                    weights: { ...choice.weights, [expert]: event.currentTarget.valueAsNumber },
                  })
                }
              />
              <output>{(choice.weights[expert] ?? 0).toFixed(2)}</output>
            </label>
          ))}
        </fieldset>
      )}
    </div>
  );
}
