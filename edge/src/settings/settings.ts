/**
 * The Worker's configuration: variables and secrets as text, checked once an isolate.
 *
 * A mistake in them is an operator's to mend: it is answered as a 500 with code `misconfigured` that names the variable, never by
 * serving with a guess (in particular, never by leaving the door open).
 */
import { digestSchema, Problem, parseWith, type RegionKeys, regionKeys } from '@signpost/contracts';
import { z } from 'zod';
import type { RecordOptions } from '../accounts/record.ts';
import { type Region, regionsSchema } from '../plan/regions.ts';
import { isLoopback } from './loopback.ts';
import { misconfigured } from './misconfigured.ts';
import { readRegionSecrets } from './region-secrets.ts';

/** Variables and secrets, as Cloudflare hands them over. */
export interface Variables {
  /** JSON list of regions, see `plan/regions.ts`. */
  readonly REGIONS?: string;
  /** Secret shared with the regions, at least 32 bytes. Regions on this machine may do without. */
  readonly REGION_SECRET?: string;
  /** JSON object: sha256 of an API key (hex) → tenant. */
  readonly API_KEY_HASHES?: string;
  /** JSON object: sha256 of an administrator's key (hex) → who it is. Without it there is no admin API. */
  readonly ADMIN_KEY_HASHES?: string;
  /** "refuse" or "admit": requests whose API key's object can't be reached. */
  readonly KEY_UNREACHABLE?: string;
  /** "true" serves requests without a key. */
  readonly ALLOW_ANONYMOUS?: string;
  /** Public keys in PEM, one after the other, that the catalogue in R2 is to be signed with; none takes any. */
  readonly CATALOGUE_KEYS?: string;
  /** JSON list of sha256 of keys (hex) that may read `/metrics`; without it there are none. */
  readonly METRICS_KEY_HASHES?: string;
  /** Share of requests that are recorded, from 0 to 1. */
  readonly DECISIONS_SAMPLE?: string;
  /** "false" writes no record to the log. */
  readonly LOG_DECISIONS?: string;
  /** "true" puts prompts into records. */
  readonly RECORD_PROMPTS?: string;
  readonly CONNECT_TIMEOUT_MS?: string;
  readonly FIRST_TOKEN_TIMEOUT_MS?: string;
  readonly ANSWER_TIMEOUT_MS?: string;
  readonly IDLE_TIMEOUT_MS?: string;
  readonly KEEP_ALIVE_MS?: string;
  readonly WAKE_TIMEOUT_MS?: string;
}

export interface Timeouts {
  /** From a streamed request to a region until its first sign of life: a region that lives begins its answer within ten seconds, if with a comment. */
  readonly connectMs: number;
  /** From a streamed request to a region until its first event with data. */
  readonly firstTokenMs: number;
  /** From a request that isn't streamed until its answer's last byte. */
  readonly answerMs: number;
  /** Between two chunks of an answer. */
  readonly idleMs: number;
  /** How often an app that waits for a streamed answer hears something. */
  readonly keepAliveMs: number;
  /** A streamed request for which no region is awake waits so long for one. */
  readonly wakeMs: number;
}

export interface Settings {
  readonly regions: readonly Region[];
  /** Undefined: requests go out unsigned, to loopback regions only. */
  readonly signingKey: Uint8Array | undefined;
  /** What regions' heartbeats may be signed with: that key, and one more while the secret is being changed. */
  readonly acceptedKeys: readonly Uint8Array[];
  /** Those that regions name, by name. */
  readonly secrets: ReadonlyMap<string, string>;
  /** Tenant by sha256 of the API key. */
  readonly tenants: ReadonlyMap<string, string>;
  /** Name by sha256 of an administrator's key. */
  readonly administrators: ReadonlyMap<string, string>;
  readonly whenKeyUnreachable: 'refuse' | 'admit';
  readonly anonymous: 'allowed' | 'refused';
  /** Public keys (SPKI) that the catalogue is to be signed with. */
  readonly catalogueKeys: readonly Uint8Array[];
  readonly timeouts: Timeouts;
  /** sha256 of keys that may read the metrics. */
  readonly metricsKeys: readonly string[];
  readonly records: RecordOptions & { readonly log: 'written' | 'left out' };
}

