/**
 * The catalogue as text in a store: plain JSON, or that text in an envelope with its Ed25519 signature (RFC 8032).
 *
 * One object holds both, so text and signature never come apart. An envelope has exactly one spelling: whatever byte of it is altered or
 * missing, a reader that has a key notices. Web Crypto alone, so that it runs in workerd.
 */
import { z } from 'zod';
import { toHex } from './digest.ts';
import { Problem, parseWith } from './problem.ts';

type Key = Awaited<ReturnType<typeof crypto.subtle.importKey>>;

/** A public key. */
export interface TrustedKey {
  /** The first 16 hex characters of the sha256 of its SPKI form. */
  readonly id: string;
  readonly key: Key;
}

export interface SigningKey {
  readonly key: Key;
  readonly public: TrustedKey;
}

const ALGORITHM = 'Ed25519';
/** Goes before the text that is signed: a signature made for anything else is none of a catalogue. */
const CONTEXT = 'signpost-catalogue/1\n';
const ID_CHARACTERS = 16;

const envelopeSchema = z.strictObject({
  /** The catalogue's exact text. */
  payload: z.string(),
  signature: z.strictObject({
    key: z.string().regex(/^[0-9a-f]{16}$/, 'expected a key id: 16 lower-case hex characters'),
    /** 64 bytes. */
    value: z.base64(),
  }),
});
type Envelope = z.output<typeof envelopeSchema>;

export async function importTrustedKey(spki: Uint8Array): Promise<TrustedKey> {
  const data = spki as Uint8Array<ArrayBuffer>;
  const key = await crypto.subtle.importKey('spki', data, ALGORITHM, true, ['verify']);
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', data));
  return { id: toHex(digest).slice(0, ID_CHARACTERS), key };
}

/** From both halves of a pair: Web Crypto can't make the public one of the private one. */
export async function importSigningKey(pkcs8: Uint8Array, spki: Uint8Array): Promise<SigningKey> {
  const key = await crypto.subtle.importKey('pkcs8', pkcs8 as Uint8Array<ArrayBuffer>, ALGORITHM, false, ['sign']);
  return { key, public: await importTrustedKey(spki) };
}

/** The text to store for a catalogue's text. */
export async function signCatalogue(payload: string, { key, public: { id } }: SigningKey): Promise<string> {
  const signature = await crypto.subtle.sign(ALGORITHM, key, signedBytes(payload));
  return encode({ payload, signature: { key: id, value: toBase64(new Uint8Array(signature)) } });
}

export interface OpenedCatalogue {
  /** JSON, not yet checked against the schema. */
  readonly payload: unknown;
  /** Id of the key that a signature names. */
  readonly signedBy: string | undefined;
}

/**
 * The catalogue in a stored text. With `trusted` keys, only one that one of them signed; without, the signature isn't looked at.
 *
 * @throws Problem when the text is not JSON, not signed though it should be, signed by another key, or altered.
 */
export async function openCatalogue(
  text: string,
  trusted: readonly TrustedKey[],
  where: string,
): Promise<OpenedCatalogue> {
  const stored = parseJson(text, where);
  const isSigned = typeof stored === 'object' && stored !== null && 'signature' in stored;
  if (!isSigned) {
    if (trusted.length > 0)
      throw new Problem(
        `${where} is not signed, and only one signed by ${idsOf(trusted)} is trusted; look at it, then sign it (signpost-packer sign)`,
      );
    return { payload: stored, signedBy: undefined };
  }
  const envelope = parseWith(envelopeSchema, stored, where);
  if (trusted.length > 0) await verify(text, envelope, trusted, where);
  return { payload: parseJson(envelope.payload, where), signedBy: envelope.signature.key };
}

async function verify(text: string, envelope: Envelope, trusted: readonly TrustedKey[], where: string): Promise<void> {
  const { key: id, value } = envelope.signature;
  const key = trusted.find((candidate) => candidate.id === id)?.key;
  if (key === undefined)
    throw new Problem(
      `${where} is signed by key ${id}, and only ${idsOf(trusted)} is trusted; if ${id} is yours, add its public key`,
    );
  const signature = fromBase64(value);
  const isRight =
    // Base64 with stray bits, another order of fields, other white space: one text has one spelling.
    text === encode({ ...envelope, signature: { key: id, value: toBase64(signature) } }) &&
    (await crypto.subtle.verify(ALGORITHM, key, signature, signedBytes(envelope.payload)));
  if (!isRight)
    throw new Problem(
      `${where}: the signature by key ${id} is not of this text: one of them was altered; publish it again from a copy you trust`,
    );
}

function encode({ payload, signature: { key, value } }: Envelope): string {
  return `${JSON.stringify({ payload, signature: { key, value } }, null, 2)}\n`;
}

function signedBytes(payload: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${CONTEXT}${payload}`) as Uint8Array<ArrayBuffer>;
}

function idsOf(keys: readonly TrustedKey[]): string {
  return keys.map(({ id }) => id).join(' or ');
}

function parseJson(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Problem(`${where} is not JSON: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}

function toBase64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}
