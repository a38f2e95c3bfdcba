/**
 * A decision as response headers.
 */
import type { Routing } from './route.ts';

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
    ...(resolution.kind === 'serve' ? { 'x-signpost-expert': resolution.model } : {}),
  };
}
