/**
 * Sizes that kernels are specialised by: what an adapter is fastest with (see autotune.ts), and what its limits allow.
 */
import type { DeviceConfig } from '../device.ts';
import type { Gpu } from './adapter.ts';
import type { MatrixFormat } from './pack.ts';
import type { RowClass } from './step.ts';

/** Of matvec.wgsl. */
export interface MatvecShape {
  readonly workgroup: number;
  /** Fours of outputs that a workgroup computes. */
  readonly passes: number;
}

/** By format and rows, such as `q4 8`. */
type MatvecShapes = Readonly<Record<string, MatvecShape>>;

/** Which kernel multiplies many rows: in F32, in F16, or on matrix units. */
type MatmulKernel = 'matmul' | 'matmul_f16' | 'matmul_matrices';

/** Of shaders/tile.wgsl and matmul.wgsl. */
export interface MatmulShape {
  readonly kernel: MatmulKernel;
  /** Lanes of a workgroup, side by side: each has four outputs. */
  readonly outLanes: number;
  /** One above the other: each has four rows. */
  readonly rowLanes: number;
  /** Groups of 32 columns brought at once. */
  readonly groups: number;
}

/** What was measured (autotune.ts). */
export interface Measured {
  readonly matvec: MatvecShapes;
  /** By format. */
  readonly matmul: Readonly<Record<string, MatmulShape>>;
}

export const NOTHING_MEASURED: Measured = { matvec: {}, matmul: {} };
/** What is used before anything was measured, and what matrix units need. */
export const DEFAULT_MATMUL: MatmulShape = { kernel: 'matmul', outLanes: 16, rowLanes: 8, groups: 1 };

/** Of a workgroup's memory. */
export function matmulBytes({ kernel, outLanes, rowLanes, groups }: MatmulShape): number {
  return (outLanes + rowLanes) * 4 * (groups * 8 + 1) * (kernel === 'matmul_f16' ? 8 : 16);
}

/** What a matmul is specialised by. */
interface MatmulSizes {
  readonly kernel: MatmulKernel;
  /** Of a tile. */
  readonly rows: number;
  readonly outs: number;
  readonly overrides: Readonly<Record<string, number>>;
  readonly sizes: Readonly<Record<string, number>>;
}

interface AttentionShape {
  readonly workgroup: number;
  /** (row, head) pairs of a tile. */
  readonly queries: number;
  /** Positions of a tile. */
  readonly positions: number;
  /** Heads of a kv head that attend together. */
  readonly groupHeads: number;
}

/** What is used before anything was measured. In software each lane of a workgroup that has barriers costs microseconds. */
const DEFAULTS = {
  hardware: { matvec: { workgroup: 64, passes: 1 }, lanes: 64, attentionLanes: 128 },
  software: { matvec: { workgroup: 4, passes: 16 }, lanes: 4, attentionLanes: 16 },
} as const;
/** (queries, positions) of a tile, the best first. */
const ATTENTION_TILES = [
  [16, 32],
  [16, 16],
  [16, 8],
  [8, 8],
  [4, 4],
] as const;

/** What of an adapter sizes follow from. */
export type TunedGpu = Pick<Gpu, 'features' | 'identity'> & { readonly device: Pick<GPUDevice, 'limits'> };

export class Tuning {
  readonly #measured: Measured;
  readonly #gpu: TunedGpu;
  readonly #kv: DeviceConfig['kv'];
  readonly #matmul: MatmulShape;
  readonly #tile: readonly [number, number];
  readonly #defaults: (typeof DEFAULTS)[keyof typeof DEFAULTS];

  /** @param format of most of the matrices: rows are put into the tiles that are best for it. */
  constructor(gpu: TunedGpu, { kv }: DeviceConfig, measured: Measured, format: MatrixFormat | undefined) {
    const { device, identity } = gpu;
    this.#gpu = gpu;
    this.#measured = measured;
    this.#matmul = (format && measured.matmul[format]) ?? DEFAULT_MATMUL;
    this.#kv = kv;
    this.#defaults = DEFAULTS[identity.isSoftware ? 'software' : 'hardware'];
    const rowBytes = (Math.ceil(kv.headDim / 4) + 1) * 16;
    const bytesOf = ([queries, positions]: readonly [number, number]) =>
      (queries + positions) * rowBytes + queries * (positions + 3) * 4;
    const tile = ATTENTION_TILES.find((each) => bytesOf(each) <= device.limits.maxComputeWorkgroupStorageSize);
    if (tile === undefined)
      throw new RangeError(`heads of ${kv.headDim} values are more than a workgroup of this adapter can hold`);
    this.#tile = tile;
  }

  matvec(format: MatrixFormat, rows: number): MatvecShape {
    // Measured for one row and for eight (autotune.ts).
    return this.#measured.matvec[`${format} ${rows === 1 ? 1 : 8}`] ?? this.#defaults.matvec;
  }

  /** Of a workgroup of the small kernels. */
  get lanes(): number {
    return this.#defaults.lanes;
  }

  /** Of many rows. */
  get matmul(): MatmulSizes {
    const { matrixUnit, subgroups } = this.#gpu.features;
    const { kernel, outLanes, rowLanes, groups } = this.#matmul;
    const tile = { rows: rowLanes * 4, outs: outLanes * 4 };
    if (kernel !== 'matmul_matrices' || matrixUnit === undefined || subgroups === undefined)
      return { ...tile, kernel, overrides: { OUT_LANES: outLanes, ROW_LANES: rowLanes, GROUPS: groups }, sizes: {} };
    const { m, n, k } = matrixUnit;
    const leastSubgroups = Math.max(1, Math.floor((outLanes * rowLanes) / subgroups.max));
    const matrices = (tile.rows / m) * (tile.outs / n);
    const sizes = { M: m, N: n, K: k, MOST_MATRICES: Math.ceil(matrices / leastSubgroups) };
    return { ...tile, kernel, overrides: {}, sizes };
  }

  /** @param step whether each sequence has one row, or some have more. */
  attention(heads: number, step: 'decode' | 'mixed'): AttentionShape {
    const [most, positions] = this.#tile;
    const groupHeads = Math.min(most, heads / this.#kv.kvHeads);
    return {
      workgroup: this.#defaults.attentionLanes,
      queries: step === 'decode' ? groupHeads : most,
      positions,
      groupHeads,
    };
  }

  /** Most rows of one sequence that attend together. */
  queryRows(heads: number): number {
    const { queries, groupHeads } = this.attention(heads, 'mixed');
    return Math.floor(queries / groupHeads);
  }

  /** Parts that attention's positions are divided into, so that a few rows keep a GPU busy. */
  splits(rowClass: RowClass): number {
    switch (rowClass) {
      case 1:
      case 2:
        return 8;
      case 4:
      case 8:
        return 4;
      case 'many':
      case 'tiles':
        return 1;
      default:
        return rowClass satisfies never;
    }
  }

  /** Floats that splits need: shaders/attention.wgsl. */
  splitFloats(heads: number): number {
    const perHead = Math.ceil(this.#kv.headDim / 4) * 4 + 2;
    const rows = [1, 2, 4, 8] as const;
    return Math.max(...rows.map((count) => count * this.splits(count))) * heads * perHead;
  }
}
