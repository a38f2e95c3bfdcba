/**
 * How the edge signs a request to a region: a JWT (HS256, RFC 7519) that lives seconds, is bound to one region, method, path and body,
 * and is accepted once. A leaked token can't be used for anything else, or again.
 */
import { errors, jwtVerify, SignJWT } from 'jose';
import { z } from 'zod';
import { type Digest, digestSchema, sha256 } from './digest.ts';
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

export async function signRequest(key: Uint8Array, request: SignedRequest, { tenant }: Caller): Promise<string> {
  const body: Digest = await sha256(new TextEncoder().encode(request.body));
  return new SignJWT({ method: request.method, path: request.path, body, ...(tenant === undefined ? {} : { tenant }) })
    .setProtectedHeader({ alg: 'HS256' })
    .setAudience(request.region)
    .setJti(crypto.randomUUID())
    .setIssuedAt()
    .setExpirationTime(`${LIFETIME_SECONDS}s`)
    .sign(key);
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

/** Who a request comes from. @throws ApiError (401) when the token is missing, wrong, expired, for another request, or used before. */
export async function verifyRequest(
  key: Uint8Array,
  authorization: string | null,
  request: SignedRequest,
  seen: SeenTokens,
): Promise<Caller> {
  const refuse = (why: string) => new ApiError('authentication_error', 'invalid_region_token', `region token: ${why}`);
  const token = /^Bearer (?<token>\S+)$/.exec(authorization ?? '')?.groups?.token;
  if (token === undefined) throw refuse('missing; this region answers requests signed by its edge');
  const claims = await jwtVerify(token, key, {
    algorithms: ['HS256'],
    audience: request.region,
    clockTolerance: CLOCK_SKEW_SECONDS,
  }).catch((error: unknown) => {
    throw refuse(error instanceof errors.JOSEError ? error.code : 'not valid');
  });
  const parsed = claimsSchema.safeParse(claims.payload);
  if (!parsed.success) throw refuse('lacks a claim');
  const { jti, exp, method, path, body, tenant } = parsed.data;
  if (
    method !== request.method ||
    path !== request.path ||
    body !== (await sha256(new TextEncoder().encode(request.body)))
  ) {
    throw refuse('made for another request');
  }
  if (!seen.add(jti, exp, Date.now() / 1000)) throw refuse('used before');
  return { tenant };
}
