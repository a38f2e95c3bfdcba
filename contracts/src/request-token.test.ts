import { describe, expect, it, vi } from 'vitest';
import { ApiError } from './openai.ts';
import { SeenTokens, signingKey, signRequest, verifyRequest } from './request-token.ts';

const key = signingKey('k'.repeat(32));
const request = { region: 'eu', method: 'POST', path: '/v1/chat/completions', body: '{"a":1}' };

async function outcome(changed: Partial<typeof request>, header?: string, seen = new SeenTokens()): Promise<string> {
  const authorization = header ?? `Bearer ${await signRequest(key, request, { tenant: 'acme' })}`;
  try {
    await verifyRequest(key, authorization, { ...request, ...changed }, seen);
    return 'accepted';
  } catch (error) {
    expect(error).toBeInstanceOf(ApiError);
    expect((error as ApiError).status).toBe(401);
    return (error as ApiError).message;
  }
}

describe('region tokens', () => {
  it('are accepted for the request they were made for, once', async () => {
    const seen = new SeenTokens();
    const header = `Bearer ${await signRequest(key, request, { tenant: 'acme' })}`;
    expect(await outcome({}, header, seen)).toBe('accepted');
    expect(await outcome({}, header, seen)).toMatch(/used before/);
  });

  it.each([{ region: 'us' }, { method: 'GET' }, { path: '/admin' }, { body: '{"a":2}' }])(
    'are refused for %j',
    async (changed) => {
      expect(await outcome(changed)).toMatch(/region token/);
    },
  );

  it('are refused when missing, forged, or old', async () => {
    expect(await outcome({}, 'Basic x')).toMatch(/missing/);
    expect(
      await outcome({}, `Bearer ${await signRequest(signingKey('x'.repeat(32)), request, { tenant: 'acme' })}`),
    ).toMatch(/SIGNATURE/);
    const header = `Bearer ${await signRequest(key, request, { tenant: 'acme' })}`;
    vi.useFakeTimers({ now: Date.now() + 60_000 });
    try {
      expect(await outcome({}, header)).toMatch(/EXPIRED/);
    } finally {
      vi.useRealTimers();
    }
  });

  it('are good for a request that came in time and had to wait, once', async () => {
    const header = `Bearer ${await signRequest(key, request, { tenant: 'acme' })}`;
    const [arrivedAt, seen] = [Date.now() + 1_000, new SeenTokens()];
    vi.useFakeTimers({ now: arrivedAt + 60_000 });
    try {
      const verify = (token: string, at: number) => verifyRequest(key, token, request, seen, at);
      expect(await verify(header, arrivedAt)).toEqual({ tenant: 'acme' });
      // Others let what has expired be forgotten.
      const next = `Bearer ${await signRequest(key, request, { tenant: 'acme' })}`;
      await verify(next, Date.now());
      await expect(verify(header, arrivedAt)).rejects.toThrow(/used before/);
      await expect(verify(header, Date.now())).rejects.toThrow(/EXPIRED/);
    } finally {
      vi.useRealTimers();
    }
  });

  it.each(['acme', undefined])('tell the tenant %s', async (tenant) => {
    const header = `Bearer ${await signRequest(key, request, { tenant })}`;
    expect(await verifyRequest(key, header, request, new SeenTokens())).toEqual({ tenant });
  });

  it('need a secret of 32 bytes', () => {
    expect(() => signingKey('short')).toThrow(/at least 32 bytes/);
  });
});
