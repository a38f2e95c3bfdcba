/**
 * How the edge signs a request to a region: a JWT (HS256, RFC 7519) that lives seconds, is bound to one region, method, path and body,
 * and is accepted once. A leaked token can't be used for anything else, or again.
 */
import { hmac } from '@noble/hashes/hmac.js';
import { sha256 as sha256Now } from '@noble/hashes/sha2.js';
import { errors, type JWTPayload, jwtVerify } from 'jose';
import { z } from 'zod';
import { digestSchema, sha256 } from './digest.ts';
import { ApiError } from './openai.ts';

const LIFETIME_SECONDS = 30;
/** What the two clocks may differ by. */
const CLOCK_SKEW_SECONDS = 10;
const MIN_SECRET_BYTES = 32;

export interface SignedRequest {
  readonly region: string;
  readonly method: string;
  readonly path: string;
  readonly body: string;
}

/** What the edge vouches for beside the request itself. */
export interface Caller {
  /** On whose behalf; undefined for an anonymous app. */
  readonly tenant: string | undefined;
}

const claimsSchema = z.object({
  jti: z.string().min(16),
  exp: z.number(),
  method: z.string(),
  path: z.string(),
  body: digestSchema,
  tenant: z.string().min(1).max(256).optional(),
});

/** The shared secret as key bytes. @throws Error when it is shorter than 32 bytes. */
export function signingKey(secret: string): Uint8Array {
  const key = new TextEncoder().encode(secret);
  if (key.byteLength < MIN_SECRET_BYTES)
    throw new Error(
      `the region secret must have at least ${MIN_SECRET_BYTES} bytes; make one with: openssl rand -hex 32`,
    );
  return key;
}

/** What a region and its edge share: the key that they sign with, and those that they accept, which are two while the secret is being changed. */
export interface RegionKeys {
  readonly signing: Uint8Array;
  /** The one that signs is the first. */
  readonly accepted: readonly Uint8Array[];
}

const MOST_SECRETS = 2;

/**
 * The keys in a setting that holds a secret, or two with a space between them: the first signs, both are accepted.
 *
 * @throws Error when one is shorter than 32 bytes, or there are more.
 */
export function regionKeys(setting: string): RegionKeys {
  const secrets = setting.split(/\s+/).filter((secret) => secret !== '');
  if (secrets.length > MOST_SECRETS)
    throw new Error(
      `there are ${secrets.length} region secrets, expected one, or the new and the old with a space between them`,
    );
  const [first = '', ...others] = secrets;
  const signing = signingKey(first);
  return { signing, accepted: [signing, ...others.map(signingKey)] };
}

/** A token for one request: a compact JWS, which `verifyRequest` takes apart with a library. */
export async function signRequest(key: Uint8Array, request: SignedRequest, { tenant }: Caller): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  const claims = {
    method: request.method,
    path: request.path,
    body: await sha256(utf8.encode(request.body)),
    ...(tenant === undefined ? {} : { tenant }),
    aud: request.region,
    jti: crypto.randomUUID(),
    iat: now,
    exp: now + LIFETIME_SECONDS,
  };
  const payload = utf8.encode(JSON.stringify(claims));
  const token = new Uint8Array(HEADER.length + base64Length(payload.length) + 1 + base64Length(MAC_BYTES));
  token.set(HEADER);
  const end = base64url(payload, token, HEADER.length);
  token[end] = DOT;
  base64url(hs256(key, token.subarray(0, end)), token, end + 1);
  return ascii.decode(token);
}

const utf8 = new TextEncoder();
const ascii = new TextDecoder();
const MAC_BYTES = 32;
const DOT = '.'.charCodeAt(0);
const BASE64URL = utf8.encode('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_');

function base64Length(bytes: number): number {
  return Math.ceil((bytes * 4) / 3);
}

