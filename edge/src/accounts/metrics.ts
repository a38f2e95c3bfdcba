/**
 * `GET /metrics`: what all isolates have counted. With keys of its own (METRICS_KEY_HASHES): a scraper needs no others, and no app needs these.
 */
import { ApiError, bearerHash, equalInConstantTime } from '@signpost/contracts';
import type { Settings } from '../settings/settings.ts';
import { EXPOSITION_TYPE } from './exposition.ts';

/** @throws ApiError (404) where no such key is set, (401) for any other. */
export async function answerMetrics(
  request: Request,
  { metricsKeys }: Pick<Settings, 'metricsKeys'>,
  metrics: () => Promise<string>,
): Promise<Response> {
  if (metricsKeys.length === 0) {
    throw new ApiError(
      'not_found_error',
      'metrics_off',
      'metrics are off: set the secret METRICS_KEY_HASHES to turn them on',
    );
  }
  const hash = await bearerHash(request.headers.get('authorization') ?? '');
  // All are looked at, whether or not one matched.
  const matches = metricsKeys.filter((known) => hash !== undefined && equalInConstantTime(known, hash));
  if (matches.length === 0)
    throw new ApiError(
      'authentication_error',
      'invalid_metrics_key',
      'send one of the keys for metrics as "Authorization: Bearer <key>"',
    );
  return new Response(await metrics(), { headers: { 'content-type': EXPOSITION_TYPE } });
}
