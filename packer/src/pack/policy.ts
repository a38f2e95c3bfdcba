/**
 * Which parameters a delta keeps, and how: decided by name, before anything is read.
 */
import { Problem } from '@signpost/contracts';
import { isLinearWeight } from '@signpost/engine';

/** `1bit`: sign planes; `exact`: the difference itself; `drop`: nothing, the base's stays. */
export const TREATMENTS = ['1bit', 'exact', 'drop'] as const;
export type Treatment = (typeof TREATMENTS)[number];

/** Parameters whose name matches a glob (`*` stands for anything, as in `*.self_attn.*`) are treated so. The first rule that matches decides. */
export interface PolicyRule {
  readonly match: string;
  readonly as: Treatment;
}

const ATTENTION = '*.self_attn.*_proj.weight';
const MLP = '*.mlp.*_proj.weight';

/**
 * Policies by name. Those of 1bit-Merging are the paper's by kind of fine-tune (arXiv 2502.10743): chat models carry their skill in the MLPs' 1-bit
 * differences, math and code models in those of attention, and the other group stays exact.
 */
export const POLICIES: Readonly<Record<string, readonly PolicyRule[]>> = {
  'all-linear': [
    { match: ATTENTION, as: '1bit' },
    { match: MLP, as: '1bit' },
  ],
  attention: [
    { match: ATTENTION, as: '1bit' },
    { match: MLP, as: 'drop' },
  ],
  mlp: [
    { match: ATTENTION, as: 'drop' },
    { match: MLP, as: '1bit' },
  ],
  '1bit-merging/chat': [
    { match: ATTENTION, as: 'exact' },
    { match: MLP, as: '1bit' },
  ],
  '1bit-merging/math': [
    { match: ATTENTION, as: '1bit' },
    { match: MLP, as: 'exact' },
  ],
  '1bit-merging/code': [
    { match: ATTENTION, as: '1bit' },
    { match: MLP, as: 'exact' },
  ],
  '1bit-merging/linear': [
    { match: ATTENTION, as: '1bit' },
    { match: MLP, as: '1bit' },
  ],
};

export const DEFAULT_POLICY = 'all-linear';

/**
 * How parameters are treated by `rules`, and what no rule matches by the default: linear layers 1-bit, whatever else changed exact.
 *
 * @throws Problem for a rule that asks for sign planes of what is no linear layer, once such a parameter is asked for.
 */
export function treatmentOf(rules: readonly PolicyRule[]): (parameter: string) => Treatment {
  const compiled = rules.map(({ match, as }) => ({ match, as, pattern: globPattern(match) }));
  return (parameter) => {
    const rule = compiled.find(({ pattern }) => pattern.test(parameter));
    if (rule === undefined) return isLinearWeight(parameter) ? '1bit' : 'exact';
    if (rule.as === '1bit' && !isLinearWeight(parameter))
      throw new Problem(
        `policy rule "${rule.match}" makes ${parameter} 1-bit, which only linear layers can be; write exact or drop`,
      );
    return rule.as;
  };
}

function globPattern(glob: string): RegExp {
  const parts = glob.split('*').map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`);
}
