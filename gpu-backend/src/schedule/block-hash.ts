/**
 * What a full block of the KV cache holds, as a name: equal names, equal keys and values.
 *
 * A chain as vLLM's, `sha256(name of the block before, tokens)`, whose root is the mixture: digests and weights in the order in which they
 * are added up. So no expert is ever given what another computed, the base has a chain of its own, and a re-published expert begins a new one.
 */
import { createHash } from 'node:crypto';
import type { ExpertTerm, Sequence } from './sequence.ts';

/** Names of the sequence's full blocks within its first `tokens` tokens, kept in it. */
export function blockHashes(sequence: Sequence, blockTokens: number, tokens: number): readonly string[] {
  const { blockHashes: hashes } = sequence;
  for (let end = (hashes.length + 1) * blockTokens; end <= tokens; end += blockTokens) {
    const parent = hashes.at(-1) ?? mixtureHash(sequence.mixture);
    const content = Int32Array.from(sequence.tokens.slice(end - blockTokens, end));
    hashes.push(createHash('sha256').update(parent).update(content).digest('base64'));
  }
  return hashes;
}

function mixtureHash(mixture: readonly ExpertTerm[]): string {
  // As the device sees the weight, which is float32.
  const terms = mixture.map(({ digest, weight }) => [digest, Math.fround(weight)]);
  return createHash('sha256').update(JSON.stringify(terms)).digest('base64');
}
