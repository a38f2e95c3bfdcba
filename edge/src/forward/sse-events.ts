/**
 * Server-sent events out of a byte stream, one by one. Source: the event stream section of the HTML standard (a blank line dispatches; LF, CR LF or CR end a
 * line; lines that begin with a colon are comments).
 */

/** Longer than any event a region sends; what grows beyond isn't an event stream. */
const MAX_EVENT_CHARS = 1024 * 1024;
const BLANK_LINE = /\r\n\r\n|\n\n|\r\r/;

export interface SseEvent {
  /** As it came, with its blank line. */
  readonly text: string;
  /** The lines of its data, joined; undefined for one that has none (comments). */
  readonly data: string | undefined;
}

export const DONE = '[DONE]';

export class SseEvents {
  readonly #decoder = new TextDecoder();
  #pending = '';

  /** The events that a chunk completes. @throws Error when one grows beyond a million characters. */
  push(chunk: Uint8Array): SseEvent[] {
    this.#pending += this.#decoder.decode(chunk, { stream: true });
    const events: SseEvent[] = [];
    // A CR at the end may be half of a line's end.
    for (let end = this.#end(); end !== undefined; end = this.#end()) {
      events.push(parse(this.#pending.slice(0, end)));
      this.#pending = this.#pending.slice(end);
    }
    if (this.#pending.length > MAX_EVENT_CHARS)
      throw new Error(`an event is longer than ${MAX_EVENT_CHARS} characters`);
    return events;
  }

  /** At the stream's end: a last `[DONE]` that lacks its blank line; anything else unfinished is dropped. */
  finish(): SseEvent | undefined {
    const last = parse(`${this.#pending.trimEnd()}\n\n`);
    return last.data === DONE ? last : undefined;
  }

  #end(): number | undefined {
    const found = BLANK_LINE.exec(this.#pending);
    if (found === null) return undefined;
    const end = found.index + found[0].length;
    return found[0] === '\r\r' && end === this.#pending.length ? undefined : end;
  }
}

function parse(text: string): SseEvent {
  const lines = text.split(/\r\n|\n|\r/).filter((line) => line.startsWith('data:'));
  const data = lines.map((line) => line.slice(line.startsWith('data: ') ? 6 : 5)).join('\n');
  return { text, data: lines.length === 0 ? undefined : data.trimEnd() };
}

/** An event with a JSON payload. */
export function eventOf(payload: unknown): string {
  return `data: ${JSON.stringify(payload)}\n\n`;
}
