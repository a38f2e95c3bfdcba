/**
 * Errors on their way from the engine's thread to the other.
 */
import { ApiError } from '@signpost/contracts';
import type { SerialisedError } from './protocol.ts';

export function serialise(error: unknown): SerialisedError {
  const { type, code, message, status, param, cause } = ApiError.from(error);
  const detail = cause instanceof Error ? (cause.stack ?? cause.message) : message;
  return { type, code, message, status, param, detail };
}

export function revive({ type, code, message, status, param, detail }: SerialisedError): ApiError {
  const cause = new Error(detail);
  return new ApiError(type, code, message, param === null ? { status, cause } : { status, param, cause });
}
