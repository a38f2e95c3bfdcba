/**
 * For tests: texts that a grammar lets a model write that knows nothing.
 */
import type { GrammarConstraint } from './constraint.ts';
import type { VocabularyTree } from './vocabulary.ts';

/** Tokens written before the writer begins to look for an end. */
const WANDERING = 30;
const CLOSING = ['"', '}', ']', '</tool_call>', '\n'];

/** A text that ends where the grammar lets it; undefined where it doesn't within `limit` tokens. `random` is uniform in [0, 1). */
export function randomText(
  constraint: GrammarConstraint,
  vocabulary: VocabularyTree,
  stopId: number,
  random: () => number,
  limit = 600,
): string | undefined {
  const written: number[] = [];
  const texts = new TextDecoder();
  for (let count = 0; count < limit; count++) {
    const mask = constraint.allowed();
    const allowed: number[] = [];
    for (let id = 0; id < mask.length * 32; id++) if (((mask[id >>> 5] ?? 0) >>> (id & 31)) & 1) allowed.push(id);
    if (allowed.includes(stopId) && (allowed.length === 1 || count >= WANDERING || random() < 0.3))
      return texts.decode(Uint8Array.from(written));
    const closing =
      count < WANDERING
        ? undefined
        : allowed.find((id) => CLOSING.includes(new TextDecoder().decode(vocabulary.bytesOf(id))));
    const others = allowed.filter((id) => id !== stopId);
    const token = closing ?? others[Math.floor(random() * others.length)] ?? stopId;
    constraint.accept(token);
    written.push(...(vocabulary.bytesOf(token) ?? []));
  }
  return undefined;
}
