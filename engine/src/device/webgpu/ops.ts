/**
 * Ops as they are called, and what they become: a peephole joins neighbours that one kernel computes. What is joined leaves every buffer as its ops would
 * have, so that nobody has to know what is read later.
 */
import type { Activations, LinearLayer, RopeTable } from '../device.ts';
import type { ViewIndex } from './step.ts';

export interface WebGpuActivations extends Activations {
  readonly id: number;
  readonly buffer: GPUBuffer; // (capacity, stride) F32, zero beyond cols
  readonly stride: number;
}

type A = WebGpuActivations;

export interface NormOp {
  readonly kind: 'norm';
  readonly view: ViewIndex;
  readonly out: A;
  readonly x: A;
  readonly param: number;
  readonly eps: number;
}

interface LinearsOp {
  readonly kind: 'linears';
  readonly view: ViewIndex;
  readonly x: A;
  readonly layers: readonly LinearLayer<A>[];
}

interface SwigluOp {
  readonly kind: 'swiglu';
  readonly view: ViewIndex;
  readonly out: A;
  readonly gate: A;
  readonly up: A;
}

interface StoreOp {
  readonly kind: 'store';
  readonly view: ViewIndex;
  readonly layer: number;
  readonly keys: A;
  readonly values: A;
}

export interface AttentionOp {
  readonly kind: 'attention';
  readonly view: ViewIndex;
  readonly out: A;
  readonly queries: A;
  readonly layer: number;
  readonly scale: number;
  readonly window: number;
}

interface SimpleOp {
  readonly view: ViewIndex;
  readonly out: A;
}

export interface EmbedOp extends SimpleOp {
  readonly kind: 'embed';
  readonly param: number;
}

export interface HeadOp extends SimpleOp {
  readonly kind: 'head';
  readonly x: A;
  readonly param: number;
}

interface RopeOp extends SimpleOp {
  readonly kind: 'rope';
  readonly table: RopeTable;
  /** Of the table. */
  readonly tableId: number;
}

interface AddOp extends SimpleOp {
  readonly kind: 'add';
  readonly x: A;
}

interface GatherOp extends SimpleOp {
  readonly kind: 'gather';
  readonly x: A;
}

export type Op = NormOp | LinearsOp | SwigluOp | StoreOp | AttentionOp | EmbedOp | HeadOp | RopeOp | AddOp | GatherOp;

/** What one of queries, keys and values goes through. */
interface HeadPart {
  readonly x: A;
  readonly norm?: { readonly param: number; readonly eps: number };
  readonly isRotated?: boolean;
  readonly kept?: 'keys' | 'values';
}

export interface HeadsCommand {
  readonly kind: 'heads';
  readonly view: ViewIndex;
  readonly parts: readonly HeadPart[];
  readonly table?: RopeTable;
  /** Of the cache, where a part is kept. */
  readonly layer?: number;
}

export interface LinearsCommand extends LinearsOp {
  readonly epilogue:
    | { readonly kind: 'store' }
    | { readonly kind: 'add'; readonly to: A }
    | { readonly kind: 'swiglu' };
}

export type Command = Exclude<Op, LinearsOp | RopeOp | StoreOp> | LinearsCommand | HeadsCommand;

/** What two lists of ops have in common when one plan does for both, as numbers. */
export function codesOf(op: Op): readonly number[] {
  switch (op.kind) {
    case 'embed':
      return [0, op.out.id, op.param];
    case 'norm':
      return [1, op.view, op.out.id, op.x.id, op.param, op.eps];
    case 'linears':
      return [2, op.view, op.x.id, ...op.layers.flatMap(({ out, param, bias = -1 }) => [out.id, param, bias])];
    case 'head':
      return [3, op.view, op.out.id, op.x.id, op.param];
    case 'rope':
      return [4, op.view, op.out.id, op.tableId];
    case 'store':
      return [5, op.layer, op.keys.id, op.values.id];
    case 'attention':
      return [6, op.out.id, op.queries.id, op.layer, op.scale, op.window];
    case 'swiglu':
      return [7, op.view, op.out.id, op.gate.id, op.up.id];
    case 'add':
      return [8, op.view, op.out.id, op.x.id];
    case 'gather':
      return [9, op.out.id, op.x.id];
    default:
      return op satisfies never;
  }
}

