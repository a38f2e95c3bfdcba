/**
 * Which expert should give up its slot: hit rates of replacement policies on traces of Zipf(1.0) arrivals, beside what is possible for who knows the
 * future. Run: `npx tsx bench/src/replacement.ts`.
 *
 * Traces: popularity that stays; popularity that drifts (every 500 requests a random tenth of the experts trade places); popularity that stays, with a scan
 * (every expert once, as an evaluation of all of them does) every 1,000 requests.
 */
import type { Digest } from '@signpost/contracts';
import { Demand } from '../../gpu-backend/src/experts/demand.ts';
import { zipf } from './arrivals.ts';

const EXPERTS = 64;
const REQUESTS = 100_000;
const SLOTS = [4, 8, 16, 32];
const HALF_LIVES = [16, 64, 256, 1_024, 4_096];

/** Told each request in order; says whether it was a hit. */
type Policy = (expert: number, index: number) => boolean;
type PolicyFactory = (slots: number, trace: readonly number[]) => Policy;

/** One that keeps what `worth` says is worth most. */
function ranked(slots: number, worth: (expert: number) => number, seen: (expert: number) => void): Policy {
  const resident = new Set<number>();
  return (expert) => {
    seen(expert);
    if (resident.has(expert)) return true;
    if (resident.size === slots) resident.delete(leastOf(resident, worth));
    resident.add(expert);
    return false;
  };
}

function leastOf(experts: Iterable<number>, worth: (expert: number) => number): number {
  let least = { expert: -1, worth: Number.POSITIVE_INFINITY };
  for (const expert of experts) {
    const value = worth(expert);
    if (value < least.worth) least = { expert, worth: value };
  }
  return least.expert;
}

const lru: PolicyFactory = (slots) => {
  const last = new Map<number, number>();
  let clock = 0;
  return ranked(
    slots,
    (expert) => last.get(expert) ?? 0,
    (expert) => last.set(expert, ++clock),
  );
};

const demand =
  (halfLife: number): PolicyFactory =>
  (slots) => {
    const figures = new Demand(halfLife);
    const digest = (expert: number) => String(expert) as Digest;
    return ranked(
      slots,
      (expert) => figures.of(digest(expert)),
      (expert) => figures.count(digest(expert), false),
    );
  };

/** GreedyDual-Size-Frequency with equal sizes and costs (L. Cherkasova, HP Labs, 1998): what was evicted last ages the rest. */
const gdsf: PolicyFactory = (slots) => {
  const resident = new Map<number, { frequency: number; worth: number }>();
  let age = 0;
  return (expert) => {
    const entry = resident.get(expert);
    if (entry !== undefined) {
      entry.frequency++;
      entry.worth = age + entry.frequency;
      return true;
    }
    if (resident.size === slots) {
      const victim = leastOf(resident.keys(), (candidate) => resident.get(candidate)?.worth ?? 0);
      age = resident.get(victim)?.worth ?? age;
      resident.delete(victim);
    }
    resident.set(expert, { frequency: 1, worth: age + 1 });
    return false;
  };
};

/** S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023): a small queue, a main one, and a ghost of what left the small one. */
const s3fifo: PolicyFactory = (slots) => {
  const smallSize = Math.max(1, Math.round(slots / 10));
  const hits = new Map<number, number>();
  const [small, main, ghost]: [number[], number[], number[]] = [[], [], []];
  const evict = (): void => {
    if (small.length >= smallSize || main.length === 0) {
      for (let oldest = small.shift(); oldest !== undefined; oldest = small.shift()) {
        if ((hits.get(oldest) ?? 0) > 0) {
          hits.set(oldest, 0);
          main.push(oldest);
          if (main.length > slots - smallSize) evictMain();
          if (small.length + main.length < slots) return;
        } else {
          hits.delete(oldest);
          ghost.push(oldest);
          if (ghost.length > slots) ghost.shift();
          return;
        }
      }
    }
    evictMain();
  };
  const evictMain = (): void => {
    for (let oldest = main.shift(); oldest !== undefined; oldest = main.shift()) {
      const left = hits.get(oldest) ?? 0;
      if (left === 0) {
        hits.delete(oldest);
        return;
      }
      hits.set(oldest, left - 1);
      main.push(oldest);
    }
  };
  return (expert) => {
    const seen = hits.get(expert);
    if (seen !== undefined) {
      hits.set(expert, Math.min(3, seen + 1));
      return true;
    }
    if (small.length + main.length >= slots) evict();
    hits.set(expert, 0);
    const wasGhost = ghost.indexOf(expert);
    if (wasGhost === -1) small.push(expert);
    else {
      ghost.splice(wasGhost, 1);
      main.push(expert);
    }
    return false;
  };
};

