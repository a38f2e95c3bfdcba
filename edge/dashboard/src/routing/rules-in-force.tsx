/**
 * Which rules hold, and how often each has decided.
 */
import type { ConfigView, RuleHits } from '../api/types.ts';
import { formatAge, formatPercent } from '../ui/numbers.ts';
import { Scroll } from '../ui/scroll.tsx';
import { rulesWithHits } from './hits.ts';

interface RulesInForceProps {
  readonly config: ConfigView | undefined;
  readonly hits: readonly RuleHits[];
}

export function RulesInForce({ config, hits }: RulesInForceProps) {
  const rows = rulesWithHits(config?.text ?? '', hits);
  const most = Math.max(1, ...rows.map(({ requests }) => requests));
  const total = Math.max(
    1,
    rows.reduce((sum, { requests }) => sum + requests, 0),
  );
  return (
    <section class="card in-force" aria-label="Rules in force">
      <h3>Rules in force</h3>
      <p class="hint">{config === undefined ? ' ' : standing(config)}</p>
      <Scroll label="Rules and their hits">
        <table>
          <thead>
            <tr>
              <th scope="col">Rule</th>
              <th scope="col">Requests</th>
              <th scope="col">Share</th>
            </tr>
          </thead>
          <tbody>
            {rows.map(({ rule, requests, isThere }) => (
              <tr key={rule}>
                <th scope="row">
                  {rule} {!isThere && <span class="hint">no longer there</span>}
                </th>
                <td>
                  <span class="gauge">
                    <span class="track" aria-hidden="true">
                      <span class="fill" style={{ width: `${(100 * requests) / most}%` }} />
                    </span>
                    {requests}
                  </span>
                </td>
                <td>{formatPercent(requests / total)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
    </section>
  );
}

/** A text that was written is not everywhere in force at once. */
function standing({ version, by, at, in_force: inForce }: ConfigView): string {
  const name = (number: number | null) =>
    number === null ? 'put there by hand' : number === 0 ? 'as bundled' : `version ${number}`;
  const written = at === null ? '' : `, written ${at.slice(0, 19).replace('T', ' ')} by ${by}`;
  const behind =
    inForce.version === version
      ? ''
      : ` The edge still goes by ${name(inForce.version)}: a new version is in force everywhere within a minute.`;
  const problem = inForce.problem === null ? '' : ` ${inForce.problem}`;
  return `Latest: ${name(version)}${written}. Looked at ${formatAge(inForce.age_ms)}.${behind}${problem}`;
}
