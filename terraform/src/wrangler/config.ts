/**
 * The Worker's configuration for a fleet: wrangler.toml, with the names and ids of what Terraform made in place of those for this machine.
 */
import { Problem, parseWith } from '@signpost/contracts';
import { parse } from 'smol-toml';
import { z } from 'zod';
import type { WranglerOutput } from './outputs.ts';

const bindingsSchema = z.array(z.looseObject({ binding: z.string() }));

/** What is changed; the rest goes through as it is. */
const configSchema = z.looseObject({
  name: z.string(),
  workers_dev: z.boolean().optional(),
  kv_namespaces: bindingsSchema,
  r2_buckets: bindingsSchema,
  queues: z.looseObject({
    producers: bindingsSchema,
    consumers: z.array(z.looseObject({ queue: z.string() })),
  }),
  vars: z.record(z.string(), z.unknown()),
});

/**
 * @param toml text of wrangler.toml
 * @throws Problem for one that lacks a binding that Terraform makes something for.
 */
export function wranglerConfig(toml: string, output: WranglerOutput): Record<string, unknown> {
  const config = parseWith(configSchema, parse(toml), 'wrangler.toml');
  const queue = queueOf(config.queues.producers, 'SHADOWS');
  return {
    ...config,
    name: output.name,
    account_id: output.account_id,
    workers_dev: output.workers_dev,
    kv_namespaces: bind(config.kv_namespaces, 'CONFIG', { id: output.config_namespace }),
    r2_buckets: bind(config.r2_buckets, 'ARTIFACTS', { bucket_name: output.artifacts_bucket }),
    queues: {
      ...config.queues,
      producers: bind(config.queues.producers, 'SHADOWS', { queue: output.shadows_queue }),
      consumers: config.queues.consumers.map((consumer) =>
        consumer.queue === queue ? { ...consumer, queue: output.shadows_queue } : consumer,
      ),
    },
    ...(output.analytics_dataset === null
      ? {}
      : { analytics_engine_datasets: [{ binding: 'ANALYTICS', dataset: output.analytics_dataset }] }),
    vars: { ...config.vars, ...output.variables, REGIONS: JSON.stringify(output.regions) },
  };
}

interface Binding {
  readonly binding: string;
  readonly [field: string]: unknown;
}

function bind(bindings: readonly Binding[], name: string, fields: Readonly<Record<string, string>>): Binding[] {
  if (!bindings.some(({ binding }) => binding === name))
    throw new Problem(
      `wrangler.toml has no binding ${name}, for which Terraform made ${Object.values(fields).join(', ')}`,
    );
  return bindings.map((binding) => (binding.binding === name ? { ...binding, ...fields } : binding));
}

/** What the queue is called before. */
function queueOf(producers: readonly Binding[], name: string): unknown {
  return producers.find(({ binding }) => binding === name)?.queue;
}
