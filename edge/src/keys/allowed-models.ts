/**
 * Which models a key may use, as patterns: `*` for all, `base`, `math` for every version and channel of an expert, `math@stable` for that one alone, and
 * `law-*` for all experts whose names begin so. A mixture needs every one of its experts allowed.
 */
import { ApiError, Problem, parseModelName } from '@signpost/contracts';
import { z } from 'zod';

export const modelPatternSchema = z
  .string()
  .regex(
    /^(?:\*|[a-z0-9][a-z0-9._-]{0,63}\*?(?:@[a-zA-Z0-9._-]{1,128})?)$/,
    'expected *, base, NAME, NAME@CHANNEL, NAME@DIGEST, or NAME* for all that begin so',
  );

/** @param model as a region gets it; `auto` and what is no model name are not allowed to anybody. */
export function allowsModel(patterns: readonly string[], model: string): boolean {
  if (patterns.includes('*')) return true;
  try {
    const name = parseModelName(model);
    if (name.kind === 'auto') return false;
    if (name.terms.length === 0) return patterns.includes('base');
    return name.terms.every(({ expert, selector }) => patterns.some((pattern) => matches(pattern, expert, selector)));
  } catch (error) {
    if (error instanceof Problem) return false;
    throw error;
  }
}

function matches(pattern: string, expert: string, selector: string | undefined): boolean {
  const [name = '', wanted] = pattern.split('@');
  if (wanted !== undefined && wanted !== selector) return false;
  return name.endsWith('*') ? expert.startsWith(name.slice(0, -1)) : name === expert;
}

/** Undefined for a model that is allowed. The same for one that there isn't as for one that there is. */
export function refusalOfModel(patterns: readonly string[], model: string): ApiError | undefined {
  if (allowsModel(patterns, model)) return undefined;
  return new ApiError('permission_error', 'model_not_allowed', `this API key may not use the model "${model}"`, {
    param: 'model',
  });
}
