/**
 * Experts' deltas on the GPU: slots of fixed size, in arenas under the adapter's limits. An arena holds a run of the model's sections (see `sections`) of
 * every slot, so that a kernel reads one arena whatever slots its rows use. It begins with a table: where each slot's delta of each parameter is.
 *
 * Knows shapes and bytes; nothing of who uses a slot.
 */
import { Problem } from '@signpost/contracts';
import type { ParamDelta, ParamDeltaLengths, ParamSpec } from '../device.ts';
import type { Gpu } from './adapter.ts';
import { type Uploads, USAGE } from './buffers.ts';
import { groupsOf } from './pack.ts';

export interface SlotsLayout {
  readonly specs: readonly ParamSpec[];
  readonly slots: number;
  /** Bytes of one slot, over all arenas. */
  readonly slotBytes: number;
  /** First parameter of each run that must stay in one arena, ascending: what one kernel reads together. */
  readonly sections: readonly number[];
}

interface Arena {
  readonly buffer: GPUBuffer;
  readonly firstParam: number;
  readonly params: number;
  readonly tableWords: number;
  /** Of one slot. */
  readonly regionWords: number;
  /** That is of a slot's words. */
  readonly share: number;
  /** By slot: words taken. */
  readonly used: number[];
}

/** Where a slot's delta of a parameter is, in words of its region. */
interface Place {
  readonly begin: number;
  readonly words: number;
  /** Rows below the base's. */
  readonly added: number;
}

const HEADER_WORDS = 4;
const PLANE_WORDS = 4;
const NO_WORD = new Uint8Array(4);

export class Slots {
  readonly #layout: SlotsLayout;
  readonly #uploads: Uploads;
  readonly #arenas: readonly Arena[];
  /** By slot and parameter. */
  readonly #places: Map<number, Place>[];

  constructor(gpu: Gpu, layout: SlotsLayout, uploads: Uploads) {
    this.#layout = layout;
    this.#uploads = uploads;
    this.#places = Array.from({ length: layout.slots }, () => new Map());
    this.#arenas = arenasOf(layout, gpu.device.limits).map((arena) => ({
      ...arena,
      used: new Array<number>(layout.slots).fill(0),
      buffer: gpu.device.createBuffer({
        label: `slots from parameter ${arena.firstParam}`,
        size: arenaBytes(arena, layout),
        usage: USAGE.storage | USAGE.copyTarget,
      }),
    }));
  }

  /** Where kernels find a parameter's deltas: the arena, and the parameter's row in its table, in words. */
  tableOf(param: number): { readonly arena: GPUBuffer; readonly table: number } {
    const { buffer, firstParam } = this.#arenaOf(param);
    return { arena: buffer, table: (param - firstParam) * this.#layout.slots };
  }

  /** Rows that a slot's expert has below the base's. */
  addedRows(slot: number, param: number): number {
    return this.#slot(slot).get(param)?.added ?? 0;
  }

  /** As `Device.checkRoom`. */
  checkRoom(what: string, deltas: readonly { readonly param: number; readonly lengths: ParamDeltaLengths }[]): void {
    const needs = this.#arenas.map((arena) => {
      const own = deltas.filter(({ param }) => this.#arenaOf(param) === arena);
      const words = own.reduce((sum, { param, lengths }) => sum + packedWords(param, this.#spec(param), lengths), 0);
      return { arena, words, slotWords: Math.ceil(words / arena.share) };
    });
    const tight = needs.find(({ arena, words }) => words > arena.regionWords);
    if (tight === undefined) return;
    const { firstParam, params, regionWords } = tight.arena;
    const total = needs.reduce((sum, { words }) => sum + words, 0);
    const part =
      needs.length === 1
        ? ''
        : `, ${regionWords * 4} of them for parameters ${firstParam} to ${firstParam + params - 1}, of which it takes ${tight.words * 4}`;
    throw new Problem(
      `${what} takes ${total * 4} bytes, and a slot has ${this.#layout.slotBytes}${part}; start the region with --slot-bytes ${Math.max(...needs.map(({ slotWords }) => slotWords)) * 4} or more (each of ${this.#layout.slots} slots has as many), or pack the expert with fewer planes`,
    );
  }

  /** @throws RangeError for what doesn't fit the parameter, or what is left of the slot. */
  load(slot: number, param: number, delta: ParamDelta): void {
    const places = this.#slot(slot);
    const spec = this.#spec(param);
    const words = packedWords(param, spec, delta);
    const arena = this.#arenaOf(param);
    const before = places.get(param);
    this.clear(slot, param);
    const reused = before !== undefined && before.words >= words ? before : undefined;
    const begin = reused?.begin ?? arena.used[slot] ?? 0;
    if (begin + words > arena.regionWords)
      throw new RangeError(
        `${spec.name} takes ${words * 4} bytes, and slot ${slot} has ${(arena.regionWords - begin) * 4} left for it`,
      );
    const base = arena.tableWords + slot * arena.regionWords + begin;
    const packed = packDelta(spec, delta, words, base);
    this.#uploads.write(arena.buffer, base * 4, new Uint8Array(packed.buffer));
    this.#point(arena, slot, param, base);
    if (reused === undefined) arena.used[slot] = begin + words;
    const [, columns = 1] = spec.shape;
    places.set(param, { begin, words: reused?.words ?? words, added: (delta.added?.length ?? 0) / columns });
  }

  /** Takes one parameter's delta, or all, out of a slot. */
  clear(slot: number, param?: number): void {
    const places = this.#slot(slot);
    for (const held of param === undefined ? [...places.keys()] : [param]) {
      if (!places.delete(held)) continue;
      this.#point(this.#arenaOf(held), slot, held, undefined);
    }
    if (places.size === 0) for (const { used } of this.#arenas) used[slot] = 0;
  }

  close(): void {
    for (const { buffer } of this.#arenas) buffer.destroy();
  }

  #point(arena: Arena, slot: number, param: number, word: number | undefined): void {
    const at = ((param - arena.firstParam) * this.#layout.slots + slot) * 4;
    this.#uploads.write(arena.buffer, at, word === undefined ? NO_WORD : new Uint8Array(Uint32Array.of(word).buffer));
  }

  #arenaOf(param: number): Arena {
    const arena = this.#arenas.find(({ firstParam, params }) => param >= firstParam && param < firstParam + params);
    return arena ?? this.#missing(param);
  }

  #spec(param: number): ParamSpec {
    return this.#layout.specs[param] ?? this.#missing(param);
  }

  #missing(param: number): never {
    throw new RangeError(`parameter ${param} does not exist; there are ${this.#layout.specs.length}`);
  }

  #slot(slot: number): Map<number, Place> {
    const found = this.#places[slot];
    if (found === undefined) throw new RangeError(`slot ${slot} does not exist; there are ${this.#places.length}`);
    return found;
  }
}

