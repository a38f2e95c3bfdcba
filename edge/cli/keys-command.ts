/**
 * `signpost keys create|list|show|revoke`.
 */
import { type Command, InvalidArgumentError } from 'commander';
import type { standingView } from '../src/keys/limit-headers.ts';
import type { KeyView } from '../src/keys/record.ts';
import { type AdminFlags, adminCommand, callAdmin } from './admin-client.ts';
import { table } from './table.ts';
import { timeAhead } from './time.ts';

interface CreateFlags extends AdminFlags {
  readonly tenant: string;
  readonly name?: string;
  readonly models?: string[];
  readonly requestsPerMinute?: number;
  readonly tokensPerDay?: number;
  readonly concurrency?: number;
  readonly expires?: string;
  readonly near?: string;
}

export function createKeyCommand(): Command {
  return adminCommand('create')
    .description('make an API key; prints it, this once')
    .requiredOption('--tenant <tenant>', 'whose it is, for rules and accounts')
    .option('--name <name>', 'what it is for')
    .option('--models <patterns>', 'what it may use, by commas: base, math, math@stable, law-* (default: all)', list)
    .option('--requests-per-minute <n>', 'in any sixty seconds (default: no limit)', whole)
    .option('--tokens-per-day <n>', 'of prompts and answers, by UTC days (default: no limit)', whole)
    .option('--concurrency <n>', 'answers under way at once (default: no limit)', whole)
    .option('--expires <when>', 'after so long (90d, 12h, 30m) or at a time (2027-01-31T00:00:00Z)', timeAhead)
    .option('--near <place>', 'where it is used: wnam enam sam weur eeur apac oc afr me (default: here)')
    .action(async (flags: CreateFlags) => {
      const { tenant, name, models, concurrency, near } = flags;
      const created = await callAdmin<KeyView & { readonly key: string }>(flags, {
        method: 'POST',
        path: 'keys',
        body: {
          tenant,
          name,
          models,
          requests_per_minute: flags.requestsPerMinute,
          tokens_per_day: flags.tokensPerDay,
          concurrency,
          expires_at: flags.expires,
          near,
        },
      });
      if (flags.json) return console.log(JSON.stringify(created));
      // The key alone on standard output, so that it can go straight into a file.
      console.log(created.key);
      console.error(`key ${created.id} of ${created.tenant}. It is kept nowhere and not shown again.`);
    });
}

export function listKeysCommand(): Command {
  return adminCommand('list')
    .description('the keys there are, revoked ones included')
    .action(async (flags: AdminFlags) => {
      const { data } = await callAdmin<{ readonly data: readonly KeyView[] }>(flags, { method: 'GET', path: 'keys' });
      if (flags.json) return console.log(JSON.stringify(data));
      const head = ['id', 'name', 'tenant', 'models', 'requests/min', 'tokens/day', 'at once', 'created', 'state'];
      console.log(table([head, ...data.map(row)]));
    });
}

export function showKeyCommand(): Command {
  return adminCommand('show')
    .description('one key, and how it stands against its limits')
    .argument('<id>', 'as list has it')
    .action(async (id: string, flags: AdminFlags) => {
      const key = await callAdmin<KeyView & { readonly limits: ReturnType<typeof standingView> | null }>(flags, {
        method: 'GET',
        path: `keys/${encodeURIComponent(id)}`,
      });
      if (flags.json) return console.log(JSON.stringify(key));
      const left = Object.entries(key.limits ?? {}).flatMap(([name, of]) =>
        of === null ? [] : [[name, `${of.remaining} of ${of.limit} left`]],
      );
      const of = Object.entries(key).flatMap(([name, value]) =>
        value === null || name === 'limits' || name === 'object' || left.some(([limit]) => limit === name)
          ? []
          : [[name, String(value)]],
      );
      console.log(table([...of, ...left]));
    });
}

export function revokeKeyCommand(): Command {
  return adminCommand('revoke')
    .description('refuse a key from now on; answers under way go to their end')
    .argument('<id>', 'as list has it')
    .action(async (id: string, flags: AdminFlags) => {
      const key = await callAdmin<KeyView>(flags, { method: 'DELETE', path: `keys/${encodeURIComponent(id)}` });
      console.log(
        flags.json
          ? JSON.stringify(key)
          : `key ${key.id} (${key.name}, ${key.tenant}) is revoked since ${key.revoked_at}`,
      );
    });
}

function row(key: KeyView): string[] {
  const limit = (value: number | null) => (value === null ? '-' : String(value));
  return [
    key.id,
    key.name,
    key.tenant,
    key.models.join(','),
    limit(key.requests_per_minute),
    limit(key.tokens_per_day),
    limit(key.concurrency),
    key.created_at?.slice(0, 10) ?? '',
    stateOf(key, Date.now()),
  ];
}

function stateOf({ revoked_at: revoked, expires_at: expires }: KeyView, now: number): string {
  if (revoked !== null) return `revoked ${revoked.slice(0, 10)}`;
  if (expires === null) return 'good';
  return Date.parse(expires) <= now ? 'expired' : `good until ${expires.slice(0, 16)}Z`;
}

function list(text: string): string[] {
  return text.split(',').map((part) => part.trim());
}

function whole(text: string): number {
  const digits = text.replace(/_/g, '');
  if (!/^[1-9]\d{0,11}$/.test(digits)) throw new InvalidArgumentError('expected a whole number above 0');
  return Number(digits);
}
