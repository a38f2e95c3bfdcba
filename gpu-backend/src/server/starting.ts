/**
 * What a region answers while its base is being loaded: alive, not ready.
 */
import { ApiError } from '@signpost/contracts';
import type { FetchHandler } from './http-server.ts';

export const answerStarting: FetchHandler = (request) => {
  switch (new URL(request.url).pathname) {
    case '/health/live':
      return Response.json({ status: 'live' });
    case '/health/ready':
      return Response.json({ status: 'starting' }, { status: 503 });
    default:
      return new ApiError('server_error', 'starting', 'this region is still loading its base', {
        status: 503,
      }).toResponse({ 'retry-after': '1' });
  }
};
