/**
 * A streamed answer that another region can go on with: what has been sent so far, in the tokens that the regions tell of on the edge's behalf.
 *
 * The region is asked for token ids beside the text and, where the answer is drawn, for a seed, whether the app asked for them or not; what it didn't ask for
 * is taken out again on the way.
 */
import { formatModelName, Problem, parseModelName } from '@signpost/contracts';
import type { TokenUsage } from './outcome.ts';
import type { UpstreamRequest } from './upstream.ts';
import { askingForUsage, tokenUsage, wantsUsage } from './usage.ts';

type Fields = Readonly<Record<string, unknown>>;

interface Chunk {
  id?: string;
  created?: number;
  model?: string;
  choices?: { finish_reason?: string | null; token_ids?: number[] }[];
  prompt_token_ids?: readonly number[];
  usage?: unknown;
}

const TOKEN_IDS = ',"token_ids":[';

export class ResumableAnswer {
  /** As sent to the first region. */
  readonly fields: Fields;
  readonly #wantsTokens: boolean;
  readonly #wantsUsage: boolean;
  readonly #used: (usage: TokenUsage) => void;
  readonly #tokens: number[] = [];
  /** Of the first chunk: every later one has the same. */
  #identity: Pick<Chunk, 'id' | 'created' | 'model'> | undefined;
  /** What comes is from another region than the first, which calls it otherwise. */
  #isElsewhere = false;
  #hasFinished = false;
  #hasUsage = false;
  #promptTokens: number | undefined;

  private constructor(fields: Fields, asked: Fields, used: (usage: TokenUsage) => void) {
    this.fields = fields;
    this.#used = used;
    this.#wantsTokens = asked.return_token_ids === true;
    this.#wantsUsage = wantsUsage(asked);
  }

  /**
   * Undefined for an answer that can't be resumed: of several choices or prompts, with the prompt's own text, or not streamed.
   *
   * @param used told the region's count when it passes.
   */
  static of(
    { delivery, fields }: UpstreamRequest,
    used: (usage: TokenUsage) => void = () => {},
  ): ResumableAnswer | undefined {
    if (delivery !== 'stream' || fields === undefined) return undefined;
    const { n, echo, prompt, temperature, seed, resume_token_ids: resumed } = fields;
    const isOnePrompt = !Array.isArray(prompt) || prompt.every((part) => typeof part === 'number');
    if ((n ?? 1) !== 1 || echo === true || !isOnePrompt || resumed != null) return undefined;
    const seeded = temperature === 0 || seed != null ? {} : { seed: crypto.getRandomValues(new Uint32Array(1))[0] };
    return new ResumableAnswer({ ...askingForUsage(fields), ...seeded, return_token_ids: true }, fields, used);
  }

  /** Tokens sent so far. */
  get tokens(): number {
    return this.#tokens.length;
  }

  /** What has passed, by its token ids; undefined before anything has. */
  get counted(): { readonly promptTokens: number | undefined; readonly completionTokens: number } | undefined {
    if (this.#identity === undefined) return undefined;
    return { promptTokens: this.#promptTokens, completionTokens: this.#tokens.length };
  }

  /** Whether all was sent that the app waits for, but for the end itself. */
  get isComplete(): boolean {
    return this.#hasFinished && (this.#hasUsage || !this.#wantsUsage);
  }

  /** An event's payload as the app is to have it; undefined for what it has had already. */
  pass(data: string): string | undefined {
    return this.#passPlain(data) ?? this.#passRead(data);
  }

  /**
   * A chunk in the midst of an answer, with its token ids taken out unread, which costs a tenth. Quotes within strings are escaped, so what looks like a field is one.
   * Undefined for any other.
   */
  #passPlain(data: string): string | undefined {
    if (this.#identity === undefined || this.#isElsewhere || this.#hasFinished || this.#wantsTokens) return undefined;
    const start = data.indexOf(TOKEN_IDS);
    const end = data.indexOf(']', start);
    if (start === -1 || !data.includes('"finish_reason":null')) return undefined;
    if (data.includes('"usage":{') || data.includes('"prompt_token_ids"')) return undefined;
    const ids = data.slice(start + TOKEN_IDS.length, end);
    if (!/^\d+(?:,\d+)*$/.test(ids)) return undefined;
    for (const id of ids.split(',')) this.#tokens.push(Number(id));
    const rest = data.slice(end + 1);
    return data.slice(0, start) + (this.#wantsUsage ? rest : rest.replace(',"usage":null', ''));
  }

  #passRead(data: string): string | undefined {
    const chunk = JSON.parse(data) as Chunk;
    const { choices = [] } = chunk;
    if (this.#hasFinished && choices.length > 0) return undefined;
    for (const choice of choices) {
      this.#tokens.push(...(choice.token_ids ?? []));
      if (!this.#wantsTokens) delete choice.token_ids;
      this.#hasFinished ||= choice.finish_reason != null;
    }
    if (chunk.usage != null) {
      this.#hasUsage = true;
      const usage = tokenUsage(chunk.usage);
      if (usage !== undefined) this.#used(usage);
      if (!this.#wantsUsage && choices.length === 0) return undefined;
    }
    if (!this.#wantsUsage) delete chunk.usage;
    this.#promptTokens ??= chunk.prompt_token_ids?.length;
    if (!this.#wantsTokens) delete chunk.prompt_token_ids;
    const { id, created, model } = chunk;
    this.#identity ??= { ...(id && { id }), ...(created && { created }), ...(model && { model }) };
    return JSON.stringify({ ...chunk, ...this.#identity });
  }

  /**
   * What another region is asked for.
   *
   * @param digests of the experts that have answered so far, as the first region told: names may stand for others by now.
   */
  rest(digests: string | undefined): Fields {
    this.#isElsewhere = true;
    return { ...this.fields, model: pinned(String(this.fields.model), digests), resume_token_ids: [...this.#tokens] };
  }
}

function pinned(name: string, digests: string | undefined): string {
  try {
    const model = parseModelName(name);
    const known = digests?.split('+') ?? [];
    if (model.kind === 'auto' || model.terms.length !== known.length) return name;
    return formatModelName({
      kind: 'mixture',
      terms: model.terms.map((term, i) => ({ ...term, selector: known[i] ?? '' })),
    });
  } catch (error) {
    if (error instanceof Problem) return name;
    throw error;
  }
}
