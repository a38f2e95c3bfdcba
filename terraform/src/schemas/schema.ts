/**
 * What providers' resources take and give, as far as it is used here: schemas/*.json, drawn by `npm run schemas -w @signpost/terraform` from the bindings that
 * CDK for Terraform generated of the providers' own schemas.
 */
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { parseWith } from '@signpost/contracts';
import { z } from 'zod';

export const SCHEMAS_FOLDER = path.resolve(import.meta.dirname, '../../schemas');

/** A type as Terraform writes it: `string`, `list(string)`. */
const typeSchema = z.string().regex(/^(string|number|bool|any|(list|map)\((string|number|bool|any)\))$/);

export interface Body {
  readonly attributes: Readonly<Record<string, Attribute>>;
  readonly blocks?: Readonly<Record<string, Block>> | undefined;
}

/** An argument with `=`, or what is known of a resource once it is there. */
export interface Attribute {
  /** Left out where it is nested. */
  readonly type?: string | undefined;
  /** Objects with attributes of their own. */
  readonly nested?: { readonly nesting: 'single' | 'list' | 'map'; readonly body: Body } | undefined;
  /** Must be given, may be, or can't be: it is told by the provider. */
  readonly use: 'required' | 'optional' | 'computed';
}

/** An argument without `=`. */
export interface Block {
  readonly nesting: 'single' | 'list';
  readonly use: 'required' | 'optional';
  readonly body: Body;
}

const bodySchema: z.ZodType<Body> = z.lazy(() =>
  z.strictObject({
    attributes: z.record(z.string(), attributeSchema),
    blocks: z.record(z.string(), blockSchema).optional(),
  }),
);
const attributeSchema: z.ZodType<Attribute> = z.lazy(() =>
  z.strictObject({
    type: typeSchema.optional(),
    nested: z.strictObject({ nesting: z.enum(['single', 'list', 'map']), body: bodySchema }).optional(),
    use: z.enum(['required', 'optional', 'computed']),
  }),
);
const blockSchema: z.ZodType<Block> = z.lazy(() =>
  z.strictObject({ nesting: z.enum(['single', 'list']), use: z.enum(['required', 'optional']), body: bodySchema }),
);

const providerSchema = z.strictObject({
  /** The package that it was drawn from: `@cdktf/provider-aws@21.22.1`. */
  from: z.string(),
  /** `hashicorp/aws`. */
  provider: z.string(),
  /** Of the provider. */
  version: z.string(),
  resource: z.record(z.string(), bodySchema),
  data: z.record(z.string(), bodySchema),
});
export type ProviderSchema = z.infer<typeof providerSchema>;
export type Kind = 'resource' | 'data';

/** All providers' resources and data sources, by their types. */
export interface Schemas {
  readonly providers: readonly ProviderSchema[];
  find(kind: Kind, type: string): Body | undefined;
}

export async function readSchemas(folder = SCHEMAS_FOLDER): Promise<Schemas> {
  const names = (await readdir(folder)).filter((name) => name.endsWith('.json')).sort();
  const providers = await Promise.all(
    names.map(async (name) =>
      parseWith(providerSchema, JSON.parse(await readFile(path.join(folder, name), 'utf8')), name),
    ),
  );
  return {
    providers,
    find: (kind, type) => providers.map((provider) => provider[kind][type]).find((body) => body !== undefined),
  };
}
