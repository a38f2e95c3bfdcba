import { sha256 } from '@signpost/contracts';
import { ROUTER_POINTER_KEY, routerObjectKey } from '@signpost/contracts/router';
import { describe, expect, it } from 'vitest';
import { BUNDLED, pointerOf, readStoredRouter, readStoredVersion } from './source.ts';

const encode = (text: string) => new TextEncoder().encode(text);
const [tokenizer, model] = [encode('{"model":{}}'), Uint8Array.of(1, 2, 3)];
const own = { model: await sha256(model), tokenizer: await sha256(tokenizer) };
const manifest = encode(
  JSON.stringify({
    format: 1,
    features: 1,
    labels: ['chat', 'math'],
    threshold: 0.5,
    model: { digest: own.model, bytes: model.length },
    tokenizer: { digest: own.tokenizer, bytes: tokenizer.length },
    metrics: {},
  }),
);
const files = { manifest, tokenizer, model };
const digests = { manifest: await sha256(manifest), ...own };

/** A store of these objects, which tells what was read of it. */
function storeOf(
  objects: Readonly<Record<string, Uint8Array | string | undefined>>,
  sizes: Record<string, number> = {},
) {
  const bodies: string[] = [];
  return {
    bodies,
    get: async (key: string) => {
      const value = objects[key];
      if (value === undefined) return null;
      const bytes = typeof value === 'string' ? encode(value) : value;
      return {
        size: sizes[key] ?? bytes.length,
        arrayBuffer: async () => {
          bodies.push(key);
          return bytes.slice().buffer;
        },
      };
    },
  };
}

const objects: Readonly<Record<string, Uint8Array | string>> = {
  [ROUTER_POINTER_KEY]: JSON.stringify(digests),
  [routerObjectKey(digests.manifest)]: manifest,
  [routerObjectKey(digests.tokenizer)]: tokenizer,
  [routerObjectKey(digests.model)]: model,
};

describe('the router in R2', () => {
  it('is named by its files, and read by that name', async () => {
    const store = storeOf(objects);
    const version = await readStoredVersion(store);
    expect(pointerOf(version)).toEqual(digests);
    const read = await readStoredRouter(store, pointerOf(version));
    expect({ ...read, manifest: encode(read.manifest), tokenizer: encode(read.tokenizer) }).toEqual(files);
    expect(await readStoredVersion(storeOf({}))).toBe(BUNDLED);
  });

  it('is refused where a file is too large, which isn’t read', async () => {
    const key = routerObjectKey(digests.model);
    const store = storeOf(objects, { [key]: 1e9 });
    await expect(readStoredRouter(store, digests)).rejects.toThrow(
      new RegExp(`^${key} in R2 has 1000000000 bytes, and this router's model may have \\d+: `),
    );
    expect(store.bodies).not.toContain(key);
    const pointed = storeOf(objects, { [ROUTER_POINTER_KEY]: 5_000 });
    await expect(readStoredVersion(pointed)).rejects.toThrow(`${ROUTER_POINTER_KEY} in R2 has 5000 bytes`);
    expect(pointed.bodies).toEqual([]);
  });

  it('is refused where its manifest is of other files, which aren’t read', async () => {
    const other = await sha256(new Uint8Array(3));
    const store = storeOf({ ...objects, [routerObjectKey(other)]: new Uint8Array(3) });
    await expect(readStoredRouter(store, { ...digests, model: other })).rejects.toThrow(
      `router.json in R2 is of the model ${digests.model}, ${ROUTER_POINTER_KEY} points at ${other}`,
    );
    expect(store.bodies).toEqual([routerObjectKey(digests.manifest)]);
  });

  it.each([
    ['is missing', undefined, /is not in R2, though router\/current\.json points at it/],
    ['is altered', new Uint8Array(3), /has the digest [0-9a-f]{64}: altered or truncated/],
  ] as const)('is refused where a file %s', async (_, contents, message) => {
    const store = storeOf({ ...objects, [routerObjectKey(digests.tokenizer)]: contents });
    await expect(readStoredRouter(store, digests)).rejects.toThrow(message);
  });

  it.each([
    ['{', /router\/current\.json in R2 is not JSON/],
    ['{"manifest":"../x"}', /router\/current\.json in R2: manifest/],
  ])('is refused where its pointer is malformed: %s', async (pointer, message) => {
    await expect(readStoredVersion(storeOf({ [ROUTER_POINTER_KEY]: pointer }))).rejects.toThrow(message);
  });
});
