import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SseEvents } from './sse-events.ts';

const encoder = new TextEncoder();

describe('an event stream', () => {
  it('gives the same events wherever it is cut, with any ends of lines', () => {
    const line = fc.stringMatching(/^[ -~äß€𝄞]{0,12}$/u);
    const event = fc.record({ comment: fc.option(line, { nil: undefined }), data: fc.array(line, { maxLength: 2 }) });
    fc.assert(
      fc.property(
        fc.array(event, { maxLength: 6 }),
        fc.constantFrom('\n', '\r\n'),
        fc.array(fc.nat(200), { maxLength: 8 }),
        (events, newline, cuts) => {
          const texts = events.map(({ comment, data }) =>
            [...(comment === undefined ? [] : [`: ${comment}`]), ...data.map((part) => `data: ${part}`), '', '']
              .join(newline)
              .replace(/^(\r?\n)+$/, `:${newline}${newline}`),
          );
          const bytes = encoder.encode(texts.join(''));
          const parser = new SseEvents();
          const ends = [...cuts.map((cut) => Math.min(cut, bytes.length)), bytes.length].sort((a, b) => a - b);
          const parsed = ends.flatMap((end, i) => parser.push(bytes.subarray(ends[i - 1] ?? 0, end)));
          expect(parsed.map(({ text }) => text).join('')).toBe(texts.join(''));
          const datas = events.map(({ data }) => (data.length === 0 ? undefined : data.join('\n').trimEnd()));
          expect(parsed.map(({ data }) => data)).toEqual(datas);
          expect(parser.finish()).toBeUndefined();
        },
      ),
    );
  });

  it('may lack the blank line after its last [DONE], and nothing else', () => {
    const parser = new SseEvents();
    expect(parser.push(encoder.encode('data: {"a":1}\n\ndata: [DONE]'))).toEqual([
      { text: 'data: {"a":1}\n\n', data: '{"a":1}' },
    ]);
    expect(parser.finish()).toEqual({ text: 'data: [DONE]\n\n', data: '[DONE]' });
    const cut = new SseEvents();
    cut.push(encoder.encode('data: {"a"'));
    expect(cut.finish()).toBeUndefined();
  });

  it('is none when an event never ends', () => {
    const parser = new SseEvents();
    const chunk = encoder.encode('x'.repeat(2 ** 19));
    parser.push(chunk);
    expect(() => [parser.push(chunk), parser.push(chunk)]).toThrow(/longer than/);
  });
});
