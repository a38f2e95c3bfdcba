/**
 * An explanation in full: the rules that were looked at, the label, the plan.
 */
import type { Explanation } from '../api/types.ts';
import { LabelBars } from '../ui/label-bars.tsx';
import { PlanBars } from '../ui/plan-bars.tsx';

export function ExplanationView({ explanation }: { readonly explanation: Explanation }) {
  const { passed, rule, model, refused } = explanation;
  return (
    <div class="explanation">
      <ol class="passed">
        {passed.map(({ rule: name, result }) => (
          <li key={name}>
            <code>{name}</code> {result === false ? 'does not hold' : 'can’t be told without a label'}
          </li>
        ))}
        <li>
          <strong>
            <code>{rule}</code> decides: {refused === null ? model : `refused, ${refused}`}
          </strong>
        </li>
      </ol>
      <LabelBars explanation={explanation} />
      <PlanBars explanation={explanation} />
    </div>
  );
}
