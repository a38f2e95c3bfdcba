/**
 * Errors on their way from the engine's thread to the other.
 */
import { ApiError } from '@signpost/contracts';
import { DeviceLost } from '@signpost/engine';
import type { SerialisedError } from './protocol.ts';

export function serialise(error: unknown): SerialisedError {
  const { type, code, message, status, param, cause } =
    error instanceof DeviceLost ? engineGone(error) : ApiError.from(error);
  const detail = cause instanceof Error ? (cause.stack ?? cause.message) : message;
  return { type, code, message, status, param, detail };
}

export function revive({ type, code, message, status, param, detail }: SerialisedError): ApiError {
  const cause = new Error(detail);
  return new ApiError(type, code, message, param === null ? { status, cause } : { status, param, cause });
}

/** What whoever waits for the engine is told once it is gone, and with it what it was computing. */
export function engineGone(cause: Error): ApiError {
  return new ApiError(
    'server_error',
    'engine_gone',
    'the engine of this region has stopped; another region may answer',
    { status: 503, cause },
  );
}
