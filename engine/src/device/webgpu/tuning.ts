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
  /** Matrix rows that a workgroup computes, an even number. */
  readonly outs: number;
}

/** By format and rows, such as `q4 8`. */
export type MatvecShapes = Readonly<Record<string, MatvecShape>>;

interface AttentionShape {
  readonly workgroup: number;
  /** (row, head) pairs of a tile. */
  readonly queries: number;
  /** Positions of a tile. */
  readonly positions: number;
  /** Heads of a kv head that attend together. */
  readonly groupHeads: number;
}

const DEFAULT_MATVEC: MatvecShape = { workgroup: 64, outs: 4 };
const ATTENTION_WORKGROUP = 128;
/** (queries, positions) of a tile, the best first. */
const ATTENTION_TILES = [
  [16, 32],
  [16, 16],
  [16, 8],
  [8, 8],
  [4, 4],
] as const;

export class Tuning {
  readonly #shapes: MatvecShapes;
  readonly #kv: DeviceConfig['kv'];
  readonly #tile: readonly [number, number];

  constructor({ device }: Gpu, { kv }: DeviceConfig, shapes: MatvecShapes) {
    this.#shapes = shapes;
    this.#kv = kv;
    const rowBytes = (Math.ceil(kv.headDim / 4) + 1) * 16;
    const bytesOf = ([queries, positions]: readonly [number, number]) =>
      (queries + positions) * rowBytes + queries * (positions + 3) * 4;
    const tile = ATTENTION_TILES.find((each) => bytesOf(each) <= device.limits.maxComputeWorkgroupStorageSize);
    if (tile === undefined)
      throw new RangeError(`heads of ${kv.headDim} values are more than a workgroup of this adapter can hold`);
    this.#tile = tile;
  }

  matvec(format: MatrixFormat, rows: number): MatvecShape {
    return this.#shapes[`${format} ${rows}`] ?? DEFAULT_MATVEC;
  }

  attention(heads: number): AttentionShape {
    const [queries, positions] = this.#tile;
    return {
      workgroup: ATTENTION_WORKGROUP,
      queries,
      positions,
      groupHeads: Math.min(queries, heads / this.#kv.kvHeads),
    };
  }

  /** Rows of one sequence that attend together. */
  queryRowsOf(heads: number): number {
    const { queries, groupHeads } = this.attention(heads);
    return Math.max(1, Math.floor(queries / groupHeads));
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
