/**
 * The calculator's arithmetic, against sums written out by hand, and what it says to what makes no sense.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { FLEET_DEFAULTS, type Fleet, monthlyCost } from './model.ts';
import { readPrices } from './prices.ts';

const price = (usd: number) => ({ usd, what: 'x', source: 'https://prices.example' });
const prices = () =>
  readPrices(
    JSON.stringify({
      currency: 'USD',
      checked: '2026-01-01',
      note: '',
      prices: {
        'ec2.g6.xlarge.hour': price(1),
        'ecs.managed-instances.share': price(0.1),
        'ec2.public-ipv4.hour': price(0.01),
        's3.standard.gb-month': price(0.02),
        'r2.storage.gb-month': price(0.01),
        'aws.egress.gb': price(0.1),
        'workers.month': price(5),
        'workers.million-requests': price(0.3),
        'workers.million-cpu-ms': price(0.02),
        'durable-objects.million-requests': price(0.15),
        'endpoint.l4.hour': price(2),
      },
    }),
  );
const cost = (fleet: Partial<Fleet> = {}) => monthlyCost({ ...FLEET_DEFAULTS, ...fleet }, prices());

it('adds up', () => {
  const { lines, usd, dedicatedUsd, sizes, breakEvenReplicas } = cost({ millionRequests: 100 });
  // 7 billion weights of 2 bytes; 21 GB for base and experts.
  expect(sizes).toEqual({ baseGb: 14, expertGb: 14 / 18.6, slots: 9 });
  const amounts = Object.fromEntries(lines.map((line) => [line.what, line.usd]));
  expect(amounts.GPUs).toBeCloseTo(3 * 730, 6);
  expect(amounts['managed instances']).toBeCloseTo(219, 6);
  expect(amounts.addresses).toBeCloseTo(21.9, 6);
  expect(amounts.files).toBeCloseTo((14 + (30 * 14) / 18.6) * (0.01 + 3 * 0.02), 6);
  expect(amounts.answers).toBeCloseTo(400 * 0.1, 6);
  expect(amounts.edge).toBeCloseTo(5 + 90 * 0.3 + 20 * 0.02 + 99 * 0.15, 6);
  expect(usd).toBeCloseTo(
    lines.reduce((sum, line) => sum + line.usd, 0),
    6,
  );
  expect(dedicatedUsd).toBe(30 * 730 * 2);
  // With that many containers it is cheaper, with one more it isn't.
  expect(cost({ millionRequests: 100, replicas: breakEvenReplicas }).usd).toBeLessThanOrEqual(dedicatedUsd);
  expect(cost({ millionRequests: 100, replicas: breakEvenReplicas + 1 }).usd).toBeGreaterThan(dedicatedUsd);
});

it('a smaller base leaves room for more experts, and a sleeping region costs its files', () => {
  expect(cost({ weights: 'q4' }).sizes.slots).toBeGreaterThan(cost().sizes.slots);
  const [asleep, awake] = [cost({ busy: 0.25 }), cost()];
  expect(asleep.lines[0]?.usd).toBeCloseTo((awake.lines[0]?.usd ?? 0) / 4, 6);
  expect(asleep.lines[3]).toEqual(awake.lines[3]);
});

describe('what can’t be', () => {
  it.each([
    [{ experts: 0 }, 'experts is 0; expected a whole number, 1 or more'],
    [{ regions: 1.5 }, 'regions is 1.5'],
    [{ baseBillion: -7 }, 'the base has -7 billion weights'],
    [{ busy: 1.2 }, 'busy is 1.2'],
    [{ millionRequests: Number.POSITIVE_INFINITY }, 'millionRequests is Infinity'],
    [
      { baseBillion: 13 },
      'takes 26.0 GB, and an expert 1.4; g6.xlarge has 24 GB, 3 of them for KV cache and driver: take a larger one, or --weights q8',
    ],
  ])('%j', (fleet, message) => {
    expect(() => cost(fleet)).toThrow(message);
  });

  it('a price that isn’t in the list', () => {
    expect(() => cost({ instance: 'g5.xlarge' })).toThrow(/has no price "ec2.g5.xlarge.hour"; known: /);
  });
});

it('the command prints a table with its sources, and one line where a number is none', () => {
  const run = (...args: string[]) =>
    spawnSync(process.execPath, ['--import', 'tsx', join(import.meta.dirname, 'cli.ts'), ...args], {
      encoding: 'utf8',
    });
  const good = run('--base-billion', '7', '--experts', '30', '--regions', '3');
  expect(good.status).toBe(0);
  expect(good.stdout).toMatch(/^together +[\d,]+\.\d\d +30 fine-tunes in 3 regions$/m);
  expect(good.stdout).toMatch(/endpoint\.l4\.hour 0\.8 .*https:/);
  expect(run('--experts', 'many').stderr).toContain("argument 'many' is invalid. expected a number");
  const bad = run('--base-billion', '70');
  expect([bad.status, bad.stderr]).toEqual([1, expect.stringMatching(/^cost: a base of 70 billion weights/)]);
});
