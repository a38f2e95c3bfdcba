/**
 * A mixture from a prompt's label probabilities: the experts of its likeliest labels, each by how likely it is. The per-prompt form of 1bit-Merging's router
 * (arXiv 2502.10743), which chooses one expert and merges the others in.
 */
import { z } from 'zod';
import {
  formatModelName,
  MAX_MIXTURE_TERMS,
  MAX_MIXTURE_WEIGHT,
  type ModelTerm,
  parseExpertReference,
} from '../model-name.ts';

/** Weights are multiples of it: prompts that are much alike share one mixture, and with it batches, prefixes and cached answers. */
const DEFAULT_STEP = 0.05;

export const softMixtureSchema = z
  .strictObject({
    from: z.literal('probabilities'),
    /** Labels that count, the likeliest first. */
    top: z.number().int().min(1).max(MAX_MIXTURE_TERMS).default(2),
    /** Those that are less likely don't. */
    min: z.number().min(0).max(1).default(0.15),
    /** Probabilities are taken to the power 1/temperature: above 1 evens them out, below 1 sharpens them. */
    temperature: z.number().min(0.05).max(20).default(1),
    /** What the weights add up to. */
    total: z.number().positive().max(MAX_MIXTURE_WEIGHT).default(1),
    step: z.number().min(0.01).max(1).default(DEFAULT_STEP),
  })
  .refine(
    ({ total, step }) => Math.abs(total / step - Math.round(total / step)) < 1e-6,
    '`total` is no multiple of `step`',
  );
export type SoftMixture = z.output<typeof softMixtureSchema>;

/**
 * The model's name, its experts in the order of theirs; undefined where no label stands for anything.
 *
 * @param expertOf the expert that a label stands for: `NAME`, `NAME@SELECTOR`, or `base`, whose share weighs nothing.
 */
export function softMixture(
  probabilities: Readonly<Record<string, number>>,
  { top, min, temperature, total, step }: SoftMixture,
  expertOf: (label: string) => string | undefined,
): string | undefined {
  const shares = new Map<string, { readonly term: Term; share: number }>();
  const likely = Object.entries(probabilities)
    .sort(([a, p], [b, q]) => q - p || (a < b ? -1 : 1))
    .slice(0, top)
    // The likeliest always counts: something has to.
    .filter(([, probability], i) => i === 0 || probability >= min);
  const most = likely[0]?.[1] ?? 0;
  for (const [label, probability] of likely) {
    const name = expertOf(label);
    if (name === undefined) continue;
    const term = name === 'base' ? { expert: 'base' } : parseExpertReference(name);
    // By the likeliest: small powers would come to nothing.
    const share = most === 0 ? 1 : (probability / most) ** (1 / temperature);
    const known = shares.get(term.expert);
    if (known === undefined) shares.set(term.expert, { term, share });
    else known.share += share;
  }
  if (shares.size === 0) return undefined;
  const terms = inSteps([...shares.values()], Math.round(total / step))
    .filter(({ term, steps }) => term.expert !== 'base' && steps > 0)
    .map(({ term, steps }) => ({ ...term, weight: rounded(steps * step) }))
    .sort((a, b) => (a.expert < b.expert ? -1 : 1));
  return formatModelName({ kind: 'mixture', terms });
}

type Term = Pick<ModelTerm, 'expert' | 'selector'>;

/** Shares as whole steps that add up to `steps`: each rounded down, what is left to those that lost most by it (the largest remainders). */
function inSteps(
  shares: readonly { readonly term: Term; readonly share: number }[],
  steps: number,
): { readonly term: Term; readonly steps: number }[] {
  const sum = shares.reduce((all, { share }) => all + share, 0);
  const exact = shares.map(({ term, share }) => ({ term, exact: (share / sum) * steps }));
  const left = steps - exact.reduce((all, one) => all + Math.floor(one.exact), 0);
  const remainder = (one: { readonly exact: number }) => one.exact - Math.floor(one.exact);
  return exact
    .toSorted((a, b) => remainder(b) - remainder(a) || (a.term.expert < b.term.expert ? -1 : 1))
    .map((one, i) => ({ term: one.term, steps: Math.floor(one.exact) + (i < left ? 1 : 0) }));
}

/** 0.15 rather than 0.15000000000000002. */
function rounded(weight: number): number {
  return Number(weight.toPrecision(12));
}
