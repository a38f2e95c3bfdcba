/**
 * Whether an answer may be given again, and to which requests: only where the very same tokens would be made anew. So temperature 0, asked for in so many words; one
 * choice of plain text; and versions known by digest.
 */
import type { CacheRule, Heartbeat } from '@signpost/contracts';
import { type Ask, upstreamFields } from '../ask/ask.ts';
import { isOurs } from '../plan/regions.ts';
import type { ServedResolution } from '../route/route.ts';
import { digestsOf } from '../route/versions.ts';

/** What of an answer a request's fields and experts make up. */
export interface Cacheable {
  readonly kind: 'cacheable';
  /** Everything that the answer depends on; what is equal in it is answered alike. */
  readonly material: string;
  /** What `x-signpost-digest` says where just the chosen versions answered; undefined for the base. */
  readonly digests: string | undefined;
  readonly rule: CacheRule;
}

export type Cacheability =
  | Cacheable
  | { readonly kind: 'bypass'; readonly why: string }
  /** The rule keeps no answers. */
  | { readonly kind: 'off' };

/** Raised when what is kept, or what it is kept by, changes. */
const FORMAT = 1;

/** What says how an answer is told, who asks and which numbers would be drawn, but not what is said. */
const WITHOUT_EFFECT = new Set(['model', 'stream', 'stream_options', 'user', 'metadata', 'store', 'seed']);

export function cacheability(
  ask: Ask,
  tenant: string | undefined,
  { cache: rule, chosen, changes, plan }: ServedResolution,
  headers: { get(name: string): string | null },
  beats: readonly { readonly beat: Pick<Heartbeat, 'base'> }[],
): Cacheability {
  if (rule === undefined) return { kind: 'off' };
  const why = drawnOrOther(ask.body) ?? refusedByApp(headers);
  if (why !== undefined) return { kind: 'bypass', why };
  // What one of those calls by this name isn't told by any digest.
  if (!plan.every(({ region }) => isOurs(region)))
    return { kind: 'bypass', why: 'a server that is not ours may answer it' };
  const { versions } = chosen;
  if (versions === undefined) return { kind: 'bypass', why: 'the catalogue does not say which version answers' };
  const bases = new Set(versions.length > 0 ? versions.map(({ version }) => version.base) : beats.map(baseOf));
  if (bases.size !== 1)
    return {
      kind: 'bypass',
      why: bases.size === 0 ? 'no region has said which base it has' : 'regions differ in their base',
    };
  const fields = Object.entries(upstreamFields(ask, chosen.name, changes))
    .filter(([name, value]) => !WITHOUT_EFFECT.has(name) && value !== undefined && value !== null)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  const experts = versions.map(({ version, weight }) => [version.digest, weight]);
  return {
    kind: 'cacheable',
    // Below the fields order counts: a schema's is that of the answer's members.
    material: JSON.stringify([FORMAT, ask.path, [...bases], experts, rule.shared ? null : [tenant ?? null], fields]),
    digests: versions.length === 0 ? undefined : digestsOf(versions),
    rule,
  };
}

function baseOf({ beat }: { readonly beat: Pick<Heartbeat, 'base'> }): string {
  return beat.base;
}

function drawnOrOther(body: Readonly<Record<string, unknown>>): string | undefined {
  if (body.temperature !== 0) return 'only what asks for temperature 0 is always the same';
  if ((body.n ?? 1) !== 1) return 'it asks for several choices';
  if (Array.isArray(body.prompt) && !body.prompt.every((part) => typeof part === 'number'))
    return 'it has a list of prompts';
  if (Array.isArray(body.tools) && body.tools.length > 0) return 'it has tools';
  const told = ['logprobs', 'top_logprobs', 'echo', 'return_token_ids', 'resume_token_ids'].find(
    (name) => body[name] !== undefined && body[name] !== null && body[name] !== false,
  );
  return told === undefined ? undefined : `it asks for more than text: ${told}`;
}

function refusedByApp(headers: { get(name: string): string | null }): string | undefined {
  const asked = /\bno-(?:cache|store)\b/.exec(headers.get('cache-control') ?? '');
  return asked === null ? undefined : `the app asks for an answer of its own: cache-control: ${asked[0]}`;
}
