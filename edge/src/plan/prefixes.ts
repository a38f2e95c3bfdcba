/**
 * Which region has the beginning of a prompt in its prefix cache: those that answered a prompt with the same beginning, by this model, a while ago. So a
 * conversation comes back to where it was, as long as that is worth it: what is cached there is prefill that is spared, no more.
 *
 * Known to one isolate, from what it sent where; a guess, since regions evict as they must. Prompts are kept as hashes alone.
 */
import { FNV_OFFSET, fnv1a } from '@signpost/contracts';

/** A mark each so many characters: some blocks of the regions' KV caches. Shorter prompts are not worth a way. */
const MARK_CHARS = 1_024;
/** What is longer is taken to be cached as far as this. */
const MAX_MARKS_OF_PROMPT = 64;
/** Some hundred long conversations. */
const MAX_MARKS = 20_000;
/** Regions are taken to have evicted what was asked for longer ago. */
const MAX_AGE_MS = 10 * 60_000;

/** Of a prompt's beginnings, shortest first. */
export type Marks = readonly number[];

/**
 * @param owner what the cache is kept apart by: the model with its versions, and the tenant, so that nobody learns from the plan what others ask.
 * @param text all that is read before the first token, in an order in which a conversation only grows at its end.
 */
export function marksOf(owner: string, text: string): Marks {
  const marks: number[] = [];
  const count = Math.min(Math.floor(text.length / MARK_CHARS), MAX_MARKS_OF_PROMPT);
  if (count === 0) return marks;
  const hash = new RunningHash();
  hash.add(owner, 0, owner.length);
  for (let i = 0; i < count; i++) {
    hash.add(text, i * MARK_CHARS, (i + 1) * MARK_CHARS);
    marks.push(hash.value);
  }
  return marks;
}

/** Two hashes of 32 bits at once: FNV-1a, and one that adds. Good enough for a guess; nothing is served by it. */
class RunningHash {
  #a = FNV_OFFSET;
  #b = 0x9dc5811c;

  add(text: string, start: number, end: number): void {
    let [a, b] = [this.#a, this.#b];
    for (let i = start; i < end; i++) {
      const unit = text.charCodeAt(i);
      a = fnv1a(a, unit);
      b = Math.imul(b + unit, 0x85ebca6b);
    }
    this.#a = a;
    this.#b = b;
  }

  /** Of both together the 53 bits that a number holds. */
  get value(): number {
    return (this.#a >>> 0) * 2 ** 21 + (this.#b >>> 11);
  }
}

export class PrefixMemory {
  readonly #now: () => number;
  /** By mark, least recently used first: region → when it last read that. */
  readonly #regions = new Map<number, Map<string, number>>();

  /** @param now milliseconds since the epoch */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Region → characters of the prompt's beginning that it may have cached; undefined where none has. */
  cachedChars(marks: Marks): ReadonlyMap<string, number> | undefined {
    let cached: Map<string, number> | undefined;
    const since = this.#now() - MAX_AGE_MS;
    for (let i = marks.length - 1; i >= 0; i--) {
      for (const [region, at] of this.#regions.get(marks[i] ?? 0) ?? []) {
        if (at < since) continue;
        cached ??= new Map();
        if (!cached.has(region)) cached.set(region, (i + 1) * MARK_CHARS);
      }
    }
    return cached;
  }

  /** A region has read the prompt. */
  served(marks: Marks, region: string): void {
    const now = this.#now();
    for (const mark of marks) {
      const regions = this.#regions.get(mark) ?? new Map<string, number>();
      regions.set(region, now);
      this.#regions.delete(mark);
      this.#regions.set(mark, regions);
    }
    for (const mark of this.#regions.keys()) {
      if (this.#regions.size <= MAX_MARKS) return;
      this.#regions.delete(mark);
    }
  }
}
