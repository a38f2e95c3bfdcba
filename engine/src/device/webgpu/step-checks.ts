/**
 * What ops ask of a step's rows beyond what ../check-batch.ts has checked: kernels run without bounds checks, so every index is looked at here.
 */
import { checkLayers, misfit } from '../check-layers.ts';
import type { Activations, DeviceConfig, LinearLayer, RopeTable, StepBatch } from '../device.ts';
import type { Slots } from './slots.ts';
import type { ViewIndex } from './step.ts';

export class StepChecks {
  readonly #config: DeviceConfig;
  readonly #slots: Slots;

  constructor(config: DeviceConfig, slots: Slots) {
    this.#config = config;
    this.#slots = slots;
  }

  /** @throws RangeError for a parameter that doesn't exist. */
  shape(param: number): readonly number[] {
    const { params } = this.#config;
    const spec = params[param];
    if (spec === undefined) throw new RangeError(`parameter ${param} does not exist; there are ${params.length}`);
    return spec.shape;
  }

  layers(x: Activations, layers: readonly LinearLayer<Activations>[]): void {
    checkLayers(this.#config.params, x, layers);
  }

  /** @throws RangeError for a token that a row's matrix doesn't have. */
  tokens(batch: StepBatch, view: ViewIndex, param: number): void {
    const [rows = 0] = this.shape(param);
    for (const row of rowsOf(batch, view)) {
      const token = batch.tokens[row] ?? -1;
      if (token >= rows && token >= rows + this.#addedRows(batch, param, row))
        throw new RangeError(`row ${row}: token ${token} does not exist`);
    }
  }

  /** @throws RangeError for a head that doesn't fit its activations, with what experts add to it. */
  outputs(batch: StepBatch, view: ViewIndex, param: number, x: Activations, out: Activations): void {
    const [outputs = 0, inDim] = this.shape(param);
    if (outputs > out.cols || inDim !== x.cols) throw new RangeError(misfit([outputs, inDim ?? 0], param, x, out));
    for (const row of rowsOf(batch, view)) {
      const own = outputs + this.#addedRows(batch, param, row);
      if (own > out.cols) throw new RangeError(`row ${row} has ${own} outputs, there is room for ${out.cols}`);
    }
  }

  /** @throws RangeError for a position that there are no angles for, now or in the steps that follow at once. */
  positions(batch: StepBatch, view: ViewIndex, { headDim, cos }: RopeTable): void {
    const { kv } = this.#config;
    if (headDim !== kv.headDim)
      throw new RangeError(`angles of heads of ${headDim} values, the cache's have ${kv.headDim}`);
    const { positions, ahead = 0 } = batch;
    const most = cos.length / (headDim / 2);
    for (const row of rowsOf(batch, view)) {
      const position = (positions[row] ?? 0) + ahead;
      if (position >= most) throw new RangeError(`row ${row}: position ${position}, there are angles for ${most}`);
    }
  }

  /** Rows that a row's mixture adds to a parameter. */
  #addedRows({ mixtureStart, mixtureSlots }: StepBatch, param: number, row: number): number {
    let rows = 0;
    for (let term = mixtureStart[row] ?? 0; term < (mixtureStart[row + 1] ?? 0); term++) {
      const added = this.#slots.addedRows(mixtureSlots[term] ?? -1, param);
      if (added > 0 && rows > 0)
        throw new RangeError(`row ${row}: two experts of its mixture add rows to parameter ${param}`);
      rows += added;
    }
    return rows;
  }
}

/** Of the batch, that a view has. */
function rowsOf({ tokens, logitRows }: StepBatch, view: ViewIndex): Iterable<number> {
  return view === 1 ? logitRows : tokens.keys();
}
