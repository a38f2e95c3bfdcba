/**
 * What the examples cost, from prices.json: for the README, which a test holds to this.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { Problem, parseWith } from '@signpost/contracts';
import { z } from 'zod';
import { TERRAFORM_FOLDER } from '../checks/tree.ts';
import { table } from './markdown.ts';

const HOURS = 730;

const pricesSchema = z.looseObject({
  checked: z.iso.date(),
  prices: z.record(z.string(), z.looseObject({ usd: z.number(), what: z.string() })),
});
type Prices = z.infer<typeof pricesSchema>;

export async function readPrices(): Promise<Prices> {
  return parseWith(
    pricesSchema,
    JSON.parse(await readFile(path.join(TERRAFORM_FOLDER, 'prices.json'), 'utf8')),
    'prices.json',
  );
}

interface Line {
  readonly what: string;
  /** The sum, as one would type it. */
  readonly arithmetic: string;
  readonly usd: number;
}

interface Sum {
  readonly count: number;
  readonly price: string;
  readonly times?: number;
}

/** Lines of a region that runs nothing, and what each hour of a container adds. */
function regionCosts(prices: Prices): { readonly idle: readonly Line[]; readonly hour: readonly Line[] } {
  return {
    idle: [
      line(prices, 'NAT gateway', [{ count: HOURS, price: 'aws.nat.hour' }]),
      line(prices, 'its public address', [{ count: HOURS, price: 'ec2.public-ipv4.hour' }]),
      line(prices, 'six secrets', [{ count: 6, price: 'secretsmanager.secret-month' }]),
      // Three read one metric, two calculate with three and two, and target tracking makes one of its own with two.
      line(prices, 'ten metrics that alarms read', [{ count: 10, price: 'cloudwatch.alarm-month' }]),
    ],
    hour: [
      line(prices, 'g6.2xlarge', [{ count: 1, price: 'ec2.g6.2xlarge.hour' }]),
      line(prices, "Managed Instances' share of it (estimated: AWS tells it by type in its console)", [
        { count: priceOf(prices, 'ec2.g6.2xlarge.hour'), price: 'ecs.managed-instances.share' },
      ]),
      line(prices, '100 GiB of disk', [{ count: 100 / HOURS, price: 'ebs.gp3.gb-month' }]),
      line(prices, 'four metrics', [{ count: 4 / HOURS, price: 'cloudwatch.metric-month' }]),
    ],
  };
}

/** A function's second at its full memory, and what a thousand answers of ten seconds cost. */
function functionCosts(prices: Prices): readonly Line[] {
  return [
    line(prices, 'a thousand answers of ten seconds, 10,240 MB', [
      { count: 1000, times: 10 * 10, price: 'lambda.gb-second' },
      { count: 0.001, price: 'lambda.million-requests' },
    ]),
  ];
}

function priceOf({ prices }: Prices, name: string): number {
  const found = prices[name];
  if (found === undefined) throw new Problem(`prices.json has no "${name}"`);
  return found.usd;
}

function line(prices: Prices, what: string, sums: readonly Sum[]): Line {
  const terms = sums.map(({ count, price, times = 1 }) => ({ factor: count * times, usd: priceOf(prices, price) }));
  return {
    what,
    arithmetic: terms.map(({ factor, usd }) => `${short(factor)} × ${String(usd)}`).join(' + '),
    usd: terms.reduce((sum, { factor, usd }) => sum + factor * usd, 0),
  };
}

function short(value: number): string {
  return Number.isInteger(value) ? value.toLocaleString('en') : value.toPrecision(3);
}

/** The README's tables of costs. */
export function costTables(prices: Prices): string {
  const { idle, hour } = regionCosts(prices);
  const rows = (lines: readonly Line[], digits: number) =>
    lines.map(({ what, arithmetic, usd }) => [what, arithmetic, usd.toFixed(digits)]);
  const total = (lines: readonly Line[]) => lines.reduce((sum, { usd }) => sum + usd, 0);
  const month = total(idle) + HOURS * total(hour);
  return [
    `List prices of ${prices.checked} in \`prices.json\`, US dollars, us-east-1, without taxes, free tiers or discounts; Europe and Asia are 5 to 30 % dearer.\n`,
    table(
      ['a region, whether it runs or not', 'a month', '$'],
      [...rows(idle, 2), ['together', '', total(idle).toFixed(2)]],
    ),
    table(['each hour of a container', 'an hour', '$'], [...rows(hour, 3), ['together', '', total(hour).toFixed(3)]]),
    table(
      ['so', '', '$ a month'],
      [
        ['`one-region`, nobody asks', 'the first table', total(idle).toFixed(0)],
        [
          '`one-region`, one container, four hours a day',
          `… + 122 × ${total(hour).toFixed(3)}`,
          (total(idle) + 122 * total(hour)).toFixed(0),
        ],
        ['a region with one container, always', `… + 730 × ${total(hour).toFixed(3)}`, month.toFixed(0)],
        ['`three-regions`, one container each', 'three times that', (3 * month).toFixed(0)],
        ...functionCosts(prices).map(({ what, arithmetic, usd }) => [
          `\`lambda-only\`: ${what}`,
          arithmetic,
          usd.toFixed(2),
        ]),
        ['`lambda-only`, nobody asks', 'its images and objects', '0'],
      ],
    ),
    `Beside that: Cloudflare's paid plan (${priceOf(prices, 'workers.month')} a month, once), stored objects (${priceOf(prices, 'r2.storage.gb-month')} a GB in R2, ${priceOf(prices, 's3.standard.gb-month')} in each mirror, ${priceOf(prices, 'ecr.gb-month')} for images), what goes through the NAT gateway (${priceOf(prices, 'aws.nat.gb')} a GB: R2, and images that aren't in ECR) and out to the internet (${priceOf(prices, 'aws.egress.gb')} a GB: the answers), and logs (${priceOf(prices, 'cloudwatch.logs.gb')} a GB).`,
  ].join('\n');
}
