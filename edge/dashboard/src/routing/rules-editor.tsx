/**
 * A rule set to try and to put in force. What is wrong with it is shown at its place.
 */
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import type { Client } from '../api/client.ts';
import { messageOf, Refusal } from '../api/refusal.ts';
import type { ConfigChange, ConfigView } from '../api/types.ts';
import { Scroll } from '../ui/scroll.tsx';
import { DryRunReport } from './dry-run.tsx';
import { lineOfProblem, rangeOfLine } from './place.ts';

interface RulesEditorProps {
  readonly client: Client;
  readonly config: ConfigView | undefined;
  readonly draft: string | undefined;
  readonly onDraft: (text: string | undefined) => void;
  readonly onWritten: () => void;
}

type Result =
  | { readonly kind: 'problem'; readonly message: string; readonly line: number | undefined }
  /** Somebody else has written meanwhile. */
  | { readonly kind: 'conflict'; readonly message: string }
  | { readonly kind: 'change'; readonly change: ConfigChange };

const CONFIG = '/admin/config';

export function RulesEditor({ client, config, draft, onDraft, onWritten }: RulesEditorProps) {
  const id = useId();
  const box = useRef<HTMLTextAreaElement>(null);
  const gutter = useRef<HTMLDivElement>(null);
  const [message, setMessage] = useState('');
  const [result, setResult] = useState<Result>();
  const [isBusy, setBusy] = useState(false);
  /** The version that the draft began with, and so follows. */
  const [follows, setFollows] = useState<number>();
  const text = draft ?? config?.text ?? '';
  const isEdited = draft !== undefined && draft !== config?.text;
  const problemLine = result?.kind === 'problem' ? result.line : undefined;

  useEffect(() => {
    if (problemLine === undefined || box.current === null) return;
    const { start, end } = rangeOfLine(box.current.value, problemLine);
    box.current.focus();
    box.current.setSelectionRange(start, end);
    box.current.scrollTop = Math.max(
      0,
      (problemLine - 4) * (box.current.scrollHeight / box.current.value.split('\n').length),
    );
  }, [problemLine]);

  const edit = (edited: string) => {
    if (draft === undefined) setFollows(config?.version);
    onDraft(edited);
    setResult(undefined);
  };
  const drop = () => {
    onDraft(undefined);
    setResult(undefined);
    onWritten();
  };
  const send = async (query: string, headers: Readonly<Record<string, string>>) => {
    setBusy(true);
    try {
      const change = await client.json<ConfigChange>('operator', `${CONFIG}?${query}`, {
        method: 'PUT',
        body: text,
        headers,
      });
      setResult({ kind: 'change', change });
      if (change.result !== 'dry_run') {
        onDraft(undefined);
        setMessage('');
        onWritten();
      }
    } catch (error) {
      setResult(resultOf(error, text));
    } finally {
      setBusy(false);
    }
  };
  const write = (version: number | '*') => {
    const query = new URLSearchParams(message.trim() === '' ? {} : { message: message.trim() });
    void send(query.toString(), { 'if-match': version === '*' ? '*' : `"${version}"` });
  };

  return (
    <section class="card editor" aria-label="Rule set">
      <h3>
        Rule set <span class="state">{isEdited ? 'edited' : 'as it is'}</span>
      </h3>
      <label for={id} class="visually-hidden">
        routing.yaml
      </label>
      <div class="code">
        <div class="gutter" ref={gutter} aria-hidden="true">
          {text.split('\n').map((_, i) => (
            <div key={`${i + 1}`} class={problemLine === i + 1 ? 'wrong' : undefined}>
              {i + 1}
            </div>
          ))}
        </div>
        <textarea
          id={id}
          ref={box}
          rows={18}
          wrap="off"
          spellcheck={false}
          autocapitalize="off"
          value={text}
          aria-invalid={result?.kind === 'problem'}
          aria-describedby={`${id}-said`}
          onInput={(event) => edit(event.currentTarget.value)}
          onScroll={(event) => {
            if (gutter.current !== null) gutter.current.scrollTop = event.currentTarget.scrollTop;
          }}
        />
      </div>
      <div class="row">
        <button type="button" disabled={isBusy} onClick={() => void send('dry_run=1', {})}>
          Check and dry-run
        </button>
        <button type="button" disabled={!isEdited} onClick={drop}>
          Undo edits
        </button>
        <label class="message">
          Message <input value={message} maxLength={500} onInput={(event) => setMessage(event.currentTarget.value)} />
        </label>
        <button
          type="button"
          class="strong"
          disabled={isBusy || !isEdited}
          onClick={() => write(follows ?? config?.version ?? 0)}
        >
          Put in force
        </button>
      </div>
      <Scroll label="What came of it" kind="report">
        <div id={`${id}-said`} role="status">
          {result === undefined ? <p class="hint">A check or a change is answered here.</p> : <Said result={result} />}
        </div>
        {result?.kind === 'conflict' && (
          <div class="row">
            <button type="button" onClick={drop}>
              Take theirs, drop mine
            </button>
            <button type="button" onClick={() => write('*')}>
              Put mine in their place
            </button>
          </div>
        )}
        {result?.kind === 'change' && <DryRunReport run={result.change.would_change} />}
      </Scroll>
    </section>
  );
}

function resultOf(error: unknown, text: string): Result {
  const message = messageOf(error);
  if (error instanceof Refusal && error.status === 412) return { kind: 'conflict', message };
  return { kind: 'problem', message, line: lineOfProblem(message, text) };
}

function Said({ result }: { readonly result: Result }) {
  switch (result.kind) {
    case 'problem':
      return (
        <p class="problem">
          {result.line !== undefined && <strong>Line {result.line}: </strong>}
          {result.message}
        </p>
      );
    case 'conflict':
      return <p class="problem">Not put in force: {result.message}</p>;
    case 'change':
      return <p>{CHANGES[result.change.result](result.change.version ?? 0)}</p>;
    default:
      return result satisfies never;
  }
}

const CHANGES: Readonly<Record<ConfigChange['result'], (version: number) => string>> = {
  dry_run: () => 'Valid. Nothing was changed; this is what it would change:',
  unchanged: (version) => `These are the rules of version ${version} already.`,
  written: (version) => `Written as version ${version}: in force everywhere within a minute.`,
};
