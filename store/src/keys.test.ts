import { createPublicKey, generateKeyPairSync, verify } from 'node:crypto';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CATALOGUE_KEY, type Catalogue, type Digest, type SigningKey, type TrustedKey } from '@signpost/contracts';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type ObjectStore,
  openStore,
  readCatalogue,
  readSigningKey,
  readTrustedKeys,
  resignCatalogue,
  updateCatalogue,
  writeKeyPair,
} from './index.ts';
import { interceptStore } from './testing/index.ts';

const text = (value: string) => new TextEncoder().encode(value);
const BASE = 'b'.repeat(64) as Digest;
const named =
  (name: string) =>
  (catalogue: Catalogue): Catalogue => ({ ...catalogue, bases: { ...catalogue.bases, [BASE]: { name } } });

let dir: string;
let store: ObjectStore;
let key: string;
let sign: SigningKey;
let trust: TrustedKey[];
let other: SigningKey;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-keys-'));
  store = openStore(join(dir, 'store'));
  key = join(dir, 'key');
  await writeKeyPair(key);
  sign = await readSigningKey(key);
  trust = await readTrustedKeys([`${key}.pub`]);
  await writeKeyPair(join(dir, 'other'));
  other = await readSigningKey(join(dir, 'other'));
});
afterEach(() => rm(dir, { recursive: true }));

describe('a key pair', () => {
  it('is two PEM files, the private one its owner’s alone, and is never overwritten', async () => {
    expect((await stat(key)).mode & 0o777).toBe(0o600);
    expect(await readFile(key, 'utf8')).toMatch(/^-----BEGIN PRIVATE KEY-----\n/);
    expect(await readFile(`${key}.pub`, 'utf8')).toMatch(/^-----BEGIN PUBLIC KEY-----\n/);
    expect(trust.map(({ id }) => id)).toEqual([sign.public.id]);
    const before = await readFile(key);
    await expect(writeKeyPair(key)).rejects.toThrow(/exists; a key is never overwritten/);
    expect(await readFile(key)).toEqual(before);
    await writeFile(join(dir, 'half.pub'), '');
    await expect(writeKeyPair(join(dir, 'half'))).rejects.toThrow(/half\.pub exists/);
    await expect(stat(join(dir, 'half'))).rejects.toThrow(/ENOENT/);
  });

  it('of another kind, a missing one, and the wrong half are refused by file', async () => {
    const rsa = join(dir, 'rsa');
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    await writeFile(rsa, privateKey.export({ type: 'pkcs8', format: 'pem' }));
    await expect(readSigningKey(rsa)).rejects.toThrow(/key .*rsa: this is a key for rsa; expected an Ed25519 private/);
    await expect(readSigningKey(join(dir, 'none'))).rejects.toThrow(/none: ENOENT/);
    await expect(readSigningKey(`${key}.pub`)).rejects.toThrow(/expected an Ed25519 private key/);
    await expect(readTrustedKeys([key])).rejects.toThrow(/this is the private key; expected an Ed25519 public key/);
  });
});