/** @param together whether one kernel can compute linear layers of these parameters. */
export function fuse(ops: readonly Op[], together: (params: readonly number[]) => boolean): Command[] {
  const commands: Command[] = [];
  for (let i = 0; i < ops.length; ) {
    const heads = headsAt(ops, i);
    if (heads !== undefined) {
      commands.push(heads.command);
      i = heads.end;
      continue;
    }
    const op = ops[i];
    if (op === undefined) break;
    if (op.kind !== 'linears') {
      commands.push(plain(op));
      i++;
      continue;
    }
    const linears = linearsAt(op, ops[i + 1], together);
    commands.push(...linears.commands);
    i += linears.taken;
  }
  return commands;
}

function linearsAt(
  op: LinearsOp,
  next: Op | undefined,
  together: (params: readonly number[]) => boolean,
): { commands: LinearsCommand[]; taken: number } {
  const [first, second] = op.layers;
  const params = op.layers.map(({ param }) => param);
  const isOne = params.length <= 3 && together(params);
  const isOfView = next !== undefined && next.view === op.view;
  if (isOne && isOfView && next.kind === 'swiglu' && op.layers.length === 2 && first !== undefined) {
    if (next.gate === first.out && next.out === first.out && next.up === second?.out && first.out !== second.out)
      return { commands: [{ ...op, epilogue: { kind: 'swiglu' } }], taken: 2 };
  }
  if (isOne && isOfView && next.kind === 'add' && op.layers.length === 1) {
    if (next.x === first?.out && next.out !== next.x && next.out !== op.x)
      return { commands: [{ ...op, epilogue: { kind: 'add', to: next.out } }], taken: 2 };
  }
  const lists = isOne ? [op.layers] : op.layers.map((layer) => [layer]);
  return { commands: lists.map((layers) => ({ ...op, layers, epilogue: { kind: 'store' } })), taken: 1 };
}

/**
 * Norms of heads, rotations and what is kept, in the order of the forward pass: any of them may be missing, but there must be a rotation or something
 * kept.
 */
function headsAt(ops: readonly Op[], begin: number): { command: HeadsCommand; end: number } | undefined {
  const parts: HeadPart[] = [];
  let i = begin;
  let table: RopeTable | undefined;
  const view = ops[begin]?.view ?? 0;
  const partOf = (x: A): HeadPart | undefined => parts.find((part) => part.x === x);
  const change = (x: A, what: Partial<HeadPart>): void => {
    const at = parts.findIndex((part) => part.x === x);
    if (at === -1) parts.push({ x, ...what });
    else parts[at] = { x, ...parts[at], ...what };
  };
  for (let op = ops[i]; op?.kind === 'norm' && op.view === view && op.out === op.x && parts.length < 2; op = ops[++i]) {
    if (partOf(op.x) !== undefined) break;
    change(op.x, { norm: { param: op.param, eps: op.eps } });
  }
  const normed = parts.length;
  for (let op = ops[i]; op?.kind === 'rope' && op.view === view; op = ops[++i]) {
    const isNew = partOf(op.out) === undefined;
    if (partOf(op.out)?.isRotated === true || (isNew && parts.length >= 2)) break;
    if (table !== undefined && table !== op.table) break;
    table = op.table;
    change(op.out, { isRotated: true });
  }
  const store = ops[i];
  let layer: number | undefined;
  if (store?.kind === 'store' && store.view === view && store.keys !== store.values) {
    const added = [store.keys, store.values].filter((x) => partOf(x) === undefined).length;
    if (parts.length + added <= 3) {
      change(store.keys, { kept: 'keys' });
      change(store.values, { kept: 'values' });
      layer = store.layer;
      i++;
    }
  }
  // Norms alone are the norm kernel's, over groups of any length.
  if (i - begin === normed) return undefined;
  const command = {
    kind: 'heads' as const,
    view,
    parts,
    ...(table && { table }),
    ...(layer !== undefined && { layer }),
  };
  return { command, end: i };
}

function plain(op: Exclude<Op, LinearsOp>): Command {
  if (op.kind === 'rope' || op.kind === 'store') throw new Error(`${op.kind} was not taken for heads`);
  return op;
}
