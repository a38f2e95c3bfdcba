import { describe, expect, it, vi } from 'vitest';
import { ApiError } from './openai.ts';
import { regionKeys, SeenTokens, signingKey, signRequest, verifyRequest } from './request-token.ts';

const key = signingKey('k'.repeat(32));
const request = { region: 'eu', method: 'POST', path: '/v1/chat/completions', body: '{"a":1}' };

async function outcome(changed: Partial<typeof request>, header?: string, seen = new SeenTokens()): Promise<string> {
  const authorization = header ?? `Bearer ${await signRequest(key, request, { tenant: 'acme' })}`;
  try {
    await verifyRequest([key], authorization, { ...request, ...changed }, seen);
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
      const verify = (token: string, at: number) => verifyRequest([key], token, request, seen, at);
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
    expect(await verifyRequest([key], header, request, new SeenTokens())).toEqual({ tenant });
  });

  it('need a secret of 32 bytes', () => {
    expect(() => signingKey('short')).toThrow(/at least 32 bytes/);
  });
});

describe('a secret that is being changed', () => {
  const [old, next] = ['o'.repeat(32), 'n'.repeat(32)];

  async function accepts(from: string, by: string): Promise<boolean> {
    const header = `Bearer ${await signRequest(regionKeys(from).signing, request, { tenant: undefined })}`;
    return verifyRequest(regionKeys(by).accepted, header, request, new SeenTokens()).then(
      () => true,
      () => false,
    );
  }

  it('leaves no moment at which a region and its edge refuse each other, in the order of the runbook', async () => {
    // What the edge has, and what regions have that were or weren't restarted yet.
    const steps = [
      [old, old, `${old} ${next}`],
      [`${next} ${old}`, `${old} ${next}`, next],
      [next, next, next],
    ] as const;
    for (const [edge, ...regions] of steps)
      for (const region of regions)
        expect([await accepts(edge, region), await accepts(region, edge)]).toEqual([true, true]);
    // The edge's own change.
    expect(await accepts(old, `${old} ${next}`)).toBe(true);
    expect(await accepts(old, next)).toBe(false);
  });

  it('is used once, whichever it was signed with', async () => {
    const seen = new SeenTokens();
    const header = `Bearer ${await signRequest(signingKey(old), request, { tenant: 'acme' })}`;
    const { accepted } = regionKeys(`${next} ${old}`);
    expect(await verifyRequest(accepted, header, request, seen)).toEqual({ tenant: 'acme' });
    await expect(verifyRequest(accepted, header, request, seen)).rejects.toThrow(/used before/);
    await expect(verifyRequest(accepted, header, { ...request, path: '/x' }, seen)).rejects.toThrow(/another request/);
    const strange = `Bearer ${await signRequest(signingKey('x'.repeat(32)), request, { tenant: 'acme' })}`;
    await expect(verifyRequest(accepted, strange, request, seen)).rejects.toThrow(/SIGNATURE/);
  });

  it('is one or two, each long enough', () => {
    expect(regionKeys(`\n${next}\n`)).toEqual({ signing: signingKey(next), accepted: [signingKey(next)] });
    expect(() => regionKeys(`${next} short`)).toThrow(/at least 32 bytes/);
    expect(() => regionKeys(' ')).toThrow(/at least 32 bytes/);
    expect(() => regionKeys([next, old, old].join(' '))).toThrow(/there are 3 region secrets/);
  });
});