/** Two planes a matrix with scales of both kinds, vectors exact, and 64 added rows to matrices of tokens: what the packer makes at most by default. */
export function defaultSlotBytes(specs: readonly ParamSpec[]): number {
  return specs.reduce((sum, { shape: [rows, columns] }) => {
    const header = (HEADER_WORDS + 2 * PLANE_WORDS) * 4;
    if (columns === undefined) return sum + header + Math.ceil(rows / 2) * 4;
    return sum + header + 2 * (rows * groupsOf(columns) + rows + groupsOf(columns) * 32) * 4;
  }, 2 ** 20);
}

/** Of all arenas. */
export function slotsBytes(layout: SlotsLayout, limits: GPUSupportedLimits): number {
  return arenasOf(layout, limits).reduce((sum, arena) => sum + arenaBytes(arena, layout), 0);
}

function arenaBytes({ tableWords, regionWords }: Omit<Arena, 'buffer' | 'used'>, { slots }: SlotsLayout): number {
  return Math.max(4, tableWords + regionWords * slots) * 4;
}

/** Sections into arenas: as few as the limit allows, each with its share of a slot. */
function arenasOf(
  { specs, slots, slotBytes, sections }: SlotsLayout,
  limits: GPUSupportedLimits,
): Omit<Arena, 'buffer' | 'used'>[] {
  const limitWords = Math.floor(Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize) / 4);
  const weightOf = ({ shape: [rows, columns] }: ParamSpec) =>
    columns === undefined ? rows / 2 : rows * (groupsOf(columns) + 1);
  const total = specs.reduce((sum, spec) => sum + weightOf(spec), 0);
  const slotWords = Math.ceil(slotBytes / 4);
  const starts = [...new Set([0, ...sections])].toSorted((a, b) => a - b);
  const runs = starts.map((firstParam, i) => {
    const own = specs.slice(firstParam, starts[i + 1] ?? specs.length);
    const share = own.reduce((sum, spec) => sum + weightOf(spec), 0) / total;
    return { firstParam, params: own.length, regionWords: Math.ceil(slotWords * share), share };
  });
  const wordsOf = ({ params, regionWords }: { params: number; regionWords: number }) => (params + regionWords) * slots;
  const arenas: typeof runs = [];
  for (const run of runs) {
    if (wordsOf(run) > limitWords)
      throw new Problem(
        `${slots} slots of ${slotBytes} bytes need ${wordsOf(run) * 4} bytes in one buffer for parameters from ${run.firstParam} on, and the adapter allows ${limitWords * 4}; lower --slots or --slot-bytes`,
      );
    const last = arenas.at(-1);
    if (last === undefined) {
      arenas.push(run);
      continue;
    }
    const joined = {
      ...last,
      params: last.params + run.params,
      regionWords: last.regionWords + run.regionWords,
      share: last.share + run.share,
    };
    if (wordsOf(joined) <= limitWords) arenas[arenas.length - 1] = joined;
    else arenas.push(run);
  }
  return arenas.map((arena) => ({ ...arena, tableWords: arena.params * slots }));
}

