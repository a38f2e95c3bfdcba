/**
 * Many greedy streams at once: the same from every region, and each unlike the others.
 */
export const STREAMS = 64;
const TOKENS = 64;
/** Of all streams together: each has begun, and none is near its end. */
export const MIDST_EVENTS = STREAMS * 20;
/** By turns. */
export const MODELS = ['base', 'chat', 'math', 'code', 'math:1+chat:0.5'];

export interface Streamed {
  readonly text: string;
  readonly hasEnded: boolean;
  readonly region: string | null;
  /** From the request to its first event, */
  readonly firstMs: number;
  /** and to the answer's end. */
  readonly totalMs: number;
  /** The longest time between two of its events. */
  readonly longestGapMs: number;
}

interface Chunk {
  readonly id: string;
  readonly created: number;
  readonly error?: object;
  readonly choices: readonly { readonly delta: { readonly content?: string } }[];
}

/** The stream of this number, each of which has a prompt of its own. @param onEvent told of each part that comes @throws Error for one that is told to have failed, or that changes its name */
export async function stream(edge: string, i: number, onEvent: () => void = () => undefined): Promise<Streamed> {
  const startedAt = performance.now();
  const response = await fetch(`${edge}/v1/chat/completions`, {
    method: 'POST',
    body: JSON.stringify({
      model: MODELS[i % MODELS.length],
      messages: [{ role: 'user', content: `What is ${i} plus ${7 * i + 3}? Tell me a story about it.` }],
      temperature: 0,
      max_tokens: TOKENS,
      ignore_eos: true,
      stream: true,
    }),
  });
  let raw = '';
  let firstMs = Number.NaN;
  let longestGapMs = 0;
  let lastAt: number | undefined;
  const decoder = new TextDecoder();
  for await (const bytes of response.body ?? []) {
    const part = decoder.decode(bytes, { stream: true });
    raw += part;
    // Comments that keep a stream alive are no progress.
    if (part.includes('data: ')) {
      const now = performance.now();
      if (lastAt === undefined) firstMs = now - startedAt;
      else longestGapMs = Math.max(longestGapMs, now - lastAt);
      lastAt = now;
    }
    onEvent();
  }
  const payloads = raw.split('\n\n').flatMap((event) => (event.startsWith('data: ') ? [event.slice(6)] : []));
  const chunks = payloads.filter((payload) => payload.startsWith('{')).map((payload) => JSON.parse(payload) as Chunk);
  const failed = chunks.find(({ error }) => error !== undefined);
  if (failed !== undefined) throw new Error(`stream ${i} ended in ${JSON.stringify(failed.error)}`);
  const names = new Set(chunks.map(({ id, created }) => `${id} ${created}`));
  if (names.size !== 1)
    throw new Error(`the chunks of stream ${i} have ${names.size} names, not one: ${[...names].join(', ')}`);
  return {
    text: chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join(''),
    hasEnded: payloads.at(-1) === '[DONE]',
    region: response.headers.get('x-signpost-region'),
    firstMs,
    totalMs: performance.now() - startedAt,
    longestGapMs,
  };
}

export interface Many {
  /** Number of the first. */
  readonly from?: number;
  readonly onEvent?: () => void;
}

export function streamMany(edge: string, { from = 0, onEvent }: Many = {}): Promise<Streamed[]> {
  return Promise.all(Array.from({ length: STREAMS }, (_, i) => stream(edge, from + i, onEvent)));
}
