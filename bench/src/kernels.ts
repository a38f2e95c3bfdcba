/**
 * How near the CPU kernels come to the machine's memory: decode as a share of the read bandwidth measured in the same rounds, experts as a share
 * of the base's speed. Run: `npx tsx bench/src/kernels.ts`.
 *
 * Cases take turns within a round, so that what else runs on the machine meets all of them; medians over rounds are printed.
 */
import {
  activationStride,
  instructionSets,
  NATIVE_DTYPE,
  NATIVE_EPILOGUE,
  NATIVE_FORMAT,
  NativeDevice,
  sumWords,
  threads,
} from '@signpost/kernels';

const ROUNDS = 15;
const SLOTS = 8;
const PREFILL_ROWS = 256;
/** Beyond any cache: every matrix comes from memory. */
const WORKING_SET_BYTES = 512 * 2 ** 20;
const BLOCK_TOKENS = 16;

interface Shape {
  readonly out: number;
  readonly inDim: number;
}

interface Case {
  readonly name: string;
  readonly rows: number;
  /** One expert for each row, the same one for all, or none. */
  readonly experts: 'none' | 'one' | 'each';
  /** All matrices, or one again and again where it is computing that takes the time. */
  readonly matrices: 'all' | 'first';
}

const CASES = [
  { name: '1 row, base', rows: 1, experts: 'none', matrices: 'all' },
  { name: '1 row, 1 expert', rows: 1, experts: 'one', matrices: 'all' },
  { name: '8 rows, base', rows: 8, experts: 'none', matrices: 'all' },
  { name: '8 rows, 1 expert', rows: 8, experts: 'one', matrices: 'all' },
  { name: '8 rows, 8 experts', rows: 8, experts: 'each', matrices: 'all' },
  { name: `${PREFILL_ROWS} rows, base`, rows: PREFILL_ROWS, experts: 'none', matrices: 'first' },
  { name: `${PREFILL_ROWS} rows, 1 expert`, rows: PREFILL_ROWS, experts: 'one', matrices: 'first' },
] as const satisfies readonly Case[];

/** Pseudo-random 32-bit words; as BF16 pairs they are finite and small. */
function fillWords(words: Uint32Array, mask: number, bits: number): Uint32Array {
  let state = 0x9e3779b9;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = (state & mask) | bits;
  }
  return words;
}

function createDevice({ out, inDim }: Shape, matrices: number, weights: Uint8Array): NativeDevice {
  const shapes = Int32Array.from({ length: matrices * 2 }, (_, i) => (i % 2 === 0 ? out : inDim));
  const kv = Int32Array.of(1, Math.ceil(PREFILL_ROWS / BLOCK_TOKENS), BLOCK_TOKENS, 1, 2);
  const device = new NativeDevice(shapes, SLOTS, kv);
  const bytes = out * inDim * 2;
  const words = out * Math.ceil(inDim / 32);
  const signs = fillWords(new Uint32Array(matrices * SLOTS * words), 0xffffffff, 0);
  const rowScale = new Float32Array(out).fill(1e-3);
  for (let matrix = 0; matrix < matrices; matrix++) {
    device.loadParam(
      matrix,
      NATIVE_DTYPE.BF16,
      weights.subarray(matrix * bytes, (matrix + 1) * bytes),
      NATIVE_FORMAT.stored,
    );
    for (let slot = 0; slot < SLOTS; slot++) {
      const start = (matrix * SLOTS + slot) * words;
      device.addPlane(slot, matrix, signs.subarray(start, start + words), rowScale, undefined);
    }
  }
  return device;
}

function begin(device: NativeDevice, { rows, experts }: Case): void {
  const terms = experts === 'none' ? 0 : rows;
  device.begin(
    new Int32Array(rows),
    Int32Array.from({ length: rows }, (_, row) => row),
    Int32Array.of(0, rows),
    Int32Array.from({ length: Math.ceil(rows / BLOCK_TOKENS) }, (_, block) => block),
    Math.ceil(rows / BLOCK_TOKENS),
    Int32Array.from({ length: rows + 1 }, (_, row) => Math.min(row, terms)),
    Int32Array.from({ length: terms }, (_, row) => (experts === 'each' ? row % SLOTS : 0)),
    new Float32Array(terms).fill(1),
    new Int32Array(0),
  );
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

function secondsOf(task: () => void): number {
  const start = performance.now();
  task();
  return (performance.now() - start) / 1e3;
}

function bytesRead({ out, inDim }: Shape, { experts, rows, matrices }: Case, count: number): number {
  const planes = { none: 0, one: 1, each: rows }[experts];
  return (matrices === 'all' ? count : 1) * out * (inDim * 2 + planes * Math.ceil(inDim / 32) * 4);
}

function measure(shape: Shape): void {
  const { out, inDim } = shape;
  const count = Math.ceil(WORKING_SET_BYTES / (out * inDim * 2));
  const weights = new Uint8Array(count * out * inDim * 2);
  fillWords(new Uint32Array(weights.buffer), 0x80ff80ff, 0x3c003c00);
  const device = createDevice(shape, count, weights);
  const x = new Float32Array(PREFILL_ROWS * activationStride(inDim)).fill(0.1);
  const y = new Float32Array(PREFILL_ROWS * activationStride(out));
  const reads: number[] = [];
  const seconds = new Map<string, number[]>(CASES.map(({ name }) => [name, []]));
  for (let round = 0; round < ROUNDS; round++) {
    reads.push(secondsOf(() => sumWords(weights)));
    for (const one of CASES) {
      begin(device, one);
      const last = one.matrices === 'all' ? count : 1;
      const taken = secondsOf(() => {
        for (let matrix = 0; matrix < last; matrix++)
          device.linears(x, inDim, NATIVE_EPILOGUE.none, undefined, 0, y, out, matrix, -1);
      });
      seconds.get(one.name)?.push(taken);
    }
  }
  device.close();
  const bandwidth = weights.length / median(reads);
  const timesOf = (name: string) => seconds.get(name) ?? [];
  // Ratios are taken within a round, then their median: both sides met the same neighbours.
  const ratio = (above: readonly number[], below: readonly number[]) =>
    median(above.map((value, round) => value / (below[round] ?? Number.NaN)));
  console.log(`\n${out} × ${inDim} bf16, ${count} matrices; read bandwidth ${(bandwidth / 1e9).toFixed(1)} GB/s`);
  for (const one of CASES) {
    const times = timesOf(one.name);
    const flops = (2 * one.rows * out * inDim * (one.matrices === 'all' ? count : 1)) / median(times);
    const bytes = bytesRead(shape, one, count);
    const base = timesOf(one.matrices === 'all' ? '1 row, base' : `${PREFILL_ROWS} rows, base`);
    const columns = [
      one.name.padEnd(20),
      `${(bytes / median(times) / 1e9).toFixed(1).padStart(6)} GB/s`,
      one.matrices === 'first'
        ? ''.padEnd(22)
        : `${((bytes / weights.length) * ratio(reads, times)).toFixed(3)} of read bandwidth`,
      `${(flops / 1e9).toFixed(1).padStart(7)} GFLOP/s`,
      `${ratio(base, times).toFixed(3)} × speed of ${one.matrices === 'all' ? '1 row, base' : 'base'}`,
    ];
    console.log(`  ${columns.join('  ')}`);
  }
}

console.log(`${instructionSets()[0]}, ${threads()} threads, ${ROUNDS} rounds, medians`);
for (const shape of [
  { out: 2560, inDim: 960 },
  { out: 4096, inDim: 4096 },
]) {
  measure(shape);
}
