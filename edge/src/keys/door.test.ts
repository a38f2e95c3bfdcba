import type { Digest } from '@signpost/contracts';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { AdmissionAnswer, KeyLook, KeyObject } from './admission.ts';
import { Door, type DoorOptions } from './door.ts';
import { LEASE_MS } from './meter.ts';

const HASH = 'a'.repeat(64) as Digest;
const CALLER = { kind: 'managed', hash: HASH } as const;
const KEY = { id: HASH.slice(0, 12), tenant: 'acme', models: ['math'] };
const ADMITTED: AdmissionAnswer = { kind: 'admitted', isLeased: true, standing: {}, key: KEY };

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** A door before one key's object, which does as it is told and notes what it is asked. */
function create(whenUnreachable: DoorOptions['whenUnreachable'] = 'refuse') {
  const calls: string[] = [];
  const logged: string[] = [];
  const object = {
    admit: async (): Promise<AdmissionAnswer> => ADMITTED,
    look: async (): Promise<KeyLook> => ({ kind: 'good', key: KEY, standing: {} }),
  };
  const key = (): KeyObject => ({
    admit: (_, tokens) => {
      calls.push(`admit ${tokens}`);
      return object.admit();
    },
    look: () => object.look(),
    renew: async () => void calls.push('renew'),
    settle: async (_, tokens) => void calls.push(`settle ${tokens}`),
  });
  const door = new Door({ key, whenUnreachable, now: () => Date.now(), log: (event) => logged.push(event) });
  const pending: Promise<unknown>[] = [];
  const admit = () => door.admit(CALLER, 10, (promise) => pending.push(promise));
  return { door, object, calls, logged, admit };
}

const fail =
  (error: object = {}) =>
  async (): Promise<never> => {
    throw Object.assign(new Error('lost'), error);
  };

describe('the door', () => {
  it('renews a lease until it is told the answer’s end, and settles once', async () => {
    const { admit, calls } = create();
    const admission = await admit();
    await vi.advanceTimersByTimeAsync(LEASE_MS);
    expect(calls).toEqual(['admit 10', 'renew', 'renew', 'renew']);
    admission.end(7);
    admission.end(0);
    await vi.advanceTimersByTimeAsync(LEASE_MS);
    expect(calls.slice(4)).toEqual(['settle 7']);
  });

  it('tells nobody where nothing is held', async () => {
    const { admit, calls, object } = create();
    object.admit = async () => ({ ...ADMITTED, isLeased: false });
    (await admit()).end(7);
    await vi.advanceTimersByTimeAsync(LEASE_MS);
    expect(calls).toEqual(['admit 10']);
  });

  it('asks nobody about a key of the secret, or none at all', async () => {
    const { door, calls } = create();
    const configured = await door.admit({ kind: 'configured', tenant: 'old' }, 10, () => {});
    expect(configured).toMatchObject({ tenant: 'old', keyId: undefined, models: ['*'], headers: {} });
    expect(await door.look({ kind: 'anonymous' })).toMatchObject({ tenant: undefined });
    expect(calls).toEqual([]);
  });

  it('refuses with a 503 whom it can’t ask about, and logs it without the key’s hash', async () => {
    const { admit, object, logged, calls, door } = create();
    await admit();
    object.admit = object.look = fail();
    await expect(admit()).rejects.toMatchObject({ status: 503, code: 'key_unreachable', retryAfterSeconds: 1 });
    await expect(door.look(CALLER)).rejects.toMatchObject({ status: 503 });
    expect(logged).toEqual(['key_unreachable', 'key_unreachable']);
    // It may have been counted.
    expect(calls).toEqual(['admit 10', 'admit 10', 'settle 0']);
  });

  it('does not wait for ever', async () => {
    const { admit, object } = create();
    object.admit = () => new Promise(() => {});
    const refused = expect(admit()).rejects.toMatchObject({ code: 'key_unreachable' });
    await vi.advanceTimersByTimeAsync(3_000);
    await refused;
  });

  it('asks again where the hop is known to be lost, unless that adds to an overload', async () => {
    const { admit, object, calls } = create();
    let first = true;
    object.admit = async () => {
      if (!first) return ADMITTED;
      first = false;
      return fail({ retryable: true })();
    };
    expect(await admit()).toMatchObject({ tenant: 'acme' });
    expect(calls).toEqual(['admit 10', 'admit 10']);
    object.admit = fail({ retryable: true, overloaded: true });
    await expect(admit()).rejects.toMatchObject({ code: 'key_unreachable' });
    expect(calls.filter((call) => call === 'admit 10')).toHaveLength(3);
  });

  describe('that is told to admit', () => {
    it('lets in for five minutes whom it has seen to be good, and says that nothing is counted', async () => {
      const { admit, object, logged } = create('admit');
      object.admit = fail();
      await expect(admit()).rejects.toMatchObject({ status: 503 });
      object.admit = async () => ADMITTED;
      await admit();
      object.admit = fail();
      expect(await admit()).toMatchObject({ tenant: 'acme', models: ['math'], headers: {} });
      expect(logged.at(-1)).toBe('key_uncounted');
      await vi.advanceTimersByTimeAsync(300_001);
      await expect(admit()).rejects.toMatchObject({ status: 503 });
    });

    it('forgets a key that was revoked since', async () => {
      const { admit, object } = create('admit');
      await admit();
      object.admit = async () => ({ kind: 'revoked' });
      await expect(admit()).rejects.toMatchObject({ status: 401 });
      object.admit = fail();
      await expect(admit()).rejects.toMatchObject({ status: 503 });
    });
  });
});
