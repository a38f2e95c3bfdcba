/**
 * One prompt through the edge with the official OpenAI client, and what its answer says about how it was made.
 */
import type OpenAI from 'openai';

export interface Answer {
  readonly prompt: string;
  readonly text: string;
  readonly label: string;
  readonly confidence: string;
  readonly expert: string;
  readonly rule: string;
  readonly firstTokenMs: number;
  /** Of the tokens after the first; undefined for an answer of one token. */
  readonly tokensPerSecond: number | undefined;
}

export async function ask(client: OpenAI, prompt: string, model = 'auto'): Promise<Answer> {
  const started = performance.now();
  const { data: stream, response } = await client.chat.completions
    .create({
      model,
      messages: [{ role: 'user', content: prompt }],
      temperature: 0,
      stream: true,
      stream_options: { include_usage: true },
    })
    .withResponse();
  let text = '';
  let tokens = 0;
  let first: number | undefined;
  for await (const chunk of stream) {
    const content = chunk.choices[0]?.delta.content ?? '';
    if (content !== '') first ??= performance.now();
    text += content;
    tokens = chunk.usage?.completion_tokens ?? tokens;
  }
  const ended = performance.now();
  const header = (name: string) => response.headers.get(`x-signpost-${name}`) ?? '–';
  const firstToken = first ?? ended;
  return {
    prompt,
    text,
    label: header('label'),
    confidence: header('confidence'),
    expert: header('expert'),
    rule: header('rule'),
    firstTokenMs: firstToken - started,
    tokensPerSecond: tokens > 1 ? ((tokens - 1) / (ended - firstToken)) * 1000 : undefined,
  };
}
