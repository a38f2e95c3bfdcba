import { expect, it } from 'vitest';
import { dataEvents } from '../api/events.ts';
import { advance, NOTHING_YET } from './stream.ts';

const chunk = (content: string, more: object = {}) => JSON.stringify({ choices: [{ delta: { content }, ...more }] });

it('counts tokens and their rate from the first of them on', () => {
  let progress = advance(NOTHING_YET, JSON.stringify({ choices: [{ delta: { role: 'assistant' } }] }), 5);
  expect(progress.firstTokenMs).toBeUndefined();
  progress = advance(progress, chunk('a'), 100);
  expect(progress).toMatchObject({ text: 'a', firstTokenMs: 100, tokens: 1, tokensPerSecond: undefined });
  progress = advance(progress, chunk('b'), 150);
  progress = advance(progress, chunk('c', { finish_reason: 'stop' }), 200);
  expect(progress).toMatchObject({ text: 'abc', tokens: 3, tokensPerSecond: 20, finish: 'stop' });
  // The region's count comes later than the last token: the rate stays as it was.
  progress = advance(progress, JSON.stringify({ choices: [], usage: { completion_tokens: 5 } }), 900);
  expect(progress).toMatchObject({ tokens: 5, tokensPerSecond: 20 });
});

it('takes an error in the stream for one', () => {
  const error = { message: 'the region broke off', code: 'stream_broken' };
  expect(() => advance(NOTHING_YET, JSON.stringify({ error }), 1)).toThrow('the region broke off');
});

it('reads events wherever the network cuts them, and nothing of one that was cut off', async () => {
  const text =
    ': sign of life\n\ndata: {"a":"é"}\n\ndata: two\r\ndata:lines\r\n\r\nevent: x\n\ndata: [DONE]\n\ndata: cut';
  const bytes = new TextEncoder().encode(text);
  for (const size of [1, 2, 3, 7, bytes.length]) {
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
        controller.close();
      },
    });
    const events: string[] = [];
    for await (const data of dataEvents(body)) events.push(data);
    expect(events).toEqual(['{"a":"é"}', 'two\nlines', '[DONE]']);
  }
});
