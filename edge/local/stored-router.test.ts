/**
 * Routers from R2 in workerd: the packer's own graph, and another one, which ONNX Runtime computes there.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { sha256 } from '@signpost/contracts';
import { afterEach, expect, it } from 'vitest';
import { ROUTER_POINTER_KEY, type RouterFiles, routerObjectKey } from '../src/classify/source.ts';
import { type EdgeHandle, startEdge } from './edge.ts';
import { Upstream } from './upstream.ts';

const ROUTER = join(import.meta.dirname, '../../models/router');

let edge: EdgeHandle | undefined;
let upstream: Upstream | undefined;
afterEach(async () => {
  await edge?.close();
  await upstream?.close();
});

/** Objects of a router with this graph. */
async function artifacts(model: Uint8Array): Promise<Record<string, string | Uint8Array>> {
  const [manifest, tokenizer] = await Promise.all(
    ['router.json', 'tokenizer.json'].map((file) => readFile(join(ROUTER, file), 'utf8')),
  );
  const digest = await sha256(model);
  const own = { ...JSON.parse(manifest ?? ''), model: { digest, bytes: model.byteLength } };
  return routerObjects({ manifest: JSON.stringify(own), tokenizer: tokenizer ?? '', model });
}

/** As the packer publishes them. */
async function routerObjects(files: RouterFiles): Promise<Record<string, string | Uint8Array>> {
  const encoder = new TextEncoder();
  const objects: Record<string, string | Uint8Array> = {};
  const pointer: Record<string, string> = {};
  for (const [part, contents] of Object.entries(files)) {
    const bytes = typeof contents === 'string' ? encoder.encode(contents) : contents;
    const digest = await sha256(bytes);
    pointer[part] = digest;
    objects[routerObjectKey(digest)] = bytes;
  }
  return { ...objects, [ROUTER_POINTER_KEY]: JSON.stringify(pointer) };
}

async function started(model: Uint8Array): Promise<{ readonly status: string; readonly detail: string }> {
  upstream = await Upstream.start();
  edge = await startEdge({ regions: [{ name: 'eu', url: upstream.url }], artifacts: await artifacts(model) });
  const { url } = edge;
  const classifier = async () =>
    ((await (await fetch(`${url}/health`)).json()) as { classifier: { status: string; detail: string } }).classifier;
  await expect.poll(async () => (await classifier()).status, { timeout: 20_000 }).toBe('ready');
  return classifier();
}

async function label(prompt: string): Promise<string | null> {
  const body = JSON.stringify({ model: 'auto', messages: [{ role: 'user', content: prompt }] });
  const answer = await fetch(`${edge?.url}/v1/chat/completions`, { method: 'POST', body });
  await answer.text();
  return answer.headers.get('x-signpost-label');
}

it('of the graph that the packer writes', async () => {
  const model = new Uint8Array(await readFile(join(ROUTER, 'model.onnx')));
  const digest = await sha256(model);
  expect((await started(model)).detail).toMatch(new RegExp(`^R2, ${digest.slice(0, 12)}; started in \\d+ ms$`));
  expect(await label('What is 17 plus 25?')).toBe('math');
});

it('of another graph: by ONNX Runtime', async () => {
  const text = (await readFile(join(ROUTER, 'model.onnx'))).toString('latin1');
  // The same by another name: not what is known to be the packer’s.
  const other = new Uint8Array(Buffer.from(text.replaceAll('token_max', 'token_top'), 'latin1'));
  expect((await started(other)).detail).toMatch(/^R2, [0-9a-f]{12}; started in/);
  expect(await label('What is 17 plus 25?')).toBe('math');
  expect(await label('Write a Python function that reverses a list.')).toBe('code');
});
