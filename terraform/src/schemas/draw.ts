/**
 * Draws the schemas of what modules use from the packages that have them. The packages are hundreds of megabytes, so they are no dependencies: what is
 * drawn is kept beside, with where it is from.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { Problem } from '@signpost/contracts';
import { z } from 'zod';
import { type Module, nameOf } from '../checks/module.ts';
import { extractSchema } from './extract.ts';
import type { Body, Kind, ProviderSchema } from './schema.ts';

const run = promisify(execFile);

interface Package {
  readonly name: string;
  readonly version: string;
}

/** By the prefix of resources' types. */
const PACKAGES: Readonly<Record<string, Package>> = {
  archive: { name: '@cdktf/provider-archive', version: '11.0.1' },
  aws: { name: '@cdktf/provider-aws', version: '21.22.1' },
  cloudflare: { name: '@cdktf/provider-cloudflare', version: '13.9.1' },
  random: { name: '@cdktf/provider-random', version: '12.0.1' },
};

const manifestSchema = z.looseObject({
  cdktf: z.looseObject({ provider: z.looseObject({ name: z.string(), version: z.string() }) }),
});

/** @throws Problem for a resource that no package, or a package's version, knows. */
export async function drawSchemas(modules: readonly Module[]): Promise<ReadonlyMap<string, ProviderSchema>> {
  const used = new Map<string, Map<string, { readonly kind: Kind; readonly type: string }>>();
  for (const resource of modules.flatMap((module) => module.resources)) {
    const provider = resource.type.slice(0, resource.type.indexOf('_'));
    if (!(provider in PACKAGES))
      throw new Problem(`${nameOf(resource)}: no package is known for the provider "${provider}"`);
    const types = used.get(provider) ?? new Map();
    types.set(`${resource.kind}.${resource.type}`, { kind: resource.kind, type: resource.type });
    used.set(provider, types);
  }
  const drawn = Object.entries(PACKAGES).map(
    async ([provider, source]) =>
      [provider, await drawProvider(provider, source, [...(used.get(provider)?.values() ?? [])])] as const,
  );
  return new Map(await Promise.all(drawn));
}

async function drawProvider(
  provider: string,
  { name, version }: Package,
  types: readonly { readonly kind: Kind; readonly type: string }[],
): Promise<ProviderSchema> {
  const folder = await mkdtemp(path.join(tmpdir(), 'signpost-schemas-'));
  try {
    const { stdout } = await run('npm', ['pack', `${name}@${version}`, '--silent', '--pack-destination', folder]);
    const folderOf = ({ kind, type }: { readonly kind: Kind; readonly type: string }) =>
      `package/lib/${kind === 'data' ? `data-${provider}-` : ''}${type.slice(provider.length + 1).replaceAll('_', '-')}`;
    const wanted = ['package/package.json', ...types.map(folderOf)];
    await run('tar', ['xzf', path.join(folder, stdout.trim()), '-C', folder, ...wanted]).catch((cause: unknown) => {
      throw new Problem(`${name}@${version} lacks one of ${wanted.join(', ')}: is each a resource of this version?`, {
        cause,
      });
    });
    const read = (file: string) => readFile(path.join(folder, file), 'utf8');
    const { cdktf } = manifestSchema.parse(JSON.parse(await read('package/package.json')));
    const bodies: Record<Kind, Record<string, Body>> = { resource: {}, data: {} };
    for (const used of [...types].sort((a, b) => (a.type < b.type ? -1 : 1))) {
      const from = folderOf(used);
      bodies[used.kind][used.type] = extractSchema({
        types: await read(`${from}/index.d.ts`),
        code: await read(`${from}/index.js`),
      });
    }
    return {
      from: `${name}@${version}`,
      provider: cdktf.provider.name.replace(/^registry\.terraform\.io\//, ''),
      version: cdktf.provider.version,
      ...bodies,
    };
  } finally {
    await rm(folder, { recursive: true });
  }
}
