/**
 * What each token of a vocabulary is in bytes, by its `tokenizer.json`.
 */
import { Problem } from '@signpost/contracts';
import type { TokenizerJson } from './files.ts';

/**
 * Bytes by token id; undefined for special tokens, which are no text.
 *
 * @throws Problem for a tokenizer whose decoder writes tokens neither as GPT-2's byte alphabet nor as SentencePiece does.
 */
export function tokenBytes({ model, added_tokens, decoder }: TokenizerJson, where: string): (Uint8Array | undefined)[] {
  const decode = tokenDecoder(JSON.stringify(decoder ?? null), model.byte_fallback === true, where);
  const bytes: (Uint8Array | undefined)[] = [];
  const { vocab } = model;
  if (Array.isArray(vocab)) for (const [token] of vocab) bytes.push(decode(token));
  else for (const [token, id] of Object.entries(vocab)) bytes[id] = decode(token);
  for (const { id, content, special } of added_tokens ?? [])
    bytes[id] = special ? undefined : new TextEncoder().encode(content);
  return bytes;
}

function tokenDecoder(decoder: string, fallsBack: boolean, where: string): (token: string) => Uint8Array {
  const encoder = new TextEncoder();
  if (decoder.includes('"ByteLevel"')) {
    const alphabet = byteAlphabet();
    return (token) => Uint8Array.from([...token].flatMap((char) => alphabet.get(char) ?? [...encoder.encode(char)]));
  }
  if (decoder.includes('"ByteFallback"') || decoder.includes('"Metaspace"') || fallsBack) {
    return (token) => {
      const byte = /^<0x([0-9A-F]{2})>$/.exec(token)?.[1];
      return byte === undefined
        ? encoder.encode(token.replaceAll('\u2581', ' '))
        : Uint8Array.of(Number.parseInt(byte, 16));
    };
  }
  throw new Problem(
    `${where}: its decoder writes tokens in a way that isn't known here (neither byte-level nor SentencePiece)`,
  );
}

/** GPT-2's characters for bytes: printable ones stand for themselves, the others for 256, 257 … in order. */
function byteAlphabet(): Map<string, number> {
  const isPrintable = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  const alphabet = new Map<string, number>();
  let next = 256;
  for (let byte = 0; byte < 256; byte++) alphabet.set(String.fromCharCode(isPrintable(byte) ? byte : next++), byte);
  return alphabet;
}
