/**
 * A decision as response headers.
 */
import type { Routing } from './route.ts';
import type { ChosenModel } from './versions.ts';

/** `x-signpost-*` of a decision. Label and confidence are left out where the prompt has not been classified. */
export function routingHeaders({ classification, rules, decision, resolution }: Routing): Record<string, string> {
  return {
    'x-signpost-classifier': classification.state,
    'x-signpost-rule': decision.rule,
    'x-signpost-rules': rules.version,
    ...('verdict' in classification
      ? {
          'x-signpost-label': classification.verdict.label,
          'x-signpost-confidence': classification.verdict.confidence.toFixed(4),
        }
      : {}),
    ...(resolution.kind === 'serve' ? { 'x-signpost-expert': resolution.model, ...versionHeader(resolution) } : {}),
  };
}

/** `math@stable=<digest>;share=0.1;by=tenant`, comma-separated for a mixture: the versions that the edge chose. What answered is `x-signpost-digest`. */
function versionHeader({ chosen: { versions = [] } }: { readonly chosen: ChosenModel }): Record<string, string> {
  if (versions.length === 0) return {};
  const parts = versions.map(
    ({ expert, selector, version, share, by }) =>
      `${expert}@${selector}=${version.digest};share=${Number(share.toFixed(4))};by=${by}`,
  );
  return { 'x-signpost-version': parts.join(', ') };
}
