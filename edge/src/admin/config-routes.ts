/**
 * `/admin/config`: the routing rules in force, their versions, and new ones, which are checked and tried on what has been before they take their place.
 */
import { ApiError, parseBody, readText } from '@signpost/contracts';
import { z } from 'zod';
import { type DryRun, dryRun, type RecordedRequest, type RuleSet } from '../config/dry-run.ts';
import type { ConfigPut, ConfigPutResult, ConfigText, ConfigVersion } from '../config/versions.ts';
import { parseRulesText } from '../rules/parse.ts';
import { type RulesInForce, type RulesStore, versionOf } from '../rules/store.ts';
import type { Settings } from '../settings/settings.ts';
import { parseQuery } from './query.ts';
import type { AdminCall, AdminRoute } from './routes.ts';

/** Versions of `routing.yaml`, wherever they are kept. */
export interface ConfigKeeper {
  current(): Promise<ConfigText | undefined>;
  put(put: ConfigPut): Promise<ConfigPutResult>;
  list(limit: number): Promise<readonly ConfigVersion[]>;
  byNumber(number: number): Promise<ConfigText | undefined>;
}

export interface ConfigAdminParts {
  readonly settings: Pick<Settings, 'regions'>;
  readonly rules: RulesStore;
  readonly bundledRules: string;
  readonly config: ConfigKeeper;
  /** The latest requests, the newest first. */
  readonly recorded: (limit: number) => Promise<readonly RecordedRequest[]>;
  readonly now: () => number;
  readonly log: (event: string, fields: Record<string, unknown>) => void;
}

/** Many times the longest rule set; KV would take a hundred times as much. */
const MAX_RULES_BYTES = 256 * 1024;
const MAX_VERSIONS = 1_000;
const DEFAULT_DECISIONS = 500;
const MAX_DECISIONS = 5_000;

const messageSchema = z.string().min(1).max(500);
const rollbackSchema = z.strictObject({ version: z.number().int().min(1), message: messageSchema.optional() });

export function configRoutes(parts: ConfigAdminParts): AdminRoute[] {
  const { config } = parts;
  return [
    { path: '/admin/config', methods: { GET: (call) => show(parts, call), PUT: (call) => put(parts, call) } },
    {
      path: '/admin/config/versions',
      methods: {
        async GET() {
          const versions = await config.list(MAX_VERSIONS);
          return Response.json({ object: 'list', data: versions.map(versionView) });
        },
      },
    },
    {
      path: '/admin/config/versions/:id',
      methods: {
        async GET({ id }) {
          const version = await versionNamed(config, Number(id), id);
          return Response.json({ ...versionView(version), text: version.text });
        },
      },
    },
    { path: '/admin/config/rollback', methods: { POST: (call) => rollBack(parts, call) } },
  ];
}

/** What was written last, and what the isolate that answers has in force: it follows within a minute. */
async function show(parts: ConfigAdminParts, { waitUntil }: AdminCall): Promise<Response> {
  const [current, inForce] = await Promise.all([parts.config.current(), parts.rules.current(waitUntil)]);
  const view = configView(current, inForce, parts);
  return Response.json(view, { headers: { etag: etagOf(view.version) } });
}

function configView(
  current: ConfigText | undefined,
  inForce: RulesInForce,
  { bundledRules, now }: Pick<ConfigAdminParts, 'bundledRules' | 'now'>,
) {
  const isCurrent = current !== undefined && inForce.source === 'kv' && current.sha256.startsWith(inForce.version);
  return {
    object: 'config',
    ...(current === undefined ? BUNDLED : versionView(current)),
    text: current?.text ?? bundledRules,
    in_force: {
      /** Null for a text that was put into KV by hand, and that nobody has asked about since. */
      version: inForce.source === 'bundled' ? 0 : isCurrent ? current.number : (inForce.number ?? null),
      sha256: inForce.version,
      source: inForce.source,
      age_ms: now() - inForce.checkedAt,
      /** Why newer ones are not in force. */
      problem: inForce.problem ?? null,
    },
  };
}
export type ConfigView = ReturnType<typeof configView>;

async function put(parts: ConfigAdminParts, call: AdminCall): Promise<Response> {
  const text = await readText(call.request, MAX_RULES_BYTES);
  const message = new URL(call.request.url).searchParams.get('message') ?? undefined;
  return change(parts, call, text, message === undefined ? undefined : parseQuery('message', messageSchema, message));
}

async function rollBack(parts: ConfigAdminParts, call: AdminCall): Promise<Response> {
  const { version, message } = parseBody(await readText(call.request), rollbackSchema);
  const { text } = await versionNamed(parts.config, version, String(version));
  return change(parts, call, text, message ?? `back to version ${version}`);
}

