/**
 * What `terraform output -json` says of a fleet, as far as wrangler is told it.
 */
import { Problem, parseWith } from '@signpost/contracts';
import { z } from 'zod';

const wranglerSchema = z.strictObject({
  name: z.string(),
  account_id: z.string(),
  workers_dev: z.boolean(),
  config_namespace: z.string(),
  artifacts_bucket: z.string(),
  shadows_queue: z.string(),
  analytics_dataset: z.string().nullable(),
  variables: z.record(z.string(), z.string()),
  /** Entries of REGIONS: the Worker looks at them when it starts. */
  regions: z.array(z.looseObject({ name: z.string() })).min(1, 'needs at least one region'),
});
export type WranglerOutput = z.infer<typeof wranglerSchema>;

const outputsSchema = z.looseObject({
  wrangler: z.looseObject({ value: wranglerSchema }),
  wrangler_secrets: z.looseObject({ value: z.record(z.string(), z.string()) }),
});

export interface Outputs {
  readonly wrangler: WranglerOutput;
  readonly secrets: Readonly<Record<string, string>>;
}

/** @throws Problem for a text that isn't from `terraform output -json`, or of a fleet without these outputs. */
export function parseOutputs(text: string): Outputs {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new Problem('the outputs are no JSON: pipe `terraform output -json` here', { cause });
  }
  const { wrangler, wrangler_secrets: secrets } = parseWith(outputsSchema, json, 'terraform output -json');
  return { wrangler: wrangler.value, secrets: secrets.value };
}
