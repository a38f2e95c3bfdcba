/**
 * `POST` of a region's heartbeat.
 */
import {
  ApiError,
  HEARTBEAT_AUDIENCE,
  HEARTBEAT_PATH,
  type Heartbeat,
  heartbeatSchema,
  parseBody,
  readText,
  SeenTokens,
  verifyRequest,
} from '@signpost/contracts';
import type { Settings } from '../settings/settings.ts';

export interface HeartbeatParts {
  readonly settings: Settings;
  /** Takes what a region says; false where it has said something newer. */
  readonly hear: (beat: Heartbeat) => Promise<boolean>;
}

/** @returns what answers a heartbeat: that throws ApiError (401) where it isn't signed, (400) where it is none, or of no region of this edge's. */
export function heartbeatListener({ settings, hear }: HeartbeatParts): (request: Request) => Promise<Response> {
  const seen = new SeenTokens();
  return async (request) => {
    const body = await readText(request);
    if (settings.signingKey !== undefined) {
      const signed = { region: HEARTBEAT_AUDIENCE, method: request.method, path: HEARTBEAT_PATH, body };
      await verifyRequest(settings.acceptedKeys, request.headers.get('authorization'), signed, seen);
    }
    const beat = parseBody(body, heartbeatSchema);
    const known = settings.regions.map(({ name }) => name);
    if (!known.includes(beat.region)) {
      throw new ApiError(
        'invalid_request_error',
        'unknown_region',
        `this edge has no region "${beat.region}"; the variable REGIONS has ${known.join(', ')}`,
      );
    }
    return Response.json({ heard: await hear(beat) });
  };
}
