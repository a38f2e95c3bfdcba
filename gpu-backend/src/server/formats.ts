/**
 * What a request holds its answer to, as a grammar.
 */
import { ApiError, type GenerationFields, Problem } from '@signpost/contracts';
import { type GrammarSpec, grammarRule } from '@signpost/engine';

/** The format that a request's fields ask for; undefined for any text. @throws ApiError (400) naming the field and what in it isn't supported. */
export function requestedFormat(fields: GenerationFields): GrammarSpec | undefined {
  const { response_format: format, guided_json, guided_regex, guided_choice } = fields;
  if (format?.type === 'json_object') return { kind: 'json' };
  if (format?.type === 'json_schema') {
    const { schema } = format.json_schema;
    return schema == null ? { kind: 'json' } : checked({ kind: 'schema', schema }, 'response_format');
  }
  if (guided_json != null) return checked({ kind: 'schema', schema: jsonOf(guided_json) }, 'guided_json');
  if (guided_regex != null) return checked({ kind: 'regex', pattern: guided_regex }, 'guided_regex');
  if (guided_choice != null) return checked({ kind: 'choice', choices: guided_choice }, 'guided_choice');
  return undefined;
}

/** The format, if it can be kept. @throws ApiError (400) where it can't. */
export function checked(spec: GrammarSpec, param: string): GrammarSpec {
  try {
    grammarRule(spec);
    return spec;
  } catch (cause) {
    if (!(cause instanceof Problem)) throw cause;
    throw new ApiError('invalid_request_error', 'unsupported_format', `${param}: ${cause.message}`, { param, cause });
  }
}

function jsonOf(given: unknown): unknown {
  if (typeof given !== 'string') return given;
  try {
    return JSON.parse(given);
  } catch (cause) {
    throw new ApiError('invalid_request_error', 'invalid_value', 'guided_json: is no JSON', {
      param: 'guided_json',
      cause,
    });
  }
}
