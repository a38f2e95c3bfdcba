/**
 * The packer's calibration kernels: second moments of activations, and signs and scales chosen by them.
 *
 * Every element's sum has one order, whatever the number of threads, nothing is fused and all is float32: plain TypeScript that adds in this order gets the same bits.
 * H is a symmetric, positive definite matrix (n, n); s a row of signs, t a row of targets. All throw RangeError for sizes that don't fit.
 */
export interface CalibrationKernels {
  /** moment += Σ_row x_row y_rowᵀ */
  addMoment(
    moment: Float32Array, // (m, n)
    x: Float32Array, // (rows, m)
    y: Float32Array, // (rows, n)
    m: number,
    n: number,
  ): void;
  /**
   * Turns H into the upper triangular U with H = U Uᵀ, in place, with its mirror Uᵀ below the diagonal. Gives the first column without a positive pivot,
   * or -1.
   */
  factorMoment(moment: Float32Array, n: number): number;
  /**
   * Signs from left to right, each of the target and what the errors before it add to it: with e = target − scale · sign, column k is asked to be
   * t_k + Σ_{j<k} e_j U_jk (1 / U_kk). With H = U Uᵀ that is the greedy least e H eᵀ.
   */
  chooseSigns(
    target: Float32Array, // (out, n)
    factor: Float32Array, // (n, n): U, used from the diagonal on
    scale: Float32Array, // (out)
    signs: Uint32Array, // (out, ceil(n / 32))
    out: number,
    n: number,
  ): void;
  /** Flips single signs, columns from left to right, while that lessens a row's e H eᵀ; at most `sweeps` times over. */
  refineSigns(
    target: Float32Array, // (out, n)
    signs: Uint32Array, // (out, ceil(n / 32)), changed in place
    scale: Float32Array, // (out)
    moment: Float32Array, // (n, n)
    out: number,
    n: number,
    sweeps: number,
  ): void;
  /** target += (w D + drift) H⁻¹ for each row w of the weights, H = U Uᵀ. */
  correctTargets(
    target: Float32Array, // (out, n), changed in place
    weights: Float32Array, // (out, n)
    cross: Float32Array, // (n, n): D
    factor: Float32Array, // (n, n): U, and Uᵀ below the diagonal
    drift: Float32Array | undefined, // (out, n)
    out: number,
    n: number,
  ): void;
  /** For each row sHtᵀ and sHsᵀ. */
  weightedProducts(
    target: Float32Array, // (out, n)
    signs: Uint32Array, // (out, ceil(n / 32))
    moment: Float32Array, // (n, n)
    out: number,
    n: number,
    signTarget: Float64Array, // (out)
    signSign: Float64Array, // (out)
  ): void;
  /** For each row tHtᵀ. */
  weightedSquares(
    target: Float32Array, // (out, n)
    moment: Float32Array, // (n, n)
    out: number,
    n: number,
    squares: Float64Array, // (out)
  ): void;
}
