import { ApiError } from '@signpost/contracts';

/** The error for what only the operator can mend. */
export function misconfigured(message: string): ApiError {
  return new ApiError('server_error', 'misconfigured', `this Signpost edge is misconfigured: ${message}`);
}
