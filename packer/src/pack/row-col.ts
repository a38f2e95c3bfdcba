/**
 * A plane with a scale for each row and one for each column.
 */

const ITERATIONS = 8;

export interface RowColPlane {
  readonly signs: Uint32Array; // (out, ceil(in / 32))
  readonly rowScale: Float32Array; // (out)
  readonly colScale: Float32Array; // (in)
  /** What the plane leaves of the values, (out, in). */
  readonly left: Float32Array;
}

/**
 * Signs of the values, and r, c that minimise ‖ |V| − r cᵀ ‖ by alternating least squares: r_i = Σ_j c_j |V_ij| / Σ_j c_j², then the same for c. They begin at
 * the row means and at 1, and each step can only lessen the error.
 */
export function rowColPlane(values: Float32Array, out: number, inDim: number): RowColPlane {
  const rows = new Float64Array(out);
  const columns = new Float64Array(inDim).fill(1);
  for (let iteration = 0; iteration < ITERATIONS; iteration++) {
    const columnNorm = squares(columns);
    for (let i = 0; i < out; i++) {
      let sum = 0;
      for (let j = 0; j < inDim; j++) sum += (columns[j] ?? 0) * Math.abs(values[i * inDim + j] ?? 0);
      rows[i] = columnNorm === 0 ? 0 : sum / columnNorm;
    }
    const rowNorm = squares(rows);
    const sums = new Float64Array(inDim);
    for (let i = 0; i < out; i++) {
      const row = rows[i] ?? 0;
      for (let j = 0; j < inDim; j++) sums[j] = (sums[j] ?? 0) + row * Math.abs(values[i * inDim + j] ?? 0);
    }
    for (let j = 0; j < inDim; j++) columns[j] = rowNorm === 0 ? 1 : (sums[j] ?? 0) / rowNorm;
  }
  return takeOff(values, Float32Array.from(rows), Float32Array.from(columns));
}

function takeOff(values: Float32Array, rowScale: Float32Array, colScale: Float32Array): RowColPlane {
  const inDim = colScale.length;
  const words = Math.ceil(inDim / 32);
  const signs = new Uint32Array(rowScale.length * words);
  const left = values.map((value, at) => {
    const [i, j] = [Math.floor(at / inDim), at % inDim];
    const step = (rowScale[i] ?? 0) * (colScale[j] ?? 0);
    if (value < 0) return value + step;
    const word = i * words + (j >> 5);
    signs[word] = ((signs[word] ?? 0) | (1 << (j & 31))) >>> 0;
    return value - step;
  });
  return { signs, rowScale, colScale, left };
}

function squares(values: Float64Array): number {
  return values.reduce((sum, value) => sum + value * value, 0);
}
