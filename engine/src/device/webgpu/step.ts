/**
 * What changes from step to step, in one small buffer: tokens, positions, block tables, mixtures, and how rows are put into tiles.
 *
 * Ops act on a view of the step: all its rows, or, after `gather`, those whose logits are wanted. shaders/step.wgsl says what stands where.
 */
import type { DeviceConfig, StepBatch } from '../device.ts';
import type { Gpu } from './adapter.ts';
import { USAGE } from './buffers.ts';

const VIEW_WORDS = 16;
/** Up to so many rows are one tile of matvec.wgsl. */
const MATVEC_ROWS = 8;
/** Tiles of rows with one mixture must be filled to a quarter for matmul.wgsl to be worth it. */
const LEAST_FILL = 1 / 4;

/** Which kernel linear layers use: `1`, `2`, `4` or `8` rows at once, in as many tiles as it takes, or tiles of one mixture. */
export type RowClass = 1 | 2 | 4 | 8 | 'many' | 'tiles';

export interface View {
  /** `decode`: one row of each sequence. */
  kind: 'decode' | 'mixed';
  rows: number;
  rowClass: RowClass;
  /** Of rows with one mixture. */
  tiles: number;
  /** Of rows that attend together. */
  queryTiles: number;
}

export type ViewIndex = 0 | 1;

/** Classes that steps of up to so many rows have. */
export function rowClassesOf(mostRows: number): RowClass[] {
  const classes: readonly (readonly [least: number, RowClass])[] = [
    [1, 1],
    [2, 2],
    [3, 4],
    [5, 8],
    [MATVEC_ROWS + 1, 'many'],
    [MATVEC_ROWS + 1, 'tiles'],
  ];
  return classes.flatMap(([least, rowClass]) => (least <= mostRows ? rowClass : []));
}

/** Rows of the largest step, and block-table entries that the buffer has room for. */
const MOST_TABLE_WORDS = 2 ** 22;

/** Of what is computed in tiles. */
interface RowsTogether {
  /** Of one sequence, that attend together. */
  readonly queryRows: number;
  /** Of one mixture, in a tile of matmul.wgsl. */
  readonly tileRows: number;
}

export class StepBuffer {
  readonly buffer: GPUBuffer;
  readonly views: readonly [View, View] = [emptyView(), emptyView()];
  readonly #queue: GPUQueue;
  readonly #words: Uint32Array;
  readonly #ints: Int32Array;
  readonly #floats: Float32Array;
  readonly #rows: number;
  readonly #blockTokens: number;
  readonly #rowsTogether: RowsTogether;
  #end = 0;

  constructor({ device }: Gpu, config: DeviceConfig, rows: number, rowsTogether: RowsTogether) {
    const bytes = stepBytes(config, rows);
    this.#words = new Uint32Array(bytes / 4);
    this.#ints = new Int32Array(this.#words.buffer);
    this.#floats = new Float32Array(this.#words.buffer);
    this.#queue = device.queue;
    this.#rows = rows;
    this.#blockTokens = config.kv.blockTokens;
    this.#rowsTogether = rowsTogether;
    this.buffer = device.createBuffer({ label: 'step', size: bytes, usage: USAGE.storage | USAGE.copyTarget });
  }

