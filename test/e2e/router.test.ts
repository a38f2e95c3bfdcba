/**
 * A router model in workerd: that it starts there, and gives what it gives in Node. By default the bundled one; `SIGNPOST_ROUTER=DIR` names another,
 * which is put into R2 as an operator would.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { sha256 } from '@signpost/contracts';
import { type EdgeHandle, startEdge } from '@signpost/edge';
import { loadRouter } from '@signpost/packer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const DIR = process.env.SIGNPOST_ROUTER ?? join(import.meta.dirname, '../../models/router');
/** Two builds of ONNX Runtime, in F32. */
const TOLERANCE = 1e-4;
const PROMPTS = [
  'Hi, how are you?',
  'Tom has 12 apples and gives 5 to Anna. How many apples does Tom have left?',
  'Write a function that returns the square of a number.',
  'Сколько будет 2 + 2?',
  'word '.repeat(2_000),
];

let edge: EdgeHandle;
beforeAll(async () => {
  edge = await startEdge({
    regions: [{ name: 'none', url: 'http://127.0.0.1:9' }],
    artifacts: await routerObjects(),
  });
});
afterAll(() => edge?.close());

async function routerObjects(): Promise<Record<string, string | Uint8Array>> {
  const pointer: Record<string, string> = {};
  const objects: Record<string, string | Uint8Array> = {};
  for (const [part, file] of [
    ['manifest', 'router.json'],
    ['tokenizer', 'tokenizer.json'],
    ['model', 'model.onnx'],
  ] as const) {
    const bytes = new Uint8Array(await readFile(join(DIR, file)));
    const digest = await sha256(bytes);
    pointer[part] = digest;
    objects[`router/${digest}`] = bytes;
  }
  return { ...objects, 'router/current.json': JSON.stringify(pointer) };
}

interface Explained {
  readonly classification: { readonly label: string; readonly probabilities: Record<string, number> } | null;
}

async function explain(content: string): Promise<Explained> {
  const body = JSON.stringify({ model: 'auto', messages: [{ role: 'user', content }] });
  const answer = await fetch(`${edge.url}/v1/route`, {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/json' },
  });
  return answer.json() as Promise<Explained>;
}

describe(`the router in ${DIR}`, () => {
  it('starts in workerd', async () => {
    const status = async () =>
      ((await (await fetch(`${edge.url}/health`)).json()) as { classifier: { status: string; detail?: string } })
        .classifier;
    await expect.poll(async () => (await status()).status, { timeout: 20_000 }).toMatch(/ready|failed/);
    expect((await status()).detail).toMatch(/^R2, [0-9a-f]{12};/);
  });

  it('gives there what it gives in Node', async () => {
    const { manifest, classify } = await loadRouter(DIR);
    for (const prompt of PROMPTS) {
      const want = await classify(prompt);
      const { classification } = await explain(prompt);
      for (const [i, label] of manifest.labels.entries())
        expect(Math.abs((classification?.probabilities[label] ?? Number.NaN) - (want[i] ?? 0))).toBeLessThan(TOLERANCE);
    }
  });

  it('answers while the app waits', async () => {
    const times: number[] = [];
    for (let i = 0; i < 100; i++) {
      const started = performance.now();
      await explain(PROMPTS[i % 3] ?? '');
      times.push(performance.now() - started);
    }
    const median = times.sort((a, b) => a - b)[times.length >> 1] ?? Number.NaN;
    console.log(`${DIR}: ${median.toFixed(2)} ms a request with classification in workerd (median of ${times.length})`);
    // Of which about a millisecond is HTTP; workerd's own clock stands still meanwhile.
    expect(median).toBeLessThan(50);
  });
});