/** Evicts what is needed again last (L. A. Belady, IBM Systems Journal 5(2), 1966). */
const optimal: PolicyFactory = (slots, trace) => {
  const next = new Float64Array(trace.length).fill(Number.POSITIVE_INFINITY);
  const later = new Map<number, number>();
  for (let i = trace.length - 1; i >= 0; i--) {
    const expert = trace[i] ?? -1;
    next[i] = later.get(expert) ?? Number.POSITIVE_INFINITY;
    later.set(expert, i);
  }
  const needed = new Map<number, number>();
  return (expert, index) => {
    const isHit = needed.has(expert);
    if (!isHit && needed.size === slots)
      needed.delete(leastOf(needed.keys(), (candidate) => -(needed.get(candidate) ?? 0)));
    needed.set(expert, next[index] ?? Number.POSITIVE_INFINITY);
    return isHit;
  };
};

const POLICIES: Readonly<Record<string, PolicyFactory>> = {
  LRU: lru,
  'S3-FIFO': s3fifo,
  GDSF: gdsf,
  ...Object.fromEntries(HALF_LIVES.map((halfLife) => [`demand, half-life ${halfLife}`, demand(halfLife)])),
  optimal,
};

function drifting(): number[] {
  const names = Array.from({ length: EXPERTS }, (_, i) => i);
  const draw = zipf(EXPERTS);
  return Array.from({ length: REQUESTS }, (_, i) => {
    if (i % 500 === 0)
      for (let swap = 0; swap < EXPERTS / 20; swap++) {
        const [a, b] = [Math.floor(Math.random() * EXPERTS), Math.floor(Math.random() * EXPERTS)];
        [names[a], names[b]] = [names[b] ?? a, names[a] ?? b];
      }
    return names[draw()] ?? 0;
  });
}

function scanned(): number[] {
  const draw = zipf(EXPERTS);
  return Array.from({ length: REQUESTS }, (_, i) => (i % 1_000 < EXPERTS ? i % 1_000 : draw()));
}

const TRACES: Readonly<Record<string, () => number[]>> = {
  stays: () => Array.from({ length: REQUESTS }, zipf(EXPERTS)),
  drifts: drifting,
  'stays, scanned': scanned,
};

for (const [title, make] of Object.entries(TRACES)) {
  const trace = make();
  console.log(`\npopularity that ${title}: hit rate, and misses as a multiple of LRU's`);
  console.log(['policy'.padEnd(24), ...SLOTS.map((slots) => `${slots} slots`.padStart(16))].join(''));
  const lruMisses = new Map<number, number>();
  for (const [name, factory] of Object.entries(POLICIES)) {
    const cells = SLOTS.map((slots) => {
      const policy = factory(slots, trace);
      const hits = trace.filter((expert, i) => policy(expert, i)).length;
      const misses = REQUESTS - hits;
      if (name === 'LRU') lruMisses.set(slots, misses);
      const ratio = misses / (lruMisses.get(slots) ?? misses);
      return `${((100 * hits) / REQUESTS).toFixed(1)} % (${ratio.toFixed(2)} ×)`.padStart(16);
    });
    console.log([name.padEnd(24), ...cells].join(''));
  }
}
