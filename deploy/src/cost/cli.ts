/**
 * `npm run cost`: what a fleet costs in a month, beside a dedicated endpoint for each fine-tune.
 */
import { Problem } from '@signpost/contracts';
import { Command, InvalidArgumentError, Option } from 'commander';
import { type Cost, FLEET_DEFAULTS, type Fleet, INSTANCES, monthlyCost, WEIGHT_BYTES } from './model.ts';
import { readPrices } from './prices.ts';

const number = (text: string): number => {
  const value = Number(text);
  if (text.trim() === '' || Number.isNaN(value)) throw new InvalidArgumentError('expected a number');
  return value;
};

const program = new Command('cost')
  .description('What a fleet costs in a month, beside a dedicated endpoint for each fine-tune')
  .option('--base-billion <n>', "the base's weights, in billions", number, FLEET_DEFAULTS.baseBillion)
  .option('--experts <n>', 'fine-tunes', number, FLEET_DEFAULTS.experts)
  .option('--regions <n>', 'regions', number, FLEET_DEFAULTS.regions)
  .option('--replicas <n>', 'containers of each region, a GPU each', number, FLEET_DEFAULTS.replicas)
  .addOption(
    new Option('--instance <type>', 'what they run on')
      .choices(Object.keys(INSTANCES))
      .default(FLEET_DEFAULTS.instance),
  )
  .addOption(
    new Option('--weights <format>', 'how the base is held')
      .choices(Object.keys(WEIGHT_BYTES))
      .default(FLEET_DEFAULTS.weights),
  )
  .option('--busy <share>', 'share of the month that they run, 0 to 1', number, FLEET_DEFAULTS.busy)
  .option('--million-requests <n>', 'requests in a month, in millions', number, FLEET_DEFAULTS.millionRequests)
  .option('--answer-kb <n>', "an answer's size", number, FLEET_DEFAULTS.answerKb)
  .option('--json', 'print the result as JSON', false)
  .action(({ json, ...fleet }: Fleet & { readonly json: boolean }) => {
    const prices = readPrices();
    const cost = monthlyCost(fleet, prices);
    console.log(json ? JSON.stringify(cost) : describe(fleet, cost, prices.checked, prices.sources()));
  });

const dollars = (usd: number) => usd.toLocaleString('en-US', { minimumFractionDigits: 2, maximumFractionDigits: 2 });

function describe(fleet: Fleet, cost: Cost, checked: string, sources: readonly string[]): string {
  const { baseGb, expertGb, slots } = cost.sizes;
  const rows = [
    ...cost.lines.map(({ what, how, usd }) => [what, dollars(usd), how]),
    ['together', dollars(cost.usd), `${fleet.experts} fine-tunes in ${fleet.regions} regions`],
    ['', '', ''],
    ['dedicated', dollars(cost.dedicatedUsd), `${fleet.experts} endpoints of the same GPU, in one region`],
    ['', dollars(cost.dedicatedUsd * fleet.regions), `the same in ${fleet.regions} regions`],
  ];
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return [
    `base ${baseGb.toFixed(1)} GB in memory (${fleet.weights}), an expert ${expertGb.toFixed(2)} GB, ${Math.min(slots, fleet.experts)} of ${fleet.experts} in a GPU's memory at once`,
    '',
    ...rows.map(([what = '', usd = '', how = '']) =>
      `${what.padEnd(widths[0] ?? 0)}  ${usd.padStart(widths[1] ?? 0)}  ${how}`.trimEnd(),
    ),
    '',
    `1 : ${(cost.dedicatedUsd / cost.usd).toFixed(1)} of the endpoints in one region. Both cost the same with ${cost.breakEvenReplicas} containers in each region: where the load needs`,
    'more, this is not the cheaper way. How many tokens a GPU makes is not in here.',
    '',
    `USD a month, list prices of ${checked} (~: estimated):`,
    ...sources.map((source) => `  ${source}`),
  ].join('\n');
}

try {
  program.parse();
} catch (error) {
  if (!(error instanceof Problem)) throw error;
  console.error(`cost: ${error.message}`);
  process.exitCode = 1;
}
