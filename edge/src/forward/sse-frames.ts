/**
 * Server-sent events as bytes: cut where events end, so that nothing of ours is ever written into the middle of one.
 *
 * Reads only what it must: where the last whole event is, and whether it is the one that ends an answer. Source: the event stream
 * section of the HTML standard (blank line dispatches; LF, CR LF or CR end a line), data `[DONE]` by OpenAI's convention.
 */

/** Longer than any event a region sends; what grows beyond isn't an event stream. */
const MAX_EVENT_BYTES = 1024 * 1024;
const LF = 0x0a;
const CR = 0x0d;
const NOTHING = new Uint8Array(0);

export class SseFrames {
  #pending: Uint8Array = NOTHING;
  #last: 'none' | 'event' | 'done' = 'none';

  /** Whether the event that ends an answer has been passed on. */
  get done(): boolean {
    return this.#last === 'done';
  }

  /**
   * Takes a chunk and gives back the bytes up to the end of the last whole event in it, which may be none.
   *
   * @throws Error when one event grows beyond 1 MiB.
   */
  push(chunk: Uint8Array): Uint8Array {
    const bytes = join(this.#pending, chunk);
    const end = lastEventEnd(bytes, bytes.length);
    if (bytes.length - end > MAX_EVENT_BYTES) throw new Error(`an event is longer than ${MAX_EVENT_BYTES} bytes`);
    this.#pending = end === bytes.length ? NOTHING : bytes.slice(end);
    if (end === 0) return NOTHING;
    const whole = end === bytes.length ? bytes : bytes.subarray(0, end);
    this.#note(whole);
    return whole;
  }

  /** At the stream's end: a final `[DONE]` that lacks its blank line, completed; anything else unfinished is dropped. */
  finish(): Uint8Array {
    if (this.#pending.length === 0 || !isDone(this.#pending)) return NOTHING;
    this.#last = 'done';
    return join(this.#pending, new TextEncoder().encode('\n\n'));
  }

  #note(whole: Uint8Array): void {
    const contentEnd = trimEnd(whole, whole.length);
    if (contentEnd === 0) return;
    const start = lastEventEnd(whole, contentEnd);
    this.#last = isDone(whole.subarray(start, contentEnd)) ? 'done' : 'event';
  }
}

/** An error as the last event of a stream, in OpenAI's envelope. */
export function errorEvent(body: unknown): Uint8Array {
  return new TextEncoder().encode(`data: ${JSON.stringify(body)}\n\n`);
}

function isDone(event: Uint8Array): boolean {
  return event.length <= 64 && /^data: ?\[DONE\]\s*$/.test(new TextDecoder().decode(event));
}

/** Index after the last blank line before `end`; 0 when there is none. */
function lastEventEnd(bytes: Uint8Array, end: number): number {
  for (let i = end - 1; i > 0; i--) {
    if (bytes[i] === LF) {
      const before = bytes[i - 1] === CR ? i - 2 : i - 1;
      if (bytes[before] === LF) return i + 1;
    } else if (bytes[i] === CR && bytes[i - 1] === CR && bytes[i + 1] !== LF) return i + 1;
  }
  return 0;
}

function trimEnd(bytes: Uint8Array, end: number): number {
  let at = end;
  while (at > 0 && (bytes[at - 1] === LF || bytes[at - 1] === CR)) at--;
  return at;
}

function join(a: Uint8Array, b: Uint8Array): Uint8Array {
  if (a.length === 0) return b;
  const out = new Uint8Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}