/** Words that a delta takes. @throws RangeError when it doesn't fit the parameter. */
function packedWords(param: number, { shape }: ParamSpec, { planes, exact, added }: ParamDeltaLengths): number {
  const [rows, columns] = shape;
  const groups = columns === undefined ? 0 : groupsOf(columns);
  const what = `parameter ${param}, which is (${shape.join(', ')})`;
  let words = HEADER_WORDS + planes.length * PLANE_WORDS;
  for (const { signs, rowScale, colScale } of planes) {
    const fits =
      columns !== undefined &&
      signs.length === rows * groups &&
      (rowScale.length === rows || rowScale.length === 1) &&
      (colScale?.length ?? columns) === columns;
    if (!fits) throw new RangeError(`a plane doesn't fit ${what}`);
    words += signs.length + rowScale.length + (colScale === undefined ? 0 : groups * 32);
  }
  if (exact !== undefined) {
    if (exact.length !== rows * (columns ?? 1)) throw new RangeError(`the exact difference doesn't fit ${what}`);
    words += columns === undefined ? Math.ceil(rows / 2) : rows * groups * 16;
  }
  if (added !== undefined) {
    if (columns === undefined || added.length % columns !== 0)
      throw new RangeError(`${added.length} added values are no whole rows of ${what}`);
    words += (added.length / columns) * groups * 16;
  }
  return words;
}

/** As shaders/step.wgsl has it, to stand at word `base` of its arena. */
function packDelta(
  { shape }: ParamSpec,
  { planes, exact, added }: ParamDelta,
  words: number,
  base: number,
): Uint32Array {
  const [rows, columns] = shape;
  const packed = new Uint32Array(words);
  let end = HEADER_WORDS + planes.length * PLANE_WORDS;
  const put = (values: ArrayLike<number>, room = values.length): number => {
    packed.set(values, end);
    end += room;
    return base + end - room;
  };
  const putBrains = (values: Uint16Array, rowValues: number, rowWords: number): number => {
    const halves = new Uint16Array(packed.buffer, end * 4);
    for (let row = 0; row * rowValues < values.length; row++)
      halves.set(values.subarray(row * rowValues, (row + 1) * rowValues), row * rowWords * 2);
    end += (values.length / rowValues) * rowWords;
    return base + end - (values.length / rowValues) * rowWords;
  };
  packed[0] = planes.length;
  for (const [index, { signs, rowScale, colScale }] of planes.entries()) {
    const header = HEADER_WORDS + index * PLANE_WORDS;
    packed[header] = put(signs);
    packed[header + 1] = put(wordsOf(rowScale));
    packed[header + 2] = rowScale.length === 1 && rows !== 1 ? 0 : 1;
    packed[header + 3] = colScale === undefined ? 0 : put(wordsOf(colScale), groupsOf(colScale.length) * 32);
  }
  const [rowValues, rowWords] = columns === undefined ? [rows, Math.ceil(rows / 2)] : [columns, groupsOf(columns) * 16];
  if (exact !== undefined) packed[1] = putBrains(exact, rowValues, rowWords);
  if (added !== undefined && added.length > 0) {
    packed[2] = added.length / rowValues;
    packed[3] = putBrains(added, rowValues, rowWords);
  }
  return packed;
}

function wordsOf(floats: Float32Array): Uint32Array {
  const own = floats.byteOffset % 4 === 0 ? floats : floats.slice();
  return new Uint32Array(own.buffer, own.byteOffset, own.length);
}