/** RFC 4648, section 5, without padding, into `to` from `at` on: the token is bytes until it is whole, since they are what is signed. @returns where it ends */
function base64url(bytes: Uint8Array, to: Uint8Array, at: number): number {
  const end = at + base64Length(bytes.length);
  let i = 0;
  let out = at;
  for (; i + 2 < bytes.length; i += 3, out += 4) {
    const bits = ((bytes[i] ?? 0) << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
    to[out] = BASE64URL[bits >> 18] ?? 0;
    to[out + 1] = BASE64URL[(bits >> 12) & 63] ?? 0;
    to[out + 2] = BASE64URL[(bits >> 6) & 63] ?? 0;
    to[out + 3] = BASE64URL[bits & 63] ?? 0;
  }
  const rest = ((bytes[i] ?? 0) << 16) | ((bytes[i + 1] ?? 0) << 8);
  for (let shift = 18; out < end; shift -= 6) to[out++] = BASE64URL[(rest >> shift) & 63] ?? 0;
  return end;
}

/** The token's first part, with the point behind it. */
const HEADER = utf8.encode('eyJhbGciOiJIUzI1NiJ9.'); // {"alg":"HS256"}

/** By its bytes: a hash that has taken the key in. Not Web Crypto's, whose calls, with the turns that they take, cost a request several times what its hashing does. */
const keyed = new WeakMap<Uint8Array, ReturnType<typeof hmac.create>>();

function hs256(key: Uint8Array, bytes: Uint8Array): Uint8Array {
  const begun = keyed.get(key) ?? hmac.create(sha256Now, key);
  keyed.set(key, begun);
  return begun.clone().update(bytes).digest();
}

/** Token ids seen and still valid: what makes a token work once. */
export class SeenTokens {
  readonly #expiry = new Map<string, number>();

  /** False when `jti` was seen before. */
  add(jti: string, expiresAtSeconds: number, nowSeconds: number): boolean {
    for (const [old, expiry] of this.#expiry) {
      if (expiry + CLOCK_SKEW_SECONDS >= nowSeconds) break;
      this.#expiry.delete(old);
    }
    if (this.#expiry.has(jti)) return false;
    this.#expiry.set(jti, expiresAtSeconds);
    return true;
  }
}

/**
 * Who a request comes from.
 *
 * @param accepted keys, one of which must have signed it.
 * @param arrivedAt when it came, in milliseconds since the epoch: a region that is still starting lets it wait for longer than its token lives.
 * @throws ApiError (401) when the token is missing, wrong, expired, for another request, or used before.
 */
export async function verifyRequest(
  accepted: readonly Uint8Array[],
  authorization: string | null,
  request: SignedRequest,
  seen: SeenTokens,
  arrivedAt: number = Date.now(),
): Promise<Caller> {
  const refuse = (why: string) => new ApiError('authentication_error', 'invalid_region_token', `region token: ${why}`);
  const token = /^Bearer (?<token>\S+)$/.exec(authorization ?? '')?.groups?.token;
  if (token === undefined) throw refuse('missing; this region answers requests signed by its edge');
  const payload = await openToken(token, accepted, request.region, arrivedAt).catch((error: unknown) => {
    throw refuse(error instanceof errors.JOSEError ? error.code : 'not valid');
  });
  const parsed = claimsSchema.safeParse(payload);
  if (!parsed.success) throw refuse('lacks a claim');
  const { jti, exp, method, path, body, tenant } = parsed.data;
  if (method !== request.method || path !== request.path || body !== (await sha256(utf8.encode(request.body)))) {
    throw refuse('made for another request');
  }
  const now = Date.now() / 1000;
  // Its twin may have come in time, too, and have waited as long.
  if (!seen.add(jti, Math.max(exp, now), now)) throw refuse('used before');
  return { tenant };
}

/** What a token says, signed with one of the keys. @throws JOSEError when it is none of theirs, or not good now, there. */
async function openToken(
  token: string,
  accepted: readonly Uint8Array[],
  audience: string,
  arrivedAt: number,
): Promise<JWTPayload> {
  let failure: unknown;
  for (const key of accepted) {
    try {
      const { payload } = await jwtVerify(token, key, {
        algorithms: ['HS256'],
        audience,
        clockTolerance: CLOCK_SKEW_SECONDS,
        currentDate: new Date(arrivedAt),
      });
      return payload;
    } catch (error) {
      if (!(error instanceof errors.JWSSignatureVerificationFailed)) throw error;
      failure = error;
    }
  }
  throw failure;
}
