/**
 * Where the router model comes from: object storage where it holds one, else the one bundled with the Worker.
 */
import { digestSchema, Problem, parseWith, sha256 } from '@signpost/contracts';
import { z } from 'zod';

/** A router model's files, as `packer router train` writes them. */
export interface RouterFiles {
  /** `router.json` */
  readonly manifest: string;
  /** `tokenizer.json` */
  readonly tokenizer: string;
  /** `model.onnx` */
  readonly model: Uint8Array;
}

/** Points at the files by digest; replaced last, so that it never points at what isn't there. */
export const ROUTER_POINTER_KEY = 'router/current.json';
/** Object key of a file. */
export const routerObjectKey = (digest: string) => `router/${digest}`;

const routerPointerSchema = z.strictObject({
  manifest: digestSchema,
  tokenizer: digestSchema,
  model: digestSchema,
});

/** The part of R2 in use. */
export interface ObjectReader {
  get(key: string): Promise<{ arrayBuffer(): Promise<ArrayBuffer> } | null>;
}

/** What names the bundled router. */
export const BUNDLED = 'bundled';

/** Names the router in object storage by its files; `BUNDLED` when there is no pointer. @throws Problem when the pointer is malformed */
export async function readStoredVersion(store: ObjectReader): Promise<string> {
  const pointer = await readPointer(store);
  return pointer === undefined ? BUNDLED : versionOf(pointer);
}

type Pointer = z.output<typeof routerPointerSchema>;

function versionOf({ manifest, tokenizer, model }: Pointer): string {
  return [manifest, tokenizer, model].join('+');
}

async function readPointer(store: ObjectReader): Promise<Pointer | undefined> {
  const pointer = await store.get(ROUTER_POINTER_KEY);
  if (pointer === null) return undefined;
  return parseWith(routerPointerSchema, parseJson(await bytesOf(pointer)), `${ROUTER_POINTER_KEY} in R2`);
}

/**
 * The router in object storage, every file checked against its digest; undefined when there is no pointer.
 *
 * @throws Problem when the pointer is malformed, or an object is missing or isn't what its digest says.
 */
export async function readStoredRouter(
  store: ObjectReader,
): Promise<{ readonly version: string; readonly files: RouterFiles } | undefined> {
  const digests = await readPointer(store);
  if (digests === undefined) return undefined;
  const decoder = new TextDecoder();
  const [manifest, tokenizer, model] = await Promise.all([
    readChecked(store, digests.manifest),
    readChecked(store, digests.tokenizer),
    readChecked(store, digests.model),
  ]);
  const files = { manifest: decoder.decode(manifest), tokenizer: decoder.decode(tokenizer), model };
  return { version: versionOf(digests), files };
}

async function readChecked(store: ObjectReader, digest: string): Promise<Uint8Array> {
  const key = routerObjectKey(digest);
  const object = await store.get(key);
  if (object === null) throw new Problem(`${key} is not in R2, though ${ROUTER_POINTER_KEY} points at it`);
  const bytes = await bytesOf(object);
  const actual = await sha256(bytes);
  if (actual !== digest) throw new Problem(`${key} in R2 has the digest ${actual}: altered or truncated`);
  return bytes;
}

async function bytesOf(object: { arrayBuffer(): Promise<ArrayBuffer> }): Promise<Uint8Array> {
  return new Uint8Array(await object.arrayBuffer());
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw new Problem(`${ROUTER_POINTER_KEY} in R2 is not JSON`);
  }
}
