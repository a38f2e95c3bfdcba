/**
 * Token ids to text as they arrive.
 *
 * A character may span tokens, and a tokenizer may join them with spaces of its own, so a token's text is the difference between decoding with
 * and without it, held back while it ends in the middle of a character.
 */

/** What a decoder writes for bytes that are no whole character yet. */
const REPLACEMENT = '\uFFFD';
/** A UTF-8 character has at most 4 bytes: a longer run of incomplete text is garbage, and is passed on. */
const MAX_PENDING_TOKENS = 8;

export class StreamDecoder {
  readonly #decode: (ids: readonly number[]) => string;
  /** Special tokens that are text here. */
  readonly #marks: ReadonlyMap<number, string>;
  /** Ids since the last clean border; the first `#emitted` of them have been given out and stay as context. */
  #ids: number[] = [];
  #emitted = 0;

  constructor(decode: (ids: readonly number[]) => string, marks: ReadonlyMap<number, string> = new Map()) {
    this.#decode = decode;
    this.#marks = marks;
  }

  /** Text that became certain with this token: often its own, '' in the middle of a character. */
  push(id: number): string {
    const mark = this.#marks.get(id);
    if (mark !== undefined) return this.flush() + mark;
    this.#ids.push(id);
    const text = this.#pending();
    if (text.endsWith(REPLACEMENT) && this.#ids.length - this.#emitted < MAX_PENDING_TOKENS) return '';
    this.#ids = this.#ids.slice(this.#emitted);
    this.#emitted = this.#ids.length;
    return text;
  }

  /** What was held back, at the end of an answer or of what can be decoded by itself. */
  flush(): string {
    const text = this.#pending();
    this.#ids = [];
    this.#emitted = 0;
    return text;
  }

  #pending(): string {
    if (this.#ids.length === this.#emitted) return '';
    const before = this.#decode(this.#ids.slice(0, this.#emitted));
    return this.#decode(this.#ids).slice(before.length);
  }
}
