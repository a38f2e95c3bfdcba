/**
 * `routing.yaml` in KV: its text and, where the admin API wrote it, its version's number.
 */
import { RULES_KEY, type RulesText } from '../rules/store.ts';

interface VersionMetadata {
  readonly version: number;
}

/** @param cacheSeconds how old a copy may be; Cloudflare takes 30 and more. */
export async function readConfig(kv: KVNamespace, cacheSeconds: number): Promise<RulesText | undefined> {
  const { value, metadata } = await kv.getWithMetadata<VersionMetadata>(RULES_KEY, {
    type: 'text',
    cacheTtl: cacheSeconds,
  });
  if (value === null) return undefined;
  return { text: value, number: typeof metadata?.version === 'number' ? metadata.version : undefined };
}

export async function writeConfig(kv: KVNamespace, text: string, number: number): Promise<void> {
  await kv.put(RULES_KEY, text, { metadata: { version: number } satisfies VersionMetadata });
}