/** @throws ApiError (500, `misconfigured`) naming the variable. */
export function readSettings(variables: Variables): Settings {
  const regions = parseVariable('REGIONS', regionsSchema, variables.REGIONS);
  const tenants = readHashes('API_KEY_HASHES', variables.API_KEY_HASHES);
  const administrators = readHashes('ADMIN_KEY_HASHES', variables.ADMIN_KEY_HASHES);
  if ([...administrators.keys()].some((hash) => tenants.has(hash)))
    throw misconfigured(
      'a key is both in ADMIN_KEY_HASHES and in API_KEY_HASHES; administrators need keys of their own',
    );
  const anonymous = variables.ALLOW_ANONYMOUS === 'true' ? 'allowed' : 'refused';
  if (tenants.size === 0 && administrators.size === 0 && anonymous === 'refused') {
    throw misconfigured(
      'nobody may use it: set the secret ADMIN_KEY_HASHES to {"<sha256 of a key>": "<who>"} and create API keys with it, or API_KEY_HASHES to {"<sha256 of a key>": "<tenant>"}, or ALLOW_ANONYMOUS="true" to serve everyone',
    );
  }
  const keys = variables.REGION_SECRET === undefined ? undefined : readSecret(variables.REGION_SECRET);
  const remote = regions.find(needsSignature);
  if (keys === undefined && remote !== undefined) {
    const where = remote.kind === 'lambda' ? 'AWS Lambda' : remote.url;
    throw misconfigured(
      `region "${remote.name}" (${where}) is not on this machine, so requests to it must be signed: set the secret REGION_SECRET`,
    );
  }
  return {
    regions,
    signingKey: keys?.signing,
    acceptedKeys: keys?.accepted ?? [],
    secrets: readRegionSecrets(regions, variables),
    tenants,
    administrators,
    whenKeyUnreachable: readChoice('KEY_UNREACHABLE', variables.KEY_UNREACHABLE, ['refuse', 'admit']),
    anonymous,
    catalogueKeys: readKeys(variables.CATALOGUE_KEYS ?? ''),
    timeouts: {
      connectMs: readMilliseconds('CONNECT_TIMEOUT_MS', variables.CONNECT_TIMEOUT_MS, 15_000),
      firstTokenMs: readMilliseconds('FIRST_TOKEN_TIMEOUT_MS', variables.FIRST_TOKEN_TIMEOUT_MS, 60_000),
      answerMs: readMilliseconds('ANSWER_TIMEOUT_MS', variables.ANSWER_TIMEOUT_MS, 120_000),
      idleMs: readMilliseconds('IDLE_TIMEOUT_MS', variables.IDLE_TIMEOUT_MS, 30_000),
      keepAliveMs: readMilliseconds('KEEP_ALIVE_MS', variables.KEEP_ALIVE_MS, 10_000),
      wakeMs: readMilliseconds('WAKE_TIMEOUT_MS', variables.WAKE_TIMEOUT_MS, 300_000),
    },
    metricsKeys:
      variables.METRICS_KEY_HASHES === undefined
        ? []
        : parseVariable('METRICS_KEY_HASHES', z.array(digestSchema).min(1), variables.METRICS_KEY_HASHES),
    records: {
      sample: readShare('DECISIONS_SAMPLE', variables.DECISIONS_SAMPLE),
      prompts: variables.RECORD_PROMPTS === 'true' ? 'recorded' : 'left out',
      log: variables.LOG_DECISIONS === 'false' ? 'left out' : 'written',
    },
  };
}

const hashesSchema = z.record(digestSchema, z.string().min(1).max(256));

function readHashes(name: string, text: string | undefined): Map<string, string> {
  return new Map(text === undefined ? [] : Object.entries(parseVariable(name, hashesSchema, text)));
}

/** The first where nothing is set. */
function readChoice<T extends string>(name: string, text: string | undefined, choices: readonly [T, ...T[]]): T {
  const choice = text === undefined ? choices[0] : choices.find((one) => one === text);
  if (choice === undefined)
    throw misconfigured(`the variable ${name} is "${text}", expected ${choices.map((one) => `"${one}"`).join(' or ')}`);
  return choice;
}

function parseVariable<T>(name: string, schema: z.ZodType<T>, text: string | undefined): T {
  if (text === undefined || text === '') throw misconfigured(`the variable ${name} is not set`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw misconfigured(`the variable ${name} is not JSON`);
  }
  try {
    return parseWith(schema, value, `the variable ${name}`);
  } catch (error) {
    throw error instanceof Problem ? misconfigured(error.message) : error;
  }
}

function readSecret(secret: string): RegionKeys {
  try {
    return regionKeys(secret);
  } catch (error) {
    throw misconfigured(error instanceof Error ? error.message : String(error));
  }
}

function readKeys(pem: string): Uint8Array[] {
  const keys = [...pem.matchAll(/-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----/g)];
  if (keys.length === 0 && pem.trim() !== '')
    throw misconfigured('the variable CATALOGUE_KEYS holds no public key in PEM, as signpost-packer keygen writes it');
  return keys.map(([, base64 = '']) =>
    Uint8Array.from(atob(base64.replace(/\s/g, '')), (character) => character.charCodeAt(0)),
  );
}

function readMilliseconds(name: string, text: string | undefined, fallback: number): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw misconfigured(`the variable ${name} is "${text}", expected whole milliseconds above 0`);
  return value;
}

/** Strangers have keys of their own. */
function needsSignature(region: Region): boolean {
  return region.kind === 'lambda' || (region.kind !== 'openai' && !isLoopback(region.url));
}

/** 1 where it is left out. */
function readShare(name: string, text: string | undefined): number {
  if (text === undefined) return 1;
  const value = Number(text);
  if (text.trim() === '' || !(value >= 0 && value <= 1))
    throw misconfigured(`the variable ${name} is "${text}", expected a share from 0 to 1`);
  return value;
}
