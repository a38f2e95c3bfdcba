/**
 * Where the router model comes from: object storage where it holds one, else the one bundled with the Worker.
 */
import { digestSchema, Problem, parseWith, sha256 } from '@signpost/contracts';
import {
  assertRouterFits,
  parseRouterManifest,
  type RouterManifest,
  type RouterPart,
} from '@signpost/contracts/router';
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

const MAX_POINTER_BYTES = 4_096;

const routerPointerSchema = z.strictObject({
  manifest: digestSchema,
  tokenizer: digestSchema,
  model: digestSchema,
});
type RouterPointer = z.output<typeof routerPointerSchema>;

/** The part of R2 in use. */
export interface ObjectReader {
  get(key: string): Promise<StoredObject | null>;
}

interface StoredObject {
  /** Bytes. */
  readonly size: number;
  arrayBuffer(): Promise<ArrayBuffer>;
}

/** What names the bundled router. */
export const BUNDLED = 'bundled';

/** Names the router in object storage by its files; `BUNDLED` when there is no pointer. @throws Problem when the pointer is malformed */
export async function readStoredVersion(store: ObjectReader): Promise<string> {
  const object = await store.get(ROUTER_POINTER_KEY);
  if (object === null) return BUNDLED;
  if (object.size > MAX_POINTER_BYTES)
    throw new Problem(`${ROUTER_POINTER_KEY} in R2 has ${object.size} bytes; it may have ${MAX_POINTER_BYTES}`);
  const json = parseJson(await bytesOf(object), ROUTER_POINTER_KEY);
  const { manifest, tokenizer, model } = parseWith(routerPointerSchema, json, `${ROUTER_POINTER_KEY} in R2`);
  return [manifest, tokenizer, model].join('+');
}

/** What such a name points at. */
export function pointerOf(version: string): RouterPointer {
  const [manifest, tokenizer, model] = version.split('+');
  return parseWith(routerPointerSchema, { manifest, tokenizer, model }, `the router ${version}`);
}

/**
 * The router in object storage of this name, every file checked: its size before it is read, then its digest.
 *
 * @throws Problem when an object is missing, too large, or not what its digest or its manifest says.
 */
export async function readStoredRouter(store: ObjectReader, pointer: RouterPointer): Promise<RouterFiles> {
  const decoder = new TextDecoder();
  const manifest = await readChecked(store, 'manifest', pointer.manifest);
  // First, since it is small, and may be for others than these files.
  assertOwnFiles(parseRouterManifest(parseJson(manifest, routerObjectKey(pointer.manifest))), pointer);
  const [tokenizer, model] = await Promise.all([
    readChecked(store, 'tokenizer', pointer.tokenizer),
    readChecked(store, 'model', pointer.model),
  ]);
  return { manifest: decoder.decode(manifest), tokenizer: decoder.decode(tokenizer), model };
}

function assertOwnFiles(manifest: RouterManifest, pointer: RouterPointer): void {
  for (const part of ['tokenizer', 'model'] as const) {
    const { digest } = manifest[part];
    if (digest !== pointer[part])
      throw new Problem(
        `router.json in R2 is of the ${part} ${digest}, ${ROUTER_POINTER_KEY} points at ${pointer[part]}`,
      );
  }
}

async function readChecked(store: ObjectReader, part: RouterPart, digest: string): Promise<Uint8Array> {
  const key = routerObjectKey(digest);
  const object = await store.get(key);
  if (object === null) throw new Problem(`${key} is not in R2, though ${ROUTER_POINTER_KEY} points at it`);
  assertRouterFits(part, object.size, `${key} in R2`);
  const bytes = await bytesOf(object);
  const actual = await sha256(bytes);
  if (actual !== digest) throw new Problem(`${key} in R2 has the digest ${actual}: altered or truncated`);
  return bytes;
}

async function bytesOf(object: StoredObject): Promise<Uint8Array> {
  return new Uint8Array(await object.arrayBuffer());
}

function parseJson(bytes: Uint8Array, key: string): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw new Problem(`${key} in R2 is not JSON`);
  }
}
