/**
 * Keys that catalogues are signed with, in PEM files: Ed25519, PKCS #8 and SPKI (RFC 8410), as OpenSSL writes them.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { delimiter } from 'node:path';
import { importSigningKey, importTrustedKey, Problem, type SigningKey, type TrustedKey } from '@signpost/contracts';

export interface KeyFiles {
  readonly id: string;
  /** For whoever publishes; readable by its owner only. */
  readonly privateKey: string;
  /** For whoever reads. */
  readonly publicKey: string;
}

/**
 * Writes a new key pair to `path` and `path.pub`.
 *
 * @throws Problem when one of them exists.
 */
export async function writeKeyPair(path: string): Promise<KeyFiles> {
  const pair = generateKeyPairSync('ed25519');
  const files = { privateKey: path, publicKey: `${path}.pub` };
  await writeNew(files.privateKey, pair.privateKey.export({ type: 'pkcs8', format: 'pem' }), 0o600);
  try {
    await writeNew(files.publicKey, pair.publicKey.export({ type: 'spki', format: 'pem' }), 0o644);
  } catch (error) {
    await rm(files.privateKey);
    throw error;
  }
  return { id: (await importTrustedKey(spki(pair.publicKey))).id, ...files };
}

/** @throws Problem when the file is missing or holds no Ed25519 private key. */
export async function readSigningKey(path: string): Promise<SigningKey> {
  const key = await readKey(path, 'private', createPrivateKey);
  return importSigningKey(key.export({ type: 'pkcs8', format: 'der' }), spki(createPublicKey(key)));
}

/** @throws Problem when a file is missing or holds no Ed25519 public key. */
export async function readTrustedKeys(paths: readonly string[]): Promise<TrustedKey[]> {
  const keys: TrustedKey[] = [];
  for (const path of paths) keys.push(await importTrustedKey(spki(await readKey(path, 'public', publicOnly))));
  return keys;
}

/** For a command's option that may be repeated, or stand in the environment as a list joined like PATH. */
export function keyFiles(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, ...value.split(delimiter).filter((path) => path !== '')];
}

/** `createPublicKey` alone would take a private key for a public one, and so have it copied to every reader. */
function publicOnly(pem: string): KeyObject {
  if (pem.includes('PRIVATE KEY')) throw new Error('this is the private key');
  return createPublicKey(pem);
}

async function readKey(path: string, kind: string, parse: (pem: string) => KeyObject): Promise<KeyObject> {
  const expected = `expected an Ed25519 ${kind} key in PEM, as signpost-packer keygen writes it`;
  try {
    const key = parse(await readFile(path, 'utf8'));
    if (key.asymmetricKeyType !== 'ed25519') throw new Error(`this is a key for ${key.asymmetricKeyType}`);
    return key;
  } catch (cause) {
    throw new Problem(`key ${path}: ${cause instanceof Error ? cause.message : cause}; ${expected}`, { cause });
  }
}

async function writeNew(path: string, text: string | Buffer, mode: number): Promise<void> {
  try {
    await writeFile(path, text, { flag: 'wx', mode });
  } catch (cause) {
    if (!(cause instanceof Error && 'code' in cause && cause.code === 'EEXIST')) throw cause;
    throw new Problem(`${path} exists; a key is never overwritten: give another --out, or move it away`, { cause });
  }
}

function spki(key: KeyObject): Uint8Array {
  return key.export({ type: 'spki', format: 'der' });
}
