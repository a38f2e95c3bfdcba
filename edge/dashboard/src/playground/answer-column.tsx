/**
 * One answer: what was decided, the plan, and the text as it comes. Everything has its room before it is there.
 */
import { LabelBars } from '../ui/label-bars.tsx';
import { formatMs, formatRate } from '../ui/numbers.ts';
import { PlanBars } from '../ui/plan-bars.tsx';
import { ProblemLine } from '../ui/problem.tsx';
import { Scroll } from '../ui/scroll.tsx';
import type { Answer } from './lane.ts';

const STATES: Readonly<Record<Answer['state'], string>> = {
  idle: 'Nothing asked yet',
  running: 'Answering …',
  done: 'Done',
  stopped: 'Stopped',
  failed: 'Failed',
};

export function AnswerColumn({ title, answer }: { readonly title: string; readonly answer: Answer }) {
  const { explanation, progress, region, problem, state } = answer;
  const figures = [
    ['Rule', explanation?.rule],
    ['Model', explanation?.refused === null ? explanation.model : explanation && 'refused'],
    ['Region', region],
    ['First token', progress.firstTokenMs && formatMs(progress.firstTokenMs)],
    ['Tokens', progress.tokens > 0 ? progress.tokens : undefined],
    ['Tokens/s', progress.tokensPerSecond && formatRate(progress.tokensPerSecond)],
  ] as const;
  return (
    <section class="card answer" aria-label={title}>
      <div class="what">
        <h3>
          {title} <span class="state">{STATES[state]}</span>
        </h3>
        <dl class="figures">
          {figures.map(([name, value]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{value || '–'}</dd>
            </div>
          ))}
        </dl>
        <Scroll label={`${title}: text`} kind="text" isBusy={state === 'running'}>
          {progress.text}
        </Scroll>
        <ProblemLine text={problem?.message ?? explanation?.refused ?? undefined} />
      </div>
      <div class="why">
        <h4>Label</h4>
        <LabelBars explanation={explanation} />
        <h4>Plan: milliseconds to the first token</h4>
        <PlanBars explanation={explanation} />
      </div>
      <p class="visually-hidden" role="status">
        {state === 'done' ? `${title} done: ${progress.tokens} tokens` : STATES[state]}
      </p>
    </section>
  );
}
