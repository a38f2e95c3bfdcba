/**
 * Where the router model comes from: object storage where it holds one, else the one bundled with the Worker.
 */
import { Problem, parseWith, sha256 } from '@signpost/contracts';
import {
  assertRouterFits,
  MAX_MANIFEST_BYTES,
  parseRouterManifest,
  ROUTER_POINTER_KEY,
  type RouterManifest,
  type RouterPart,
  type RouterPointer,
  routerObjectKey,
  routerPointerSchema,
} from '@signpost/contracts/router';

/** A router model's files, as `packer router train` writes them. */
export interface RouterFiles {
  /** `router.json` */
  readonly manifest: string;
  /** `tokenizer.json` */
  readonly tokenizer: string;
  /** `model.onnx` */
  readonly model: Uint8Array;
}

const MAX_POINTER_BYTES = 4_096;

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
  const json = await readChecked(store, pointer.manifest, (bytes, key) => {
    if (bytes > MAX_MANIFEST_BYTES)
      throw new Problem(`${key} has ${bytes} bytes; a router.json may have ${MAX_MANIFEST_BYTES}`);
  });
  // First, since it says what the others may weigh, and may be for others than these.
  const key = routerObjectKey(pointer.manifest);
  const manifest = parseRouterManifest(parseJson(json, key), `${key} in R2`);
  assertOwnFiles(manifest, pointer);
  const read = (part: RouterPart) =>
    readChecked(store, pointer[part], (bytes, where) => assertRouterFits(manifest, part, bytes, where));
  const [tokenizer, model] = await Promise.all([read('tokenizer'), read('model')]);
  return { manifest: decoder.decode(json), tokenizer: decoder.decode(tokenizer), model };
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

async function readChecked(
  store: ObjectReader,
  digest: string,
  assertFits: (bytes: number, where: string) => void,
): Promise<Uint8Array> {
  const key = routerObjectKey(digest);
  const object = await store.get(key);
  if (object === null) throw new Problem(`${key} is not in R2, though ${ROUTER_POINTER_KEY} points at it`);
  assertFits(object.size, `${key} in R2`);
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
