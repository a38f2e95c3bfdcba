/**
 * Tool calls in an answer's text, as it comes: text before them, then names and arguments, wherever the pieces are cut.
 *
 * What looks like a call and isn't one is text after all, the marks around it included.
 */
import type { ToolCallFormat } from '@signpost/engine';

export type AnswerPart =
  | { readonly kind: 'text'; readonly text: string }
  /** The next call has begun. */
  | { readonly kind: 'call'; readonly name: string }
  /** More of its arguments, as JSON text. */
  | { readonly kind: 'arguments'; readonly text: string };

const OPEN: Readonly<Record<ToolCallFormat, string>> = {
  hermes: '<tool_call>',
  llama3: '<|python_tag|>',
  mistral: '[TOOL_CALLS]',
};
const CLOSE = '</tool_call>';
/** A call up to its arguments, where they come after its name: they can be passed on as they come. */
const HEAD =
  /^\{\s*(?:"type"\s*:\s*"function"\s*,\s*)?"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)/;

/**
 * - `text`: before, between or after calls
 * - `before`: after a mark, where a call must begin
 * - `call`: in a call whose arguments haven't begun
 * - `arguments`: passes them on
 * - `after`: arguments are complete, the call isn't
 * - `closing`: the mark after a call is to come
 * - `plain`: whatever comes is text
 */
type Phase = 'text' | 'before' | 'call' | 'arguments' | 'after' | 'closing' | 'plain';

export class ToolCallParser {
  readonly #format: ToolCallFormat;
  #phase: Phase;
  /** Text not decided about. */
  #held = '';
  /** What was taken for the beginning of calls, to give it back where there is none. */
  #raw = '';
  #scan = new JsonScan(0);
  #calls = 0;

  /** @param begins `in call` where the mark stands at the end of the prompt, so that the answer can only be calls. */
  constructor(format: ToolCallFormat, begins: 'in text' | 'in call') {
    this.#format = format;
    this.#phase = begins === 'in call' ? 'before' : 'text';
  }

  /** Calls begun so far. */
  get calls(): number {
    return this.#calls;
  }

  push(text: string): AnswerPart[] {
    this.#held += text;
    const parts: AnswerPart[] = [];
    for (let phase: Phase | undefined; phase !== this.#phase; ) {
      phase = this.#phase;
      this.#phase = this.#advance(phase, parts);
    }
    return parts;
  }

  /** What is undecided at the end of an answer is text; blanks after calls are nothing. */
  flush(): AnswerPart[] {
    const rest = this.#raw + this.#held;
    this.#held = '';
    this.#raw = '';
    if (this.#phase === 'arguments' || this.#phase === 'after' || this.#phase === 'closing') return [];
    return rest === '' || (this.#calls > 0 && /^[\s[\],;]*$/.test(rest)) ? [] : [{ kind: 'text', text: rest }];
  }

  /** Decides about as much as it can; returns the phase after it. */
  #advance(phase: Phase, parts: AnswerPart[]): Phase {
    switch (phase) {
      case 'text':
        return this.#format === 'llama3' ? this.#start() : this.#text(parts);
      case 'before':
        return this.#before();
      case 'call':
        return this.#call(parts);
      case 'arguments': {
        const end = this.#scan.end(this.#held);
        const text = this.#take(end ?? this.#held.length);
        if (text !== '') parts.push({ kind: 'arguments', text });
        this.#scan = end === undefined ? this.#scan : new JsonScan(1);
        return end === undefined ? 'arguments' : 'after';
      }
      case 'after': {
        const end = this.#scan.end(this.#held);
        this.#take(end ?? this.#held.length);
        return end === undefined ? 'after' : this.#format === 'hermes' ? 'closing' : 'before';
      }
      case 'closing': {
        const next = this.#held.trimStart();
        if (CLOSE.startsWith(next) && next !== CLOSE) return 'closing';
        if (next.startsWith(CLOSE)) this.#held = next.slice(CLOSE.length);
        return 'text';
      }
      case 'plain': {
        const text = this.#take(this.#held.length);
        if (text !== '') parts.push({ kind: 'text', text });
        return 'plain';
      }
      default:
        return phase satisfies never;
    }
  }

  /** Text up to a mark; blanks are held back, since they may stand before one. */
  #text(parts: AnswerPart[]): Phase {
    const open = OPEN[this.#format];
    const at = this.#held.indexOf(open);
    const certain =
      at === -1 ? this.#held.slice(0, this.#held.length - overlap(this.#held, open)) : this.#held.slice(0, at);
    const text = this.#take(certain.trimEnd().length);
    if (text !== '') parts.push({ kind: 'text', text });
    if (at === -1) return 'text';
    this.#raw = this.#take(certain.length - text.length + open.length);
    return 'before';
  }

  /** Of a format where all of the answer, or none of it, is calls. */
  #start(): Phase {
    const open = OPEN[this.#format];
    const start = this.#held.trimStart();
    if (start.startsWith(open)) this.#raw = this.#take(this.#held.length - start.length + open.length);
    else if (open.startsWith(start)) return 'text';
    else if (!start.startsWith('{')) return 'plain';
    return 'before';
  }

  #before(): Phase {
    this.#raw += this.#take(/^[\s[\],;]*/.exec(this.#held)?.[0].length ?? 0);
    if (this.#held === '') return 'before';
    return this.#held.startsWith('{') ? 'call' : this.#giveBack();
  }

  #call(parts: AnswerPart[]): Phase {
    const head = HEAD.exec(this.#held);
    const end = head === null ? new JsonScan(0).end(this.#held) : undefined;
    if (head === null && end === undefined) return 'call';
    const call =
      head === null ? readCall(this.#held.slice(0, end)) : { name: JSON.parse(head[1] ?? '""') as string, given: '' };
    if (call === undefined) return this.#giveBack();
    this.#raw = '';
    this.#calls++;
    parts.push({ kind: 'call', name: call.name });
    this.#take(head?.[0].length ?? end ?? 0);
    this.#scan = new JsonScan(0);
    if (head !== null) return 'arguments';
    parts.push({ kind: 'arguments', text: call.given });
    return this.#format === 'hermes' ? 'closing' : 'before';
  }

  #giveBack(): Phase {
    if (this.#calls === 0) this.#held = this.#raw + this.#held;
    this.#raw = '';
    return 'plain';
  }

  #take(length: number): string {
    const text = this.#held.slice(0, length);
    this.#held = this.#held.slice(length);
    return text;
  }
}

/** Finds where a JSON object ends, over as many pieces as it comes in. */
class JsonScan {
  #depth: number;
  #isString = false;
  #isEscaped = false;

  /** @param depth brackets open already. */
  constructor(depth: number) {
    this.#depth = depth;
  }

  /** Length up to and with the end of the object; undefined where it goes on. */
  end(text: string): number | undefined {
    for (let i = 0; i < text.length; i++) {
      const char = text[i];
      if (this.#isEscaped) this.#isEscaped = false;
      else if (this.#isString) {
        if (char === '\\') this.#isEscaped = true;
        else if (char === '"') this.#isString = false;
      } else if (char === '"') this.#isString = true;
      else if (char === '{' || char === '[') this.#depth++;
      else if ((char === '}' || char === ']') && --this.#depth === 0) return i + 1;
    }
    return undefined;
  }
}

function readCall(text: string): { name: string; given: string } | undefined {
  try {
    const call = JSON.parse(text) as { name?: unknown; arguments?: unknown; parameters?: unknown };
    const given = call.arguments ?? call.parameters ?? {};
    if (typeof call.name !== 'string') return undefined;
    return { name: call.name, given: typeof given === 'string' ? given : JSON.stringify(given) };
  } catch {
    return undefined;
  }
}

/** Length of the longest end of `text` that begins `mark`. */
function overlap(text: string, mark: string): number {
  for (let length = Math.min(text.length, mark.length - 1); length > 0; length--)
    if (text.endsWith(mark.slice(0, length))) return length;
  return 0;
}