  /** @param batch that ../check-batch.ts has passed. @throws RangeError for one larger than there is room for. */
  write(batch: StepBatch): void {
    const { sequenceStart, logitRows, tokens } = batch;
    if (tokens.length > this.#rows)
      throw new RangeError(`the step has ${tokens.length} rows, the device was opened for ${this.#rows}`);
    this.#end = 2 * VIEW_WORDS;
    const tables = new Uint32Array(tokens.length);
    for (let sequence = 0; sequence + 1 < sequenceStart.length; sequence++) {
      const [first = 0, end = 0] = [sequenceStart[sequence], sequenceStart[sequence + 1]];
      if (first === end) continue;
      const used = Math.floor(((batch.positions[end - 1] ?? 0) + (batch.ahead ?? 0)) / this.#blockTokens) + 1;
      const from = sequence * batch.blocksPerSequence;
      tables.fill(this.#put(batch.blockTable.subarray(from, from + used)), first, end);
    }
    const all = Int32Array.from(tokens.keys());
    this.#writeView(0, batch, all, tables);
    const { queryRows } = this.#rowsTogether;
    const queries: number[] = [];
    for (let sequence = 0; sequence + 1 < sequenceStart.length; sequence++) {
      const end = sequenceStart[sequence + 1] ?? 0;
      for (let row = sequenceStart[sequence] ?? 0; row < end; row += queryRows)
        queries.push(row, Math.min(queryRows, end - row));
    }
    this.#words[9] = this.#put(queries);
    this.views[0].queryTiles = queries.length / 2;
    this.views[0].kind = queries.length / 2 === tokens.length ? 'decode' : 'mixed';
    if (logitRows.length > 0) this.#writeView(1, batch, logitRows, tables);
    else Object.assign(this.views[1], emptyView());
    this.#queue.writeBuffer(this.buffer, 0, this.#words.buffer, 0, this.#end * 4);
  }

  #writeView(view: ViewIndex, batch: StepBatch, rows: Int32Array, tables: Uint32Array): void {
    const { tokens, positions, mixtureStart, mixtureSlots, mixtureWeights } = batch;
    const pick = (values: ArrayLike<number>) => this.#put(Array.from(rows, (row) => values[row] ?? 0));
    const header = view * VIEW_WORDS;
    const words = this.#words;
    words[header] = rows.length;
    words[header + 1] = pick(tokens);
    words[header + 2] = pick(positions);
    words[header + 3] = pick(tables);
    const starts = [0];
    const [slots, weights]: [number[], number[]] = [[], []];
    for (const row of rows) {
      for (let term = mixtureStart[row] ?? 0; term < (mixtureStart[row + 1] ?? 0); term++) {
        slots.push(mixtureSlots[term] ?? 0);
        weights.push(mixtureWeights[term] ?? 0);
      }
      starts.push(slots.length);
    }
    words[header + 4] = this.#put(starts);
    words[header + 5] = this.#put(slots);
    words[header + 6] = this.#putFloats(weights);
    words[header + 10] = this.#put(rows);
    const own = this.views[view];
    own.rows = rows.length;
    own.tiles = 0;
    const groups = rows.length <= MATVEC_ROWS ? [] : rowsByMixture(starts, slots, weights);
    const { tileRows } = this.#rowsTogether;
    const tiles: number[] = [];
    let first = 0;
    for (const group of groups) {
      for (let from = 0; from < group.length; from += tileRows)
        tiles.push(first + from, Math.min(tileRows, group.length - from));
      first += group.length;
    }
    own.tiles = tiles.length / 2;
    own.rowClass = rowClassOf(rows.length, own.tiles * tileRows);
    words[header + 7] = this.#put(tiles);
    words[header + 8] = this.#put(groups.flat());
  }

  close(): void {
    this.buffer.destroy();
  }

  /** Gives where the values begin. */
  #put(values: ArrayLike<number>): number {
    const begin = this.#claim(values.length);
    this.#ints.set(values, begin);
    return begin;
  }

  #putFloats(values: ArrayLike<number>): number {
    const begin = this.#claim(values.length);
    this.#floats.set(values, begin);
    return begin;
  }

  #claim(words: number): number {
    const begin = this.#end;
    if (begin + words > this.#words.length)
      throw new RangeError(
        `the step's tables need more than the ${this.#words.length} words that there is room for: fewer rows, or fewer experts a row`,
      );
    this.#end += words;
    return begin;
  }
}

export function stepBytes({ slots, kv }: DeviceConfig, rows: number): number {
  const terms = rows * Math.max(1, slots);
  const perView = rows * 12 + terms * 2 + 16;
  const tables = Math.min(rows * kv.blocks, MOST_TABLE_WORDS);
  return (2 * VIEW_WORDS + 2 * perView + tables) * 4;
}

function emptyView(): View {
  return { kind: 'decode', rows: 0, rowClass: 1, tiles: 0, queryTiles: 0 };
}

/** @param room for rows in tiles. */
function rowClassOf(rows: number, room: number): RowClass {
  if (rows > MATVEC_ROWS) return rows >= room * LEAST_FILL ? 'tiles' : 'many';
  if (rows > 4) return 8;
  if (rows > 2) return 4;
  return rows === 2 ? 2 : 1;
}

/** Rows with the same terms, together. */
function rowsByMixture(
  starts: readonly number[],
  slots: readonly number[],
  weights: readonly number[],
): readonly number[][] {
  const groups = new Map<string, number[]>();
  for (let row = 0; row + 1 < starts.length; row++) {
    const [from = 0, to = 0] = [starts[row], starts[row + 1]];
    let key = '';
    for (let term = from; term < to; term++) key += `${slots[term]}:${weights[term]} `;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [row]);
    else group.push(row);
  }
  return [...groups.values()];
}
