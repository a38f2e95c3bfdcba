import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { errorEvent, SseFrames } from './sse-frames.ts';

const encode = (text: string) => new TextEncoder().encode(text);
const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const lineEnd = fc.constantFrom('\n', '\r\n');
/** A stream's events with one kind of line end, and where it is cut. */
const stream = fc.record({
  events: fc.array(
    fc.string({ unit: 'grapheme', maxLength: 20 }).filter((text) => !/[\r\n]/.test(text)),
    { maxLength: 6 },
  ),
  end: lineEnd,
  cuts: fc.array(fc.nat(200), { maxLength: 8 }),
});

function chunks(bytes: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const at = [...cuts.map((cut) => Math.min(cut, bytes.length)), bytes.length].sort((a, b) => a - b);
  return at.map((to, i) => bytes.subarray(at[i - 1] ?? 0, to));
}

describe('frames', () => {
  it('come out whole, however the bytes are cut, and lose nothing', () => {
    fc.assert(
      fc.property(stream, ({ events, end, cuts }) => {
        const whole = events.map((text) => `data: ${text}${end}${end}`).join('');
        const frames = new SseFrames();
        let passed = '';
        for (const chunk of chunks(encode(whole), cuts)) {
          const bytes = frames.push(chunk);
          passed += decode(bytes);
          // Never the beginning of an event without its end.
          expect(bytes.length === 0 || /(\n\n|\r\n\r\n)$/.test(decode(bytes))).toBe(true);
        }
        expect(passed + decode(frames.finish())).toBe(whole);
        expect(frames.done).toBe(events.at(-1) === '[DONE]');
      }),
    );
  });

  it('know the end of an answer, also one without its blank line', () => {
    const frames = new SseFrames();
    frames.push(encode('data: {"a":1}\n\n'));
    expect(frames.done).toBe(false);
    frames.push(encode('data: [DONE]'));
    expect(frames.done).toBe(false);
    expect(decode(frames.finish())).toBe('data: [DONE]\n\n');
    expect(frames.done).toBe(true);
  });

  it('drop an event that was cut off', () => {
    const frames = new SseFrames();
    expect(decode(frames.push(encode('data: 1\n\ndata: {"ha')))).toBe('data: 1\n\n');
    expect(frames.finish()).toHaveLength(0);
    expect(frames.done).toBe(false);
  });

  it('refuse one that never ends', () => {
    const frames = new SseFrames();
    const much = new Uint8Array(600 * 1024).fill(0x61);
    frames.push(much);
    expect(() => frames.push(much)).toThrow(/longer than/);
  });

  it('carry errors as data', () => {
    expect(decode(errorEvent({ error: { message: 'a\nb' } }))).toBe('data: {"error":{"message":"a\\nb"}}\n\n');
  });
});
