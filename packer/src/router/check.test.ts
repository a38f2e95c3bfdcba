import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sha256 } from '@signpost/contracts';
import type { RouterManifest } from '@signpost/contracts/router';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkRouter, requireUsable } from './check.ts';

const BUNDLED = join(import.meta.dirname, '../../../models/router');

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'signpost-check-'));
});
afterAll(() => rm(dir, { recursive: true }));

interface Change {
  /** A string of the graph, and another of the same length in its place. */
  readonly rename?: readonly [string, string];
  readonly labels?: readonly string[];
}

/** The bundled model, changed. */
async function altered(name: string, { rename, labels }: Change): Promise<string> {
  const folder = join(dir, name);
  await cp(BUNDLED, folder, { recursive: true });
  const model = Buffer.from(await readFile(join(folder, 'model.onnx')));
  if (rename !== undefined) {
    const [from, to] = rename;
    for (let at = model.indexOf(from); at !== -1; at = model.indexOf(from, at + 1)) model.write(to, at);
  }
  await writeFile(join(folder, 'model.onnx'), model);
  const manifest = JSON.parse(await readFile(join(folder, 'router.json'), 'utf8')) as RouterManifest;
  const digest = await sha256(new Uint8Array(model));
  const changed = { ...manifest, labels: labels ?? manifest.labels, model: { ...manifest.model, digest } };
  await writeFile(join(folder, 'router.json'), JSON.stringify(changed));
  return folder;
}

describe('router check', () => {
  it('passes the bundled model, and says how fast it is', async () => {
    const findings = await checkRouter(BUNDLED);
    expect(findings.map(({ what }) => what)).toEqual(['files', 'size', 'inputs', 'output', 'probabilities', 'speed']);
    expect(findings.filter(({ verdict }) => verdict === 'failed')).toEqual([]);
    expect(findings.at(-1)?.detail).toMatch(/^\d+\.\d+ ms a short prompt .* ms a long one/);
    expect(() => requireUsable(BUNDLED, findings)).not.toThrow();
  });

  it.each([
    ['other inputs', { rename: ['token_ids', 'input_ids'] }, 'inputs', /input_ids: int32 .*expected token_ids: int32/],
    [
      'another output',
      { rename: ['probabilities', 'output_logits'] },
      'output',
      /output_logits.*expected probabilities/,
    ],
    ['more labels', { labels: ['chat', 'code', 'law', 'math'] }, 'probabilities', /expected 4 probabilities of sum 1/],
  ] satisfies [string, Change, string, RegExp][])('fails a model with %s', async (name, change, what, detail) => {
    const folder = await altered(name, change);
    const findings = await checkRouter(folder);
    expect(findings.filter(({ verdict }) => verdict === 'failed')).toEqual([
      { what, verdict: 'failed', detail: expect.stringMatching(detail) },
    ]);
    expect(() => requireUsable(folder, findings)).toThrow(`the edge can't run this model: ${what}`);
  });

  it('fails a folder whose files are not what the manifest says', async () => {
    const folder = join(dir, 'cut');
    await cp(BUNDLED, folder, { recursive: true });
    await writeFile(join(folder, 'model.onnx'), 'none');
    expect(await checkRouter(folder)).toEqual([
      { what: 'files', verdict: 'failed', detail: expect.stringMatching(/model\.onnx has digest .*router\.json says/) },
    ]);
  });
});
