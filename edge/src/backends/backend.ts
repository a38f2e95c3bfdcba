/**
 * Kinds of regions: how each is spoken to. Everything else — time limits, what counts as a failure, hedging, breakers, going on elsewhere — is the same for all of them
 * (see `forward/`).
 */
import type { UpstreamRequest } from '../forward/upstream.ts';
import type { Region } from '../plan/regions.ts';
import { sendHttp } from './http.ts';
import { sendLambda } from './lambda.ts';
import { sendOpenai } from './openai.ts';

/** What backends need of the settings. */
export interface BackendSecrets {
  /** Undefined: requests go out unsigned, to loopback regions only. */
  readonly signingKey: Uint8Array | undefined;
  /** Those that regions name, by name. */
  readonly secrets: ReadonlyMap<string, string>;
}

/**
 * Sends a request: the answer as soon as its status is known, whatever that is.
 *
 * @throws Error when the region can't be reached, or doesn't let us in; the `signal`'s reason when it aborts.
 */
export async function send(
  request: UpstreamRequest,
  region: Region,
  using: BackendSecrets,
  signal: AbortSignal,
): Promise<Response> {
  switch (region.kind) {
    case undefined:
    case 'http':
      return sendHttp(request, region, using, signal);
    case 'openai':
      return sendOpenai(request, region, using, signal);
    case 'lambda':
      return sendLambda(request, region, using, signal);
    default:
      throw new Error(`no such kind of region: ${JSON.stringify(region satisfies never)}`);
  }
}

/** Whether a region that lives says so within seconds, if only with a comment: strangers may be silent until their first token, and a Lambda function while it starts. */
export function showsLifeEarly({ kind }: Region): boolean {
  return kind === undefined || kind === 'http';
}

export function secretNamed(name: string, { secrets }: BackendSecrets): string {
  const secret = secrets.get(name);
  // Checked when the settings were read.
  if (secret === undefined) throw new Error(`the secret ${name} is not set`);
  return secret;
}
