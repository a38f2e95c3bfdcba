/**
 * What other rules would have made of the latest requests.
 */
import type { ConfigChange } from '../api/types.ts';
import { Scroll } from '../ui/scroll.tsx';

type Run = NonNullable<ConfigChange['would_change']>;

export function DryRunReport({ run }: { readonly run: Run | null }) {
  if (run === null) return <p class="hint">Past decisions can’t be read, so it can’t be said what this changes.</p>;
  const { requests, unchanged, changed, unknown, rules, changes, undecided } = run;
  return (
    <div class="dry-run">
      <p>
        Of the latest {requests} requests {changed} would change, {unchanged} would not
        {unknown > 0 && `, and of ${unknown} it can’t be told`}.
      </p>
      {undecided.map(({ rule, requests: of }) => (
        <p key={rule} class="hint">
          {of} hang on “{rule}”, which looks at what isn’t recorded.
        </p>
      ))}
      {changes.length > 0 && (
        <Scroll label="Changes">
          <table>
            <thead>
              <tr>
                <th scope="col">Requests</th>
                <th scope="col">Before</th>
                <th scope="col">After</th>
                <th scope="col">Differs in</th>
              </tr>
            </thead>
            <tbody>
              {changes.map(({ before, after, fields, requests: of }) => (
                <tr key={JSON.stringify([before, after, fields])}>
                  <td>{of}</td>
                  <td>{outcomeText(before)}</td>
                  <td>{outcomeText(after)}</td>
                  <td>{fields.join(', ')}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </Scroll>
      )}
      {rules.length > 0 && (
        <Scroll label="Requests by rule">
          <table>
            <thead>
              <tr>
                <th scope="col">Rule</th>
                <th scope="col">Before</th>
                <th scope="col">After</th>
              </tr>
            </thead>
            <tbody>
              {rules.map(({ name, before, after }) => (
                <tr key={name}>
                  <th scope="row">{name}</th>
                  <td>{before}</td>
                  <td>{after}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </Scroll>
      )}
    </div>
  );
}

function outcomeText({ rule, model, refused }: Run['changes'][number]['before']): string {
  return `${rule}: ${refused === null ? model : `refused (${refused})`}`;
}
