/**
 * What an answer says, read off on its way to the app: for those that are kept or compared. One choice of plain text is; anything else (several choices, tool
 * calls, log-probabilities, an error, half an answer) isn't.
 */
import { DONE, SseEvents } from '../forward/sse-events.ts';

export interface AnswerText {
  readonly text: string;
  readonly finishReason: string;
  /** As the region told it. */
  readonly model: string;
}

/** Longer ones are not read off. */
const MAX_TEXT_CHARS = 1024 * 1024;

interface Choice {
  readonly text?: unknown;
  readonly message?: { readonly content?: unknown; readonly tool_calls?: unknown };
  readonly delta?: { readonly content?: unknown; readonly tool_calls?: unknown };
  readonly logprobs?: unknown;
  readonly finish_reason?: unknown;
}

interface Body {
  readonly model?: unknown;
  readonly choices?: unknown;
}

/**
 * The response as it was, and what it says once it has ended: undefined where it isn't one text, or not whole. That promise never rejects, and is there also where
 * the app leaves.
 */
export function readingOff(response: Response): {
  readonly response: Response;
  readonly answer: Promise<AnswerText | undefined>;
} {
  const { body, status, headers } = response;
  if (body === null || status !== 200) return { response, answer: Promise.resolve(undefined) };
  if (headers.get('content-type')?.startsWith('text/event-stream') !== true) {
    // It is all here already.
    const answer = response
      .clone()
      .text()
      .then(wholeText, () => undefined);
    return { response, answer };
  }
  const reader = new StreamReader();
  const source = body.getReader();
  let tell: (answer: AnswerText | undefined) => void = () => {};
  const answer = new Promise<AnswerText | undefined>((resolve) => {
    tell = resolve;
  });
  const stream = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const { done, value } = await source.read();
          if (!done) {
            reader.push(value);
            return controller.enqueue(value);
          }
          tell(reader.answer);
          controller.close();
        } catch (error) {
          tell(undefined);
          controller.error(error);
        }
      },
      cancel(reason) {
        tell(undefined);
        return source.cancel(reason);
      },
    },
    { highWaterMark: 0 },
  );
  return { response: new Response(stream, { status, headers }), answer };
}

function wholeText(json: string): AnswerText | undefined {
  const pieces = new Pieces();
  if (json.length <= 2 * MAX_TEXT_CHARS) pieces.add(json);
  return pieces.answer;
}

class StreamReader {
  readonly #events = new SseEvents();
  readonly #pieces = new Pieces();
  #isDone = false;

  push(chunk: Uint8Array): void {
    for (const { data } of this.#events.push(chunk)) {
      if (data === DONE) this.#isDone = true;
      else if (data !== undefined) this.#pieces.add(data);
    }
  }

  get answer(): AnswerText | undefined {
    return this.#isDone ? this.#pieces.answer : undefined;
  }
}

/** Puts together what chunks, or a whole body, say. */
class Pieces {
  #text = '';
  #finishReason: string | undefined;
  #model = '';
  #isOther = false;

  add(json: string): void {
    if (this.#isOther) return;
    const body = parsed(json);
    if (body === undefined || !Array.isArray(body.choices)) {
      this.#isOther = true;
      return;
    }
    const choices = body.choices as Choice[];
    if (typeof body.model === 'string') this.#model ||= body.model;
    const [choice] = choices;
    if (choice === undefined) return;
    const { text, message, delta, logprobs, finish_reason: finish } = choice;
    const said = text ?? message?.content ?? delta?.content ?? '';
    this.#isOther =
      choices.length > 1 ||
      (choice as { readonly index?: unknown }).index !== 0 ||
      typeof said !== 'string' ||
      (message ?? delta)?.tool_calls !== undefined ||
      (logprobs ?? null) !== null ||
      this.#text.length > MAX_TEXT_CHARS;
    this.#text += said;
    if (typeof finish === 'string') this.#finishReason = finish;
  }

  get answer(): AnswerText | undefined {
    if (this.#isOther || this.#finishReason === undefined) return undefined;
    return { text: this.#text, finishReason: this.#finishReason, model: this.#model };
  }
}

function parsed(json: string): Body | undefined {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}
