import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodePrelude, PreludeReader } from './lambda.ts';

const prelude = { statusCode: 200, headers: { 'content-type': 'text/event-stream' } };
const encode = (text: string) => new TextEncoder().encode(text);

function read(bytes: Uint8Array, cuts: readonly number[]) {
  const reader = new PreludeReader();
  const edges = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  let found: ReturnType<PreludeReader['push']>;
  const body: number[] = [];
  for (let i = 1; i < edges.length; i++) {
    const chunk = bytes.slice(edges[i - 1], edges[i]);
    if (found !== undefined) body.push(...chunk);
    else {
      found = reader.push(chunk);
      body.push(...(found?.rest ?? []));
    }
  }
  return { prelude: found?.prelude, body: Uint8Array.from(body) };
}

describe('the prelude of an answer from Lambda', () => {
  it('is found however the bytes are cut, and leaves every byte of the body, NULs too', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.array(fc.nat(200), { maxLength: 8 }), (body, cuts) => {
        const bytes = Uint8Array.from([...encode(JSON.stringify(prelude)), 0, 0, 0, 0, 0, 0, 0, 0, ...body]);
        expect(read(bytes, cuts)).toEqual({ prelude, body });
        expect(encodePrelude(prelude)).toEqual(bytes.subarray(0, bytes.length - body.length));
      }),
    );
  });

  it.each([
    ['text of another kind', encode('Internal Server Error')],
    ['JSON that is no prelude', Uint8Array.from([...encode('{"errorMessage":"x"}'), 0, 0, 0, 0, 0, 0, 0, 0])],
    ['broken JSON', Uint8Array.from([...encode('{"statusCode":'), 0, 0, 0, 0, 0, 0, 0, 0])],
    ['a delimiter that is too short', Uint8Array.from([...encode(JSON.stringify(prelude)), 0, 0, 1, 1, 1, 1, 1, 1])],
    ['one that never ends', new Uint8Array(70_000).fill(0x7b)],
  ])('is missed in %s, with what to do', (_, bytes) => {
    expect(() => new PreludeReader().push(bytes)).toThrow(/prelude|streaming one of/);
  });
});
