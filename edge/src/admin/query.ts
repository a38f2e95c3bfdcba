/**
 * Parameters of the admin API's URLs.
 */
import { ApiError } from '@signpost/contracts';
import type { z } from 'zod';

/** @throws ApiError (400) naming the parameter. */
export function parseQuery<T>(name: string, schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new ApiError('invalid_request_error', 'invalid_value', `${name}: ${parsed.error.issues[0]?.message}`, {
    param: name,
  });
}
