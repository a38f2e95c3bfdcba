/**
 * Which folder a region will load, as far as can be told before its flags are parsed and its catalogue is read. A guess: a wrong one costs the disk's time and a core's, and nothing else.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { WHOLE_FILE } from './whole-file.ts';

const STORED = 'store:';

/** Undefined where the base is yet to be fetched, or several are there. */
export function likelyBase(
  args: readonly string[],
  { SIGNPOST_BASE, SIGNPOST_BASE_CACHE }: Readonly<Record<string, string | undefined>>,
): string | undefined {
  const base = flag(args, '--base') ?? SIGNPOST_BASE;
  if (base === undefined || !base.startsWith(STORED)) return base;
  const cache = flag(args, '--base-cache') ?? SIGNPOST_BASE_CACHE;
  const [only, ...others] = cache === undefined ? [] : wholeBases(cache);
  return others.length === 0 ? only : undefined;
}

function flag(args: readonly string[], name: string): string | undefined {
  const joined = args.findLast((arg) => arg.startsWith(`${name}=`));
  if (joined !== undefined) return joined.slice(name.length + 1);
  const at = args.lastIndexOf(name);
  return at < 0 ? undefined : args[at + 1];
}

function wholeBases(cache: string): string[] {
  try {
    return readdirSync(cache)
      .map((name) => join(cache, name))
      .filter((dir) => existsSync(join(dir, WHOLE_FILE)));
  } catch {
    return [];
  }
}
