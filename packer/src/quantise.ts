/**
 * INT8 by row.
 */
export interface QuantisedRows {
  readonly weight: Int8Array; // (rows, dim)
  readonly scale: Float32Array; // (rows)
}

/** Symmetric: the largest value of a row becomes ±127. */
export function quantiseRows(values: Float32Array, rows: number, dim: number): QuantisedRows {
  const weight = new Int8Array(rows * dim);
  const scale = new Float32Array(rows);
  for (let row = 0; row < rows; row++) {
    const own = values.subarray(row * dim, (row + 1) * dim);
    const largest = own.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
    const step = largest === 0 ? 1 : largest / 127;
    scale[row] = step;
    own.forEach((value, i) => {
      weight[row * dim + i] = Math.round(value / step);
    });
  }
  return { weight, scale };
}
