/**
 * What each expert and mixture answers, in each version, while all is well.
 */
import { type Catalogue, parseModelName } from '@signpost/contracts';
import { ask, type Question } from './traffic.ts';

const AT_ONCE = 8;
const TIMEOUT_MS = 60_000;

/** By what gave them. */
export class Answers {
  readonly #texts = new Map<string, string>();

  record(model: string, digests: string, question: Question, text: string): void {
    this.#texts.set(keyOf(model, digests, question), text);
  }

  of(model: string, digests: string, question: Question): string | undefined {
    return this.#texts.get(keyOf(model, digests, question));
  }
}

/** By content, as caches should go, and by the weights, which only the name has. */
function keyOf(model: string, digests: string, question: Question): string {
  const name = parseModelName(model);
  const weights = name.kind === 'mixture' ? name.terms.map(({ weight }) => weight) : [];
  return JSON.stringify([digests, weights, question]);
}

export interface Asked {
  /** Each part with the digest of its version. */
  readonly model: string;
  readonly question: Question;
}

/** The model's name with a digest for each of its parts, in each combination of their versions. */
export function exactNames(model: string, { experts }: Catalogue): string[] {
  const name = parseModelName(model);
  if (name.kind === 'auto') return [];
  const parts = name.terms.map(({ expert, weight }) =>
    (experts[expert]?.versions ?? []).map(({ digest }) => `${expert}@${digest}:${weight}`),
  );
  const [first = ['base'], ...others] = parts;
  return others.reduce((names, part) => names.flatMap((before) => part.map((term) => `${before}+${term}`)), first);
}

/**
 * Asks a healthy region.
 *
 * @throws Error for an answer that there is twice: who gives it could stand in for another, and nobody would notice.
 */
export async function recordAnswers(url: string, asked: Iterable<Asked>): Promise<Answers> {
  const answers = new Answers();
  const askers = new Map<string, string>();
  const next = asked[Symbol.iterator]();
  const work = async () => {
    for (let one = next.next(); one.done !== true; one = next.next()) {
      const { model, question } = one.value;
      const outcome = await ask(url, { model, question, stream: false, timeoutMs: TIMEOUT_MS });
      if (outcome.kind !== 'answered') throw new Error(`${model} is ${JSON.stringify(outcome)} in a healthy region`);
      const other = askers.get(outcome.text);
      if (other !== undefined) throw new Error(`${model} and ${other} both answer ${outcome.text}`);
      askers.set(outcome.text, model);
      answers.record(model, outcome.digests, question, outcome.text);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return answers;
}