describe('a signed catalogue', () => {
  beforeEach(async () => {
    await updateCatalogue(store, named('first'), { sign });
  });
  const stored = async () => (await store.read(CATALOGUE_KEY)).data;

  it('is read by whoever trusts its key, and by whoever asks for no signature', async () => {
    for (const keys of [trust, [other.public, ...trust], []]) {
      const { catalogue, signedBy } = await readCatalogue(store, keys);
      expect([catalogue.bases[BASE]?.name, signedBy]).toEqual(['first', sign.public.id]);
    }
    await expect(readCatalogue(store, [other.public])).rejects.toThrow(
      `is signed by key ${sign.public.id}, and only ${other.public.id} is trusted`,
    );
  });

  it('is verified by other implementations too', async () => {
    const { payload, signature } = JSON.parse(new TextDecoder().decode(await stored()));
    const publicKey = createPublicKey(await readFile(`${key}.pub`, 'utf8'));
    const signed = Buffer.from(`signpost-catalogue/1\n${payload}`);
    expect(verify(null, signed, publicKey, Buffer.from(signature.value, 'base64'))).toBe(true);
  });

  it('is refused with any one byte of text or signature altered, missing or added', async () => {
    const whole = await stored();
    const changes = fc.tuple(
      fc.nat(whole.byteLength - 1),
      fc.constantFrom('alter', 'remove', 'add'),
      fc.integer({ min: 1, max: 255 }),
    );
    await fc.assert(
      fc.asyncProperty(changes, async ([at, kind, value]) => {
        const [before, after] = [whole.subarray(0, at), whole.subarray(at + 1)];
        const here = whole[at] ?? 0;
        const middle = kind === 'remove' ? [] : kind === 'alter' ? [here ^ value] : [value, here];
        await store.write(CATALOGUE_KEY, Buffer.concat([before, Buffer.from(middle), after]));
        await expect(readCatalogue(store, trust)).rejects.toThrow(/catalogue\.json/);
      }),
      { numRuns: 300 },
    );
  });

  it('is not stripped by a writer without a key, nor taken over by one with another', async () => {
    const before = await stored();
    await expect(updateCatalogue(store, named('x'))).rejects.toThrow(
      `is signed by key ${sign.public.id}; to change it give a key (--sign-key`,
    );
    await expect(updateCatalogue(store, named('x'), { sign: other })).rejects.toThrow(
      `only ${other.public.id} is trusted`,
    );
    expect(await stored()).toEqual(before);
  });

  it('passes to another key when a writer trusts both', async () => {
    await updateCatalogue(store, named('second'), { sign: other, trust: [...trust, other.public] });
    expect((await readCatalogue(store, [other.public])).catalogue.bases[BASE]?.name).toBe('second');
    await resignCatalogue(store, sign, [other.public]);
    expect((await readCatalogue(store, trust)).signedBy).toBe(sign.public.id);
  });

  it('is expected where there is none any more', async () => {
    await store.delete(CATALOGUE_KEY);
    await expect(readCatalogue(store, trust)).rejects.toThrow(/has no catalogue\.json, and a signed one is expected/);
  });
});

describe('an unsigned catalogue', () => {
  beforeEach(async () => {
    await updateCatalogue(store, named('first'));
  });

  it('is plain JSON, refused where signatures are trusted', async () => {
    expect(JSON.parse(new TextDecoder().decode((await store.read(CATALOGUE_KEY)).data))).toMatchObject({ format: 1 });
    await expect(readCatalogue(store, trust)).rejects.toThrow(
      `is not signed, and only one signed by ${sign.public.id}`,
    );
  });

  it('is signed by who has looked at it, not by the next change', async () => {
    await expect(updateCatalogue(store, named('x'), { sign })).rejects.toThrow(/is not signed/);
    await resignCatalogue(store, sign);
    await updateCatalogue(store, named('second'), { sign });
    expect((await readCatalogue(store, trust)).catalogue.bases[BASE]?.name).toBe('second');
  });
});

describe('a writer', () => {
  it('must be able to read what it writes', async () => {
    await expect(updateCatalogue(store, named('x'), { trust })).rejects.toThrow(/must be signed; give --sign-key/);
    await expect(updateCatalogue(store, named('x'), { sign: other, trust })).rejects.toThrow(
      /is to sign, but is not among the trusted/,
    );
    expect(await store.head(CATALOGUE_KEY)).toBeUndefined();
  });

  it('whose write was answered too late finds its own change, not a conflict', async () => {
    let writes = 0;
    const late = interceptStore(store, {
      async write(name, data, condition) {
        writes += 1;
        await store.write(name, data, condition);
        return store.write(name, text('never'), { ifNoneMatch: '*' });
      },
    });
    await updateCatalogue(late, named('once'), { sign });
    expect(writes).toBe(1);
  });
});
