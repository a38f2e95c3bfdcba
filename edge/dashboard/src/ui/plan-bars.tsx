/**
 * The plan: regions in the order in which they are asked, each with what stands before its first token, and where it has the experts.
 */
import type { Explanation, PlanEntry, PlanTerm, Residency } from '../api/types.ts';
import { RESIDENCIES, RESIDENCY_TEXT } from '../fleet/residency.ts';
import { formatMs } from './numbers.ts';

const TERMS: Readonly<Record<PlanTerm['term'], string>> = {
  network: 'network',
  queue: 'queue',
  'page-in': 'page-in',
  prefill: 'prefill',
  'cold-start': 'cold start',
  wake: 'wake-up',
};

export function PlanBars({ explanation }: { readonly explanation: Explanation | undefined }) {
  const plan: readonly PlanEntry[] = explanation?.plan ?? [];
  const longest = Math.max(1, ...plan.map(({ total_ms }) => total_ms));
  const used = new Set(plan.flatMap(({ terms }) => terms.map(({ term }) => term)));
  return (
    <div class="plan">
      <ol class="regions">
        {plan.map((entry, i) => (
          <li key={entry.region}>
            <div class="plan-head">
              <strong>
                {i + 1}. {entry.region}
              </strong>
              <span>{standing(entry)}</span>
              <span class="value">{formatMs(entry.total_ms)}</span>
            </div>
            <div class="stack" aria-hidden="true" style={{ background: stackOf(entry, longest) }} />
            <details>
              <summary>Why</summary>
              <ul>
                {entry.terms.map(({ term, ms, why }) => (
                  <li key={term}>
                    {TERMS[term]} {formatMs(ms)}: {why}
                  </li>
                ))}
              </ul>
            </details>
            <ExpertStates experts={entry.experts} />
          </li>
        ))}
      </ol>
      <ul class="legend" aria-label="Colours">
        {Object.entries(TERMS).map(([term, name]) =>
          used.has(term as PlanTerm['term']) ? (
            <li key={term}>
              <span class={`swatch ${term}`} aria-hidden="true" /> {name}
            </li>
          ) : null,
        )}
      </ul>
    </div>
  );
}

/** The terms one after the other, as one ground: nothing in it moves when they change. */
function stackOf({ terms }: PlanEntry, longestMs: number): string {
  let from = 0;
  const stops = terms.map(({ term, ms }) => {
    const to = from + (100 * ms) / longestMs;
    const stop = `var(--term-${term}) ${from}% ${to}%`;
    from = to;
    return stop;
  });
  return `linear-gradient(to right, ${[...stops, `var(--track) ${from}%`].join(', ')})`;
}

function standing({ draining, held_back, asleep }: PlanEntry): string {
  return [draining && 'draining', held_back && 'held back', asleep && 'asleep'].filter(Boolean).join(', ');
}

function ExpertStates({ experts }: Pick<PlanEntry, 'experts'>) {
  if (experts === null) return <p class="hint">No catalogue says what the experts are.</p>;
  return (
    <ul class="experts">
      {experts.map(({ expert, containers }) => {
        const nearest = RESIDENCIES.find((one) => containers.includes(one));
        return (
          <li key={expert}>
            {expert}: <ResidencyMark residency={nearest} />
          </li>
        );
      })}
    </ul>
  );
}

export function ResidencyMark({ residency }: { readonly residency: Residency | undefined }) {
  if (residency === undefined) return <span class="residency silent">not heard of</span>;
  const { mark, text } = RESIDENCY_TEXT[residency];
  return (
    <span class={`residency ${residency}`}>
      <span aria-hidden="true">{mark}</span> {text}
    </span>
  );
}
