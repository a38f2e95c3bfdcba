import { ApiError } from '@signpost/contracts';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { KEEP_ALIVE_MS, type StreamEnd, sseResponse } from './sse.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] });
});
afterEach(() => {
  vi.useRealTimers();
});

/** A generator that is told what to do next. */
function scripted() {
  const queue: ({ value: unknown } | { error: unknown } | 'end')[] = [];
  let wake: (() => void) | undefined;
  let isLeft = false;
  async function* run(): AsyncGenerator<unknown> {
    try {
      for (;;) {
        const next = queue.shift();
        if (next === 'end') return;
        if (next === undefined) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        } else if ('error' in next) throw next.error;
        else yield next.value;
      }
    } finally {
      isLeft = true;
    }
  }
  const push = (...items: typeof queue) => {
    queue.push(...items);
    wake?.();
  };
  return { payloads: run(), push, isLeft: () => isLeft };
}

function begin(payloads: AsyncGenerator<unknown>) {
  const ends: StreamEnd[] = [];
  return { ends, response: sseResponse(payloads, { headers: { 'x-a': 'b' }, onEnd: (end) => ends.push(end) }) };
}

const full = new ApiError('rate_limit_error', 'region_full', 'full');

describe('an event stream', () => {
  it('ends in [DONE] when the generator does', async () => {
    const { payloads, push } = scripted();
    const { ends, response } = begin(payloads);
    push({ value: { a: 1 } }, { value: { a: 2 } }, 'end');
    const { headers } = await response;
    expect([headers.get('content-type'), headers.get('x-a')]).toEqual(['text/event-stream; charset=utf-8', 'b']);
    expect(await (await response).text()).toBe('data: {"a":1}\n\ndata: {"a":2}\n\ndata: [DONE]\n\n');
    expect(ends).toEqual([{ kind: 'complete' }]);
  });

  it('ends in an error event, and no [DONE], when the generator throws', async () => {
    const { payloads, push } = scripted();
    const { ends, response } = begin(payloads);
    push({ value: { a: 1 } }, { error: full });
    expect(await (await response).text()).toBe(`data: {"a":1}\n\ndata: ${JSON.stringify(full.body())}\n\n`);
    expect(ends).toEqual([{ kind: 'failed', error: full }]);
  });

  it('never begins when the generator throws first', async () => {
    const { payloads, push } = scripted();
    const { ends, response } = begin(payloads);
    push({ error: full });
    await expect(response).rejects.toBe(full);
    expect(ends).toEqual([]);
  });

  it('begins without a first payload after a while, and is kept alive by comments', async () => {
    const { payloads, push } = scripted();
    const { response } = begin(payloads);
    await vi.advanceTimersByTimeAsync(KEEP_ALIVE_MS);
    const reader = (await response).body?.pipeThrough(new TextDecoderStream()).getReader();
    await vi.advanceTimersByTimeAsync(2 * KEEP_ALIVE_MS);
    const waited = [await reader?.read(), await reader?.read()].map((read) => read?.value);
    expect(waited).toEqual([': keep-alive\n\n', ': keep-alive\n\n']);
    push({ value: { a: 1 } });
    expect((await reader?.read())?.value).toBe('data: {"a":1}\n\n');
    push({ error: full });
    expect((await reader?.read())?.value).toContain('region_full');
    expect((await reader?.read())?.done).toBe(true);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('writes no comments to an app that does not read', async () => {
    const { payloads, push } = scripted();
    const { response } = begin(payloads);
    push({ value: { a: 1 } });
    const answer = await response;
    await vi.advanceTimersByTimeAsync(5 * KEEP_ALIVE_MS);
    push('end');
    expect(await answer.text()).toBe('data: {"a":1}\n\ndata: [DONE]\n\n');
  });

  it.each(['before', 'after'])('stops the generator when the app leaves %s a payload', async (when) => {
    const { payloads, push, isLeft } = scripted();
    const { ends, response } = begin(payloads);
    push({ value: { a: 1 } });
    const reader = (await response).body?.getReader();
    if (when === 'after') await reader?.read();
    const left = reader?.cancel();
    // What is being waited for comes, or fails, too late.
    push({ error: full });
    await left;
    expect(isLeft()).toBe(true);
    expect(ends).toEqual([{ kind: 'client gone' }]);
    expect(vi.getTimerCount()).toBe(0);
  });
});
