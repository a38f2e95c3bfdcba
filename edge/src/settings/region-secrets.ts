/**
 * Secrets that regions name (`"keySecret": "VLLM_KEY"`): values stay out of REGIONS, which anybody who may read the Worker's variables sees.
 */
import { type Region, secretsOf, wakeHook } from '../plan/regions.ts';
import { isLoopback } from './loopback.ts';
import { misconfigured } from './misconfigured.ts';
import type { Variables } from './settings.ts';

/** @throws ApiError (500, `misconfigured`) for one that isn't set, or that would go over the network for everyone to read. */
export function readRegionSecrets(regions: readonly Region[], variables: Variables): ReadonlyMap<string, string> {
  const values = variables as Readonly<Record<string, unknown>>;
  const secrets = new Map<string, string>();
  for (const region of regions) {
    for (const name of secretsOf(region)) {
      const value = Object.hasOwn(values, name) ? values[name] : undefined;
      if (typeof value !== 'string' || value === '')
        throw misconfigured(
          `region "${region.name}" names the secret ${name}, which is not set: npx wrangler secret put ${name}`,
        );
      // A line end would be refused with the header, in every request.
      if (!/^[\x21-\x7e]+$/.test(value))
        throw misconfigured(`the secret ${name} of region "${region.name}" has blanks or line ends in it`);
      secrets.set(name, value);
    }
    for (const { url, secret } of keyedUrls(region)) {
      if (secret !== undefined && url.startsWith('http:') && !isLoopback(url))
        throw misconfigured(
          `region "${region.name}" would send the secret ${secret} to ${url} unencrypted; give an https URL`,
        );
    }
  }
  return secrets;
}

function keyedUrls(region: Region): readonly { readonly url: string; readonly secret?: string | undefined }[] {
  const hook = wakeHook(region);
  return [
    ...(region.kind === 'openai' ? [{ url: region.url, secret: region.keySecret }] : []),
    ...(hook === undefined ? [] : [hook]),
  ];
}
