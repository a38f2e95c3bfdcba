/**
 * What the classifier says of a prompt: each label with its probability.
 */
import type { Explanation } from '../api/types.ts';
import { formatPercent } from './numbers.ts';

const STATES: Readonly<Record<Explanation['classifier']['state'], string>> = {
  ready: 'sure enough',
  abstained: 'not sure enough: rules that ask for a label don’t fire',
  cold: 'starting: rules that need no label decide',
  failed: 'it does not work: rules that need no label decide',
  skipped: 'no text to look at',
};

export function LabelBars({ explanation }: { readonly explanation: Explanation | undefined }) {
  const said = explanation?.classification;
  const rows = Object.entries(said?.probabilities ?? {}).sort(([, a], [, b]) => b - a);
  return (
    <div class="labels">
      <ul class="bars">
        {rows.map(([label, probability]) => (
          <li key={label} class={label === said?.label ? 'chosen' : undefined}>
            <span class="name">{label}</span>
            <span class="track" aria-hidden="true">
              <span class="fill" style={{ width: `${100 * probability}%` }} />
            </span>
            <span class="value">{formatPercent(probability)}</span>
          </li>
        ))}
      </ul>
      {explanation !== undefined && (
        <p class="hint">
          Classifier: {STATES[explanation.classifier.state]}
          {said && `, threshold ${formatPercent(said.threshold)}`}
        </p>
      )}
    </div>
  );
}
