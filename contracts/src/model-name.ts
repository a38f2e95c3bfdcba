/**
 * Model names as apps write them: `base`, `auto`, `math`, `math@stable`, `math@<digest>`, mixtures `math:1+chat:0.3`.
 */
import { expertNameSchema } from './catalogue.ts';
import { Problem } from './problem.ts';

/** One expert of a mixture. */
export interface ModelTerm {
  readonly expert: string;
  /** Channel or digest (prefix) after `@`. */
  readonly selector?: string;
  readonly weight: number;
}

/** `auto` lets the rules choose; otherwise base + Σ weight · expert (no terms: the base alone). */
export type ModelName = { readonly kind: 'auto' } | { readonly kind: 'mixture'; readonly terms: readonly ModelTerm[] };

/** Beyond this many experts in one mixture a merged checkpoint is cheaper to serve. */
export const MAX_MIXTURE_TERMS = 8;
export const MAX_MIXTURE_WEIGHT = 4;

/**
 * Parses a model name.
 *
 * @throws Problem when a name, selector or weight is malformed, or an expert stands twice.
 */
export function parseModelName(text: string): ModelName {
  if (text === 'auto') return { kind: 'auto' };
  if (text === 'base') return { kind: 'mixture', terms: [] };
  const terms = text.split('+').map((part) => parseTerm(part, text));
  if (terms.length > MAX_MIXTURE_TERMS)
    throw new Problem(`model "${text}" mixes ${terms.length} experts; at most ${MAX_MIXTURE_TERMS}`);
  const seen = new Set<string>();
  for (const { expert } of terms) {
    if (seen.has(expert)) throw new Problem(`model "${text}" names expert "${expert}" twice`);
    seen.add(expert);
  }
  return { kind: 'mixture', terms };
}

/**
 * Parses the name of one expert: `NAME`, `NAME@CHANNEL`, `NAME@DIGEST`.
 *
 * @throws Problem when it is malformed, or names something else: the base, a mixture, a weight.
 */
export function parseExpertReference(text: string): Pick<ModelTerm, 'expert' | 'selector'> {
  const model = parseModelName(text);
  const [term, second] = model.kind === 'mixture' ? model.terms : [];
  if (term === undefined || second !== undefined || term.weight !== 1)
    throw new Problem(`"${text}" is no single expert; write NAME, NAME@CHANNEL or NAME@DIGEST`);
  return term;
}

function parseTerm(part: string, whole: string): ModelTerm {
  const groups = /^(?<expert>[^@:]+)(?:@(?<selector>[a-zA-Z0-9._-]+))?(?::(?<weight>[0-9.]+))?$/.exec(part)?.groups;
  const expert = groups?.expert ?? '';
  if (!expertNameSchema.safeParse(expert).success) {
    throw new Problem(
      `model "${whole.slice(0, 200)}" is no model name; write base, auto, NAME, NAME@CHANNEL, NAME@DIGEST, or a mixture NAME:WEIGHT+NAME:WEIGHT`,
    );
  }
  const weight = groups?.weight === undefined ? 1 : Number(groups.weight);
  if (!(weight > 0 && weight <= MAX_MIXTURE_WEIGHT)) {
    throw new Problem(`model "${whole}": the weight of "${expert}" must be above 0 and at most ${MAX_MIXTURE_WEIGHT}`);
  }
  const selector = groups?.selector;
  return selector === undefined ? { expert, weight } : { expert, selector, weight };
}

/** The name a parsed model is written with; `parseModelName` of it gives the same model again. */
export function formatModelName(model: ModelName): string {
  if (model.kind === 'auto') return 'auto';
  if (model.terms.length === 0) return 'base';
  return model.terms
    .map(({ expert, selector, weight }) => {
      const name = selector === undefined ? expert : `${expert}@${selector}`;
      return model.terms.length === 1 && weight === 1 ? name : `${name}:${weight}`;
    })
    .join('+');
}
