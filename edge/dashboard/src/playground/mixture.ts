/**
 * Model names for what sliders say: `base`, `math`, `math:1+chat:0.3`.
 */

/** Weights by expert; 0 leaves one out. As `MAX_MIXTURE_WEIGHT` of the contracts bounds them. */
export type Weights = Readonly<Record<string, number>>;

/** As the edge writes them: one expert at full weight is its name alone, none is the base. */
export function mixtureName(weights: Weights): string {
  const terms = Object.entries(weights)
    .map(([expert, weight]) => [expert, Math.round(weight * 100) / 100] as const)
    .filter(([, weight]) => weight > 0);
  const [only] = terms;
  if (only === undefined) return 'base';
  if (terms.length === 1 && only[1] === 1) return only[0];
  return terms.map(([expert, weight]) => `${expert}:${weight}`).join('+');
}

/** Experts that can be mixed, of the models that the edge lists: no base, no channels, no mixtures. */
export function mixableExperts(models: readonly string[]): string[] {
  return models.filter((id) => id !== 'base' && id !== 'auto' && !/[@:+]/.test(id));
}
