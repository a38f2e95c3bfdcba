/**
 * Whatever a request failed with, as its answer.
 */
import { ApiError } from '@signpost/contracts';

/** An error that is ours to mend goes to the log. */
export function answerError(
  error: unknown,
  request: Request,
  requestId: string,
  log: (event: string, fields: Record<string, unknown>) => void,
): { readonly response: Response; readonly error: ApiError } {
  const apiError = ApiError.from(error);
  // Nobody is there to read it.
  if (request.signal.aborted) return { response: new Response(null, { status: 499 }), error: apiError };
  if (apiError.status >= 500)
    log('request_failed', { requestId, code: apiError.code, reason: String(apiError.cause ?? apiError.message) });
  return { response: apiError.toResponse(), error: apiError };
}
