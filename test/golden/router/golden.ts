/**
 * The golden router (make.py) as its tests take it: in the packer's and the edge's hands.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseRouterManifest, type TransformerManifest } from '@signpost/contracts/router';

export function readGoldenRouter(file: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(readFileSync(join(import.meta.dirname, file)));
}

export function parseGoldenRouter(file: string): unknown {
  return JSON.parse(new TextDecoder().decode(readGoldenRouter(file)));
}

export const golden = parseGoldenRouter('golden.json') as {
  readonly labels: string[];
  readonly maxTokens: number;
  readonly cases: readonly {
    readonly text: string;
    readonly ids: number[];
    readonly byteLevelIds: number[];
    readonly probabilities: readonly number[];
  }[];
};

const file = { digest: 'a'.repeat(64), bytes: 1 };
/** Of its labels and length; its digests are nobody's. */
export const goldenManifest = parseRouterManifest({
  format: 1,
  kind: 'transformer',
  labels: golden.labels,
  threshold: 0.5,
  maxTokens: golden.maxTokens,
  temperature: 1,
  model: file,
  tokenizer: file,
  metrics: {},
}) as TransformerManifest;
