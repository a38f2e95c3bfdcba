/**
 * Commands as drafts of dispatches: which kernel, specialised how, with what buffers and constants. Nothing is made on the GPU here.
 */
import type { DeviceConfig, RopeTable } from '../device.ts';
import type { KvCache } from './kv-cache.ts';
import type {
  AttentionOp,
  Command,
  EmbedOp,
  HeadOp,
  HeadsCommand,
  LinearsCommand,
  NormOp,
  WebGpuActivations,
} from './ops.ts';
import { FORMAT_CODE, groupsOf } from './pack.ts';
import type { KernelName, Specialisation, SpecialisedKernel } from './shader.ts';
import type { Slots } from './slots.ts';
import type { StepBuffer, View, ViewIndex } from './step.ts';
import type { Tuning } from './tuning.ts';
import type { MatrixPart, Weights } from './weights.ts';

/** What a dispatch's first dimension counts. */
export type Along =
  | { readonly kind: 'rows'; readonly perGroup: number }
  | { readonly kind: 'tiles' }
  | { readonly kind: 'queries' };

/** A constant of a kernel's `params`. */
type Word = number | { readonly float: number };

export interface Draft {
  readonly kernel: SpecialisedKernel;
  readonly buffers: ReadonlyMap<number, GPUBuffer>;
  readonly words: readonly Word[];
  readonly along: Along;
  readonly y: number;
  readonly z: number;
}

/** What decides which kernels a view's ops use. */
export type PlanShape = Pick<View, 'kind' | 'rowClass'>;

/** What kernels read and write. */
export interface PlanParts {
  readonly config: DeviceConfig;
  readonly tuning: Tuning;
  readonly weights: Weights;
  readonly slots: Slots;
  readonly kv: KvCache;
  readonly step: StepBuffer;
  /** Cosines, then sines. */
  readonly angles: (table: RopeTable) => GPUBuffer;
  /** Of attention's splits. */
  readonly splits: GPUBuffer;
}

const NONE = 0xffffffff;
const EPILOGUE = { store: 0, add: 1, swiglu: 2 } as const satisfies Record<LinearsCommand['epilogue']['kind'], number>;
const ROWS_ALONG: Along = { kind: 'rows', perGroup: 1 };

/** @param commands that act on one view of a step. */
export function draftsOf(commands: readonly Command[], shape: PlanShape, parts: PlanParts): readonly Draft[] {
  const builder = new PlanBuilder(shape, parts);
  for (const command of commands) builder.add(command);
  return builder.drafts;
}

/** The kernel that steps need once an expert with tokens of its own has come in. */
export function addedRowsKernel(tuning: Tuning): SpecialisedKernel {
  return ['added_rows', { overrides: { WORKGROUP: tuning.lanes } }];
}

class PlanBuilder {
  readonly drafts: Draft[] = [];
  readonly #shape: PlanShape;
  readonly #parts: PlanParts;

  constructor(shape: PlanShape, parts: PlanParts) {
    this.#shape = shape;
    this.#parts = parts;
  }

  add(command: Command): void {
    switch (command.kind) {
      case 'embed':
        this.#embed(command);
        break;
      case 'norm':
        this.#norm(command);
        break;
      case 'linears':
        this.#linears(command);
        break;
      case 'head':
        this.#head(command);
        break;
      case 'heads':
        this.#heads(command);
        break;
      case 'attention':
        this.#attention(command);
        break;
      case 'swiglu': {
        const { view, out, gate, up } = command;
        const [ofGate, ofUp] = [gate === out, up === out];
        const operation = ofGate ? (ofUp ? 4 : 2) : ofUp ? 3 : 1;
        this.#elementwise(view, operation, out, ofUp ? undefined : up, ofGate ? undefined : gate);
        break;
      }
      case 'add': {
        const { view, out, x } = command;
        this.#elementwise(view, x === out ? 6 : 0, out, x === out ? undefined : x);
        break;
      }
      case 'gather':
        this.#elementwise(command.view, 5, command.out, command.x);
        break;
      default:
        command satisfies never;
    }
  }

  #norm({ view, x, out, param, eps }: NormOp): void {
    const { weights, slots } = this.#parts;
    const { length, begin } = weights.vector(param);
    const { arena, table } = slots.tableOf(param);
    const isInPlace = x === out;
    this.#dispatch(
      'norm',
      { overrides: { WORKGROUP: this.#parts.tuning.lanes, IN_PLACE: Number(isInPlace) } },
      ROWS_ALONG,
      {
        y: x.cols / length,
        words: [view, length, begin, table, x.stride, out.stride, { float: eps }],
        buffers: { 1: arena, 5: isInPlace ? undefined : x.buffer, 6: out.buffer },
      },
    );
  }

