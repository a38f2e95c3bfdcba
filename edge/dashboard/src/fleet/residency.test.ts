import type { Digest } from '@signpost/contracts';
import { expect, it } from 'vitest';
import type { CatalogueView, RegionView, ReplicaView } from '../api/types.ts';
import { channelsOf, residencyRows, standingOf } from './residency.ts';

const [A, B, C] = ['a', 'b', 'c'].map((letter) => letter.repeat(64) as Digest) as [Digest, Digest, Digest];

function container(experts: Partial<ReplicaView['experts']>, more: Partial<ReplicaView> = {}): ReplicaView {
  return {
    replica: 'r',
    heard_ms_ago: 1,
    base: C,
    draining: false,
    running: 0,
    waiting: 0,
    queued_tokens: 0,
    prefill_tokens_per_second: null,
    kv_blocks: 1,
    kv_blocks_free: 1,
    slots: 1,
    slots_free: 1,
    page_in_bytes_per_second: { host: null, store: null },
    ...more,
    experts: { device: [], host: [], loading: [], ...experts },
  };
}

function region(name: string, replicas: ReplicaView[], more: Partial<RegionView> = {}): RegionView {
  return {
    name,
    kind: 'http',
    role: 'regular',
    breaker: 'closed',
    hedge_after_ms: null,
    network_ms: null,
    latitude: null,
    longitude: null,
    continent: null,
    asleep: false,
    replicas,
    ...more,
  };
}

const version = (digest: Digest) => ({
  digest,
  base: C,
  bytes: 1,
  method: 'sign',
  published: '2026-01-01T00:00:00.000Z',
  quality: null,
});
const CATALOGUE: CatalogueView = {
  revision: 1,
  bases: [],
  experts: [
    {
      name: 'math',
      labels: [],
      channels: {
        stable: [
          { digest: A, weight: 9 },
          { digest: B, weight: 1 },
        ],
      },
      versions: [version(A), version(B), version(C)],
    },
  ],
};

it('has the nearest place of each version in each region, and says how many of its containers have it there', () => {
  const regions = [
    region('eu', [container({ device: [A] }), container({ host: [A], loading: [B] })]),
    region('us', [container({})]),
    region('gone', []),
    region('theirs', [], { kind: 'openai' }),
  ];
  expect(residencyRows(CATALOGUE, regions)).toEqual([
    {
      expert: 'math',
      digest: A,
      channels: ['stable 90 %'],
      cells: [
        { kind: 'known', nearest: 'device', has: 1, of: 2 },
        { kind: 'known', nearest: 'store', has: 1, of: 1 },
        { kind: 'silent' },
        { kind: 'foreign' },
      ],
    },
    {
      expert: 'math',
      digest: B,
      channels: ['stable 10 %'],
      cells: [
        { kind: 'known', nearest: 'loading', has: 1, of: 2 },
        { kind: 'known', nearest: 'store', has: 1, of: 1 },
        { kind: 'silent' },
        { kind: 'foreign' },
      ],
    },
  ]);
});

it('shows an old version while a region still has it, and what no catalogue names', () => {
  const rows = residencyRows(CATALOGUE, [region('eu', [container({ host: [C] })])]);
  expect(rows.map(({ digest, channels }) => [digest, channels])).toContainEqual([C, []]);
  const [unknown] = residencyRows(null, [region('eu', [container({ device: [A] })])]);
  expect(unknown).toMatchObject({ expert: '(not in the catalogue)', digest: A });
});

it('tells shares of a channel only where there are several', () => {
  expect(channelsOf({ stable: [{ digest: A, weight: 1 }], next: [{ digest: B, weight: 1 }] }, A)).toEqual(['stable']);
});

it('says how a region stands in a word', () => {
  const one = container({});
  expect(standingOf(region('x', [one]))).toBe('up');
  expect(standingOf(region('x', [one], { breaker: 'open' }))).toBe('failing');
  expect(standingOf(region('x', []))).toBe('silent');
  expect(standingOf(region('x', [], { asleep: true }))).toBe('asleep');
  expect(standingOf(region('x', [container({}, { draining: true })]))).toBe('draining');
  expect(standingOf(region('x', [], { kind: 'openai' }))).toBe('up');
});
