/**
 * Asks for a key. It goes into the page's memory, and with the page.
 */
import { useId, useState } from 'preact/hooks';
import type { KeyKind } from '../api/client.ts';

const TEXTS = {
  api: { title: 'API key', why: 'This edge serves those who have a key.' },
  operator: {
    title: 'Operator key',
    why: 'For whoever runs this edge: an administrator’s key, as ADMIN_KEY_HASHES has its hash.',
  },
} as const satisfies Record<KeyKind, object>;

export type OnKey = (kind: KeyKind, key: string | undefined) => void;

interface KeyFormProps {
  readonly kind: KeyKind;
  readonly onKey: OnKey;
  /** Why the last one was no good. */
  readonly problem?: string | undefined;
}

export function KeyForm({ kind, onKey, problem }: KeyFormProps) {
  const id = useId();
  const [text, setText] = useState('');
  const { title, why } = TEXTS[kind];
  return (
    <form
      class="card key-form"
      onSubmit={(event) => {
        event.preventDefault();
        if (text.trim() !== '') onKey(kind, text.trim());
        setText('');
      }}
    >
      <p>{why} It is kept in this page’s memory alone, and gone when the page is.</p>
      <label for={id}>{title}</label>
      <div class="row">
        <input
          id={id}
          type="password"
          autocomplete="off"
          spellcheck={false}
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <button type="submit">Use it</button>
      </div>
      <p class="problem" role="alert">
        {problem}
      </p>
    </form>
  );
}