  #elementwise(
    view: ViewIndex,
    operation: number,
    out: WebGpuActivations,
    x?: WebGpuActivations,
    gate?: WebGpuActivations,
  ): void {
    this.#dispatch(
      'elementwise',
      { overrides: { WORKGROUP: this.#parts.tuning.lanes, OPERATION: operation } },
      ROWS_ALONG,
      {
        y: Math.ceil(out.cols / this.#parts.tuning.lanes),
        words: [view, out.cols, (x ?? gate ?? out).stride, out.stride],
        buffers: { 5: x?.buffer, 6: out.buffer, 7: gate?.buffer },
      },
    );
  }

  #embed({ view, out, param }: EmbedOp): void {
    const { weights, slots } = this.#parts;
    const matrix = weights.matrix(param);
    const { arena, table } = slots.tableOf(param);
    for (const part of matrix.parts) {
      this.#dispatch(
        'embed',
        { overrides: { WORKGROUP: this.#parts.tuning.lanes, FORMAT: FORMAT_CODE[matrix.format] } },
        ROWS_ALONG,
        {
          y: 1,
          words: [
            groupsOf(matrix.columns),
            view,
            part.firstRow,
            part.rows,
            matrix.rows,
            part.weights,
            part.scales,
            table,
            out.stride,
            out.cols,
          ],
          buffers: { 1: arena, 3: part.buffer, 5: out.buffer },
        },
      );
    }
  }

  #linears({ view, x, layers, epilogue }: LinearsCommand): void {
    const { weights } = this.#parts;
    const matrices = layers.map(({ param }) => weights.matrix(param));
    const parts = matrices[0]?.parts ?? [];
    // Only a matrix alone has several.
    for (const [index, first] of parts.entries()) {
      const segments = layers.map((layer, i) => ({ ...layer, part: i === 0 ? first : matrices[i]?.parts[index] }));
      this.#matrices(view, x, segments, epilogue);
    }
  }

  /** One dispatch of up to three matrices in one buffer. */
  #matrices(
    view: ViewIndex,
    x: WebGpuActivations,
    segments: readonly {
      readonly out: WebGpuActivations;
      readonly param: number;
      readonly bias?: number | undefined;
      readonly part: MatrixPart | undefined;
    }[],
    epilogue: LinearsCommand['epilogue'],
  ): void {
    const { weights, slots, tuning } = this.#parts;
    const [lead] = segments;
    if (lead?.part === undefined) throw new Error('a linear layer without a matrix');
    const { format, columns } = weights.matrix(lead.param);
    const { arena } = slots.tableOf(lead.param);
    const { rowClass } = this.#shape;
    const isPair = epilogue.kind === 'swiglu';
    const overrides = { FORMAT: FORMAT_CODE[format] };
    const rows = rowClass === 'many' ? 8 : rowClass;
    const shape = rows === 'tiles' ? undefined : tuning.matvec(format, rows);
    const tileOuts = (shape === undefined ? tuning.matmul.outs : 4 * shape.passes) / (isPair ? 2 : 1);
    let tiles = 0;
    const words: Word[] = [groupsOf(columns), view, segments.length, EPILOGUE[epilogue.kind]];
    words.push(epilogue.kind === 'add' ? epilogue.to.stride : 0, 0, 0, 0);
    const buffers: Record<number, GPUBuffer | undefined> = { 1: arena, 3: lead.part.buffer, 5: x.buffer };
    for (const [index, { out, param, bias, part }] of segments.entries()) {
      if (part === undefined) throw new Error('matrices of one dispatch are held in as many parts');
      words.push(part.rows, part.weights, part.scales, part.firstRow, slots.tableOf(param).table);
      words.push(bias === undefined ? NONE : weights.vector(bias).begin);
      words.push(bias === undefined ? 0 : slots.tableOf(bias).table);
      words.push(out.stride, isPair ? 0 : tiles, 0, 0, 0);
      buffers[6 + index] = out.buffer;
      if (!isPair || index === 0) tiles += Math.ceil(part.rows / tileOuts);
    }
    if (epilogue.kind === 'add') buffers[7] = epilogue.to.buffer;
    if (shape === undefined) {
      const { kernel, sizes, overrides: tile } = tuning.matmul;
      this.#dispatch(
        kernel,
        { overrides: { ...overrides, ...tile }, sizes },
        { kind: 'tiles' },
        { y: tiles, words, buffers },
      );
    } else {
      const specialised = {
        overrides: { ...overrides, WORKGROUP: shape.workgroup, ROWS: Number(rows), PASSES: shape.passes },
      };
      this.#dispatch('matvec', specialised, { kind: 'rows', perGroup: Number(rows) }, { y: tiles, words, buffers });
    }
  }

  #head({ view, x, out, param }: HeadOp): void {
    const matrix = this.#parts.weights.matrix(param);
    for (const part of matrix.parts) this.#matrices(view, x, [{ out, param, part }], { kind: 'store' });
    if (out.cols === matrix.rows) return;
    const { arena, table } = this.#parts.slots.tableOf(param);
    this.#dispatch(...addedRowsKernel(this.#parts.tuning), ROWS_ALONG, {
      y: out.cols - matrix.rows,
      words: [
        groupsOf(matrix.columns),
        view,
        matrix.rows,
        out.cols,
        table,
        out.stride,
        { float: Number.NEGATIVE_INFINITY },
      ],
      buffers: { 1: arena, 5: x.buffer, 6: out.buffer },
    });
  }

  #heads({ view, parts, table, layer }: HeadsCommand): void {
    const { config, kv, weights, slots, angles } = this.#parts;
    const { headDim } = config.kv;
    const place = layer === undefined ? undefined : kv.layer(layer);
    const words: Word[] = [view, parts.length, table === undefined ? 0 : table.cos.length, 0];
    let first = 0;
    let arena: GPUBuffer | undefined;
    for (const { x, norm, isRotated, kept } of parts) {
      const normTable = norm === undefined ? undefined : slots.tableOf(norm.param);
      arena ??= normTable?.arena;
      words.push(x.cols / headDim, x.stride);
      words.push(norm === undefined ? NONE : weights.vector(norm.param).begin, normTable?.table ?? 0);
      words.push({ float: norm?.eps ?? 0 }, isRotated === true ? 1 : 0);
      words.push(kept === undefined || place === undefined ? NONE : place[kept], first);
      first += x.cols / headDim;
    }
    const [a, b, c] = parts;
    this.#dispatch('heads', { overrides: { WORKGROUP: this.#parts.tuning.lanes, ...this.#cacheSizes() } }, ROWS_ALONG, {
      y: first,
      words,
      buffers: {
        1: arena,
        3: place?.buffer,
        5: table === undefined ? undefined : angles(table),
        6: a?.x.buffer,
        7: b?.x.buffer,
        8: c?.x.buffer,
      },
    });
  }

  #attention({ view, out, queries, layer, scale, window }: AttentionOp): void {
    const { config, kv, splits, tuning } = this.#parts;
    const { headDim, kvHeads } = config.kv;
    const heads = queries.cols / headDim;
    const place = kv.layer(layer);
    const { queries: most, positions, workgroup, groupHeads } = tuning.attention(heads, this.#shape.kind);
    const split = this.#shape.rowClass === 'tiles' ? 1 : tuning.splits(this.#shape.rowClass);
    const specialised = {
      overrides: {
        WORKGROUP: workgroup,
        SPLITS: split,
        QUERIES: most,
        POSITIONS: positions,
        GROUP_HEADS: groupHeads,
        ...this.#cacheSizes(),
      },
      sizes: { MOST_QUADS: Math.ceil((most * Math.ceil(headDim / 4)) / workgroup) },
    };
    this.#dispatch(
      'attention',
      specialised,
      { kind: 'queries' },
      {
        y: kvHeads * Math.ceil(heads / kvHeads / groupHeads),
        z: split,
        words: [view, place.keys, place.values, heads, queries.stride, out.stride, window, { float: scale }],
        buffers: { 3: place.buffer, 5: queries.buffer, 6: out.buffer, 7: split === 1 ? undefined : splits },
      },
    );
    if (split === 1) return;
    this.#dispatch(
      'attention_join',
      { overrides: { WORKGROUP: this.#parts.tuning.lanes, SPLITS: split, HEAD_DIM: headDim } },
      ROWS_ALONG,
      { y: heads, words: [heads, out.stride], buffers: { 5: splits, 6: out.buffer } },
    );
  }

  #cacheSizes() {
    const { headDim, blockTokens, kvHeads } = this.#parts.config.kv;
    return { HEAD_DIM: headDim, BLOCK_TOKENS: blockTokens, KV_HEADS: kvHeads };
  }

  #dispatch(
    name: KernelName,
    specialised: Specialisation,
    along: Along,
    {
      y,
      z = 1,
      words,
      buffers,
    }: { y: number; z?: number; words: readonly Word[]; buffers: Readonly<Record<number, GPUBuffer | undefined>> },
  ): void {
    const { step, weights, slots } = this.#parts;
    const given = { 0: step.buffer, 1: slots.tableOf(0).arena, 2: weights.vectors };
    const bound = new Map<number, GPUBuffer>();
    for (const [binding, buffer] of [...Object.entries(given), ...Object.entries(buffers)])
      if (buffer !== undefined) bound.set(Number(binding), buffer);
    this.drafts.push({ kernel: [name, specialised], buffers: bound, words, along, y, z });
  }
}
