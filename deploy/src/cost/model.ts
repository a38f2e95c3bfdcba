/**
 * What a fleet costs in a month, beside a dedicated endpoint for each fine-tune. Arithmetic on list prices: nothing is said of how many tokens a GPU makes.
 */
import { Problem } from '@signpost/contracts';
import type { Prices } from './prices.ts';

/** As AWS and Hugging Face count a month. */
const HOURS = 730;
const GB = 1e9;

/** Bytes of a weight as the base is held in memory (docs/kernels.md). */
export const WEIGHT_BYTES = { bf16: 2, q8: 1.0625, q4: 0.5625 } as const;
type Weights = keyof typeof WEIGHT_BYTES;

/** A base in BF16, in expert files of one plane: measured on the 360M shape (docs/engine.md). Larger models' are a little smaller, their scales being fewer. */
const EXPERTS_IN_A_BASE = 18.6;

/** KV cache, activations and the driver: what can hold neither base nor experts. */
const RESERVED_GB = 3;

/** A request's share of the edge: its own, heartbeats and batches of records beside it; CPU as budgeted (docs/edge.md). */
const EDGE_CPU_MS = 0.5;

export const INSTANCES = {
  'g6.xlarge': { memoryGb: 24, endpoint: 'endpoint.l4.hour' },
  'g5.xlarge': { memoryGb: 24, endpoint: 'endpoint.a10g.hour' },
  'g6e.xlarge': { memoryGb: 48, endpoint: 'endpoint.l40s.hour' },
} as const;
type Instance = keyof typeof INSTANCES;

export interface Fleet {
  readonly baseBillion: number;
  readonly experts: number;
  readonly regions: number;
  /** Containers of each region, a GPU each. */
  readonly replicas: number;
  readonly instance: Instance;
  readonly weights: Weights;
  /** Share of the month that they run: a region may sleep. */
  readonly busy: number;
  readonly millionRequests: number;
  /** Bytes of a request and its answer, which leave the region. */
  readonly answerKb: number;
}

export const FLEET_DEFAULTS: Fleet = {
  baseBillion: 7,
  experts: 30,
  regions: 3,
  replicas: 1,
  instance: 'g6.xlarge',
  weights: 'bf16',
  busy: 1,
  millionRequests: 1,
  answerKb: 4,
};

interface CostLine {
  readonly what: string;
  readonly how: string;
  readonly usd: number;
}

export interface Cost {
  /** Bytes of the base and of an expert, in GB, and how many experts a GPU holds beside the base. */
  readonly sizes: { readonly baseGb: number; readonly expertGb: number; readonly slots: number };
  readonly lines: readonly CostLine[];
  readonly usd: number;
  /** One endpoint for each expert, in one place. */
  readonly dedicatedUsd: number;
  /** Containers of each region at which the fleet would cost as much as those. */
  readonly breakEvenReplicas: number;
}

/** @throws Problem for a fleet that couldn't be: a count below one, a base that the GPU hasn't room for. */
export function monthlyCost(fleet: Fleet, prices: Prices): Cost {
  check(fleet);
  const { baseBillion, experts, regions, replicas, instance, weights, busy, millionRequests, answerKb } = fleet;
  const { memoryGb, endpoint } = INSTANCES[instance];
  const storedGb = (baseBillion * 1e9 * WEIGHT_BYTES.bf16) / GB;
  const baseGb = (baseBillion * 1e9 * WEIGHT_BYTES[weights]) / GB;
  const expertGb = storedGb / EXPERTS_IN_A_BASE;
  const slots = Math.floor((memoryGb - RESERVED_GB - baseGb) / expertGb);
  if (slots < 1)
    throw new Problem(
      `a base of ${baseBillion} billion weights in ${weights} takes ${baseGb.toFixed(1)} GB, and an expert ${expertGb.toFixed(1)}; ${instance} has ${memoryGb} GB, ${RESERVED_GB} of them for KV cache and driver: take a larger one, or --weights q8 or q4`,
    );
  const hourly = prices.price(`ec2.${instance}.hour`);
  const share = prices.price('ecs.managed-instances.share');
  const address = prices.price('ec2.public-ipv4.hour');
  const hours = HOURS * busy * regions * replicas;
  const filesGb = storedGb + experts * expertGb;
  const egressGb = millionRequests * answerKb;
  const beyond = (have: number, free: number) => Math.max(0, have - free);
  const lines: CostLine[] = [
    {
      what: 'GPUs',
      how: `${regions} × ${replicas} ${instance}, ${(busy * 100).toFixed(0)} % of ${HOURS} h at ${hourly}`,
      usd: hours * hourly,
    },
    { what: 'managed instances', how: `${(share * 100).toFixed(0)} % of that`, usd: hours * hourly * share },
    { what: 'addresses', how: `${regions} × ${replicas}, at ${address}`, usd: hours * address },
    {
      what: 'files',
      how: `${filesGb.toFixed(1)} GB in R2, and mirrored in S3 of ${regions} regions`,
      usd: filesGb * (prices.price('r2.storage.gb-month') + regions * prices.price('s3.standard.gb-month')),
    },
    {
      what: 'answers',
      how: `${egressGb.toFixed(1)} GB leave the regions`,
      usd: egressGb * prices.price('aws.egress.gb'),
    },
    {
      what: 'edge',
      how: `${millionRequests} million requests, ${EDGE_CPU_MS} ms of CPU each`,
      usd:
        prices.price('workers.month') +
        beyond(millionRequests, 10) * prices.price('workers.million-requests') +
        beyond(millionRequests * EDGE_CPU_MS, 30) * prices.price('workers.million-cpu-ms') +
        beyond(millionRequests, 1) * prices.price('durable-objects.million-requests'),
    },
  ];
  const usd = lines.reduce((sum, line) => sum + line.usd, 0);
  const dedicatedUsd = experts * HOURS * busy * prices.price(endpoint);
  const perReplica = HOURS * busy * regions * (hourly * (1 + share) + address);
  return {
    sizes: { baseGb, expertGb, slots },
    lines,
    usd,
    dedicatedUsd,
    breakEvenReplicas: Math.floor(replicas + (dedicatedUsd - usd) / perReplica),
  };
}

function check(fleet: Fleet): void {
  for (const name of ['experts', 'regions', 'replicas'] as const)
    if (!Number.isInteger(fleet[name]) || fleet[name] < 1)
      throw new Problem(`${name} is ${fleet[name]}; expected a whole number, 1 or more`);
  if (!(fleet.baseBillion > 0 && fleet.baseBillion <= 1000))
    throw new Problem(`the base has ${fleet.baseBillion} billion weights; expected a number above 0, 1000 at most`);
  if (!(fleet.busy > 0 && fleet.busy <= 1))
    throw new Problem(`busy is ${fleet.busy}; expected a share above 0, 1 at most`);
  for (const name of ['millionRequests', 'answerKb'] as const)
    if (!(fleet[name] >= 0 && Number.isFinite(fleet[name])))
      throw new Problem(`${name} is ${fleet[name]}; expected 0 or more`);
}
