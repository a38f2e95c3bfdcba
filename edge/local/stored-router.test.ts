/**
 * Routers from R2 in workerd: the packer's own graph, and others, which ONNX Runtime computes there.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { sha256 } from '@signpost/contracts';
import { ROUTER_POINTER_KEY, routerObjectKey } from '@signpost/contracts/router';
import { afterEach, expect, it } from 'vitest';
import type { RouterFiles } from '../src/classify/source.ts';
import { type EdgeHandle, startEdge } from './edge.ts';
import { Upstream } from './upstream.ts';

const ROUTER = join(import.meta.dirname, '../../models/router');
const GOLDEN = join(import.meta.dirname, '../../test/golden/router');

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

interface ClassifierStatus {
  readonly status: string;
  readonly detail: string;
}

async function classifierStatus(): Promise<ClassifierStatus> {
  const health = (await (await fetch(`${edge?.url}/health`)).json()) as { readonly classifier: ClassifierStatus };
  return health.classifier;
}

async function started(
  objects: Record<string, string | Uint8Array>,
  options: { readonly routing?: string } = {},
): Promise<ClassifierStatus> {
  upstream = await Upstream.start();
  edge = await startEdge({ regions: [{ name: 'eu', url: upstream.url }], artifacts: objects, ...options });
  await expect.poll(async () => (await classifierStatus()).status, { timeout: 20_000 }).toBe('ready');
  return classifierStatus();
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
  expect((await started(await artifacts(model))).detail).toMatch(
    new RegExp(`^R2, ${digest.slice(0, 12)}; started in \\d+ ms$`),
  );
  expect(await label('What is 17 plus 25?')).toBe('math');
});

it('of another graph: by ONNX Runtime', async () => {
  const text = (await readFile(join(ROUTER, 'model.onnx'))).toString('latin1');
  // The same by another name: not what is known to be the packer’s.
  const other = new Uint8Array(Buffer.from(text.replaceAll('token_max', 'token_top'), 'latin1'));
  expect((await started(await artifacts(other))).detail).toMatch(/^R2, [0-9a-f]{12}; started in/);
  expect(await label('What is 17 plus 25?')).toBe('math');
  expect(await label('Write a Python function that reverses a list.')).toBe('code');
});

/** The transformer of test/golden/router, with the names of its labels. */
async function transformer(labels: readonly string[]): Promise<Record<string, string | Uint8Array>> {
  const read = async (file: string) => new Uint8Array(await readFile(join(GOLDEN, file)));
  const [model, tokenizer] = [await read('onnx/model_quantized.onnx'), await read('tokenizer.json')];
  const manifest = {
    format: 1,
    kind: 'transformer',
    labels,
    threshold: 0.5,
    maxTokens: 24,
    temperature: 1,
    model: { digest: await sha256(model), bytes: model.byteLength },
    tokenizer: { digest: await sha256(tokenizer), bytes: tokenizer.byteLength },
    metrics: {},
  };
  return routerObjects({
    manifest: JSON.stringify(manifest),
    tokenizer: new TextDecoder().decode(tokenizer),
    model,
  });
}

it('of a team’s own transformer, which a newer one takes the place of while requests come, and one that is no good doesn’t', async () => {
  const routing = `
version: 1
rules:
  - { name: by label, then: { model: label, otherwise: chat } }
`;
  const detail = await started(await transformer(['chat', 'math', 'code']), { routing });
  expect(detail.detail).toMatch(/^R2, [0-9a-f]{12}; started in/);
  // "legal" to the model, the second label.
  const prompt = 'What does the liability clause of my lease mean?';
  expect(await label(prompt)).toBe('math');
  expect(await label('Hello my friend, how is the weather?')).toBe('chat');
  const publish = async (objects: Record<string, string | Uint8Array>) => {
    for (const [key, value] of Object.entries(objects)) await edge?.setArtifact(key, value);
  };
  await publish(await transformer(['chat', 'code', 'math']));
  await expect.poll(() => label(prompt), { timeout: 60_000, interval: 500 }).toBe('code');
  await publish(await transformer(['chat', 'math', 'code', 'law']));
  await expect
    .poll(async () => (await classifierStatus()).detail, { timeout: 60_000, interval: 500 })
    .toMatch(
      /; a newer one is not used: the router model gives logits of the shape \[1, 3\]; router\.json has 4 labels/,
    );
  expect(await label(prompt)).toBe('code');
}, 180_000);