/**
 * Puts a text in force, or with `?dry_run=1` says what would come of it.
 *
 * @throws Problem (400) naming the rule and field; ApiError (412) where the rules have changed meanwhile, (428) where it isn't said which they are to follow.
 */
async function change(
  parts: ConfigAdminParts,
  { request, by, waitUntil }: AdminCall,
  text: string,
  message: string | undefined,
): Promise<Response> {
  const { settings, config, log } = parts;
  const query = new URL(request.url).searchParams;
  const isDry = query.get('dry_run') === '1';
  const regions = settings.regions.map(({ name }) => name);
  const young = { rules: parseRulesText(text, 'the rules', regions), version: await versionOf(text) };
  const expected = isDry ? 'any' : expectedVersion(request.headers.get('if-match'));
  const current = await config.current();
  const number = current?.number ?? 0;
  if (expected !== 'any' && expected !== number) throw conflict(expected, number);
  const tried = await tryOut(parts, current, young, query.get('decisions'), waitUntil);
  if (isDry)
    return Response.json(changeView('dry_run', number, undefined, tried), { headers: { etag: etagOf(number) } });

  const result = await config.put({ text, expected, by, message });
  if (result.kind === 'conflict') throw conflict(expected === 'any' ? number : expected, result.latest);
  const { kind, version } = result;
  log('config_put', { result: kind, version: version.number, from: number, by });
  return Response.json(changeView(kind, number, version, tried), { headers: { etag: etagOf(version.number) } });
}

function changeView(
  result: 'dry_run' | 'unchanged' | 'written',
  from: number,
  version: ConfigVersion | undefined,
  tried: DryRun | null,
) {
  return {
    object: 'config.change',
    result,
    from,
    ...(version === undefined ? { version: null } : versionView(version)),
    /** Null where past decisions can't be read. */
    would_change: tried,
  };
}
export type ConfigChange = ReturnType<typeof changeView>;

/** What the rules would change, beside those that are there; null where decisions can't be read: that is no reason to keep rules from being mended. */
async function tryOut(
  { rules, settings, recorded, log }: ConfigAdminParts,
  current: ConfigText | undefined,
  young: RuleSet,
  limit: string | null,
  waitUntil: AdminCall['waitUntil'],
): Promise<DryRun | null> {
  const schema = z.coerce.number().int().min(1).max(MAX_DECISIONS);
  const decisions = limit === null ? DEFAULT_DECISIONS : parseQuery('decisions', schema, limit);
  const inForce = await rules.current(waitUntil);
  const old =
    current === undefined
      ? undefined
      : await good(
          current,
          settings.regions.map(({ name }) => name),
        );
  try {
    return dryRun(old ?? inForce, young, await recorded(decisions));
  } catch (error) {
    log('dry_run_failed', { reason: error instanceof Error ? error.message : String(error) });
    return null;
  }
}

/** Undefined for rules that aren't valid: put there by hand, they are not in force. */
async function good({ text }: ConfigText, regions: readonly string[]): Promise<RuleSet | undefined> {
  try {
    return { rules: parseRulesText(text, 'the rules in KV', regions), version: await versionOf(text) };
  } catch {
    return undefined;
  }
}

async function versionNamed(config: ConfigKeeper, number: number, name: string): Promise<ConfigText> {
  const version = Number.isSafeInteger(number) && number > 0 ? await config.byNumber(number) : undefined;
  if (version === undefined)
    throw new ApiError('not_found_error', 'unknown_version', `there is no version ${name.slice(0, 32)} of the rules`);
  return version;
}

/** @throws ApiError (428) without the header, (400) for one that no answer here has given. */
function expectedVersion(header: string | null): number | 'any' {
  if (header === null) {
    throw new ApiError(
      'invalid_request_error',
      'version_required',
      'say which version these rules are to follow: If-Match with the ETag of GET /admin/config, or * for whichever there is',
      { status: 428 },
    );
  }
  if (header.trim() === '*') return 'any';
  const number = /^"(?<number>\d{1,9})"$/.exec(header.trim())?.groups?.number;
  if (number === undefined)
    throw new ApiError(
      'invalid_request_error',
      'invalid_version',
      `If-Match is ${header.slice(0, 64)}, expected * or a version as "7"`,
    );
  return Number(number);
}

function conflict(expected: number, latest: number): ApiError {
  return new ApiError(
    'invalid_request_error',
    'version_conflict',
    `the rules are at version ${latest}, not ${expected}: somebody has changed them; look at theirs (GET /admin/config) and try again`,
    { status: 412 },
  );
}

function etagOf(version: number): string {
  return `"${version}"`;
}

/** Where KV is empty. */
const BUNDLED = { version: 0, sha256: null, at: null, by: null, message: null };

function versionView({ number, sha256, at, by, message }: ConfigVersion) {
  return { version: number, sha256, at: new Date(at).toISOString(), by, message: message ?? null };
}
export type VersionView = ReturnType<typeof versionView>;
