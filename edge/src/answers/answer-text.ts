/**
 * What an answer says, read off on its way to the app: for those that are kept or compared. One choice of plain text is; anything else (several choices, tool
 * calls, log-probabilities, an error, half an answer) isn't.
 */
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

/** Puts together what chunks, or a whole body, say: told whole, it is the answer. */
export class AnswerReader {
  #text = '';
  #finishReason: string | undefined;
  #model = '';
  #isOther = false;

  add(json: string): void {
    if (this.#isOther) return;
    const body = json.length > 2 * MAX_TEXT_CHARS ? undefined : parsed(json);
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
