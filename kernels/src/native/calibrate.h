// The packer's calibration: second moments of activations, their triangular factor, and signs and scales chosen by them.
//
// Every element's sum has one order, whatever the number of threads, and multiply-adds are not fused and all is float32: plain TypeScript that adds in this order
// gets the same bits. Memory: some rows a thread. Throws std::bad_alloc.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels.h"

namespace signpost {

// moment (m, n) += Σ_row x_row y_rowᵀ, rows in order; x (rows, m), y (rows, n).
void add_moment(const KernelTable& kernels, float* moment, const float* x, const float* y, int rows, int m, int n);

// The upper triangular U with moment = U Uᵀ, in place, and its mirror Uᵀ below the diagonal, so that rows of both are at hand. Returns the first column whose pivot is not
// positive, or −1.
int factor_moment(const KernelTable& kernels, float* moment, int n);

// Columns are chosen from left to right, each with what the error of those before it adds: with H = U Uᵀ, error e_j adds e_j U_jk (1 / U_kk) to
// column k, and the row e = target − scale · sign then has the least e H eᵀ that such a greedy choice can reach.
struct FeedbackJob {
  const float* target;  // (out, n)
  const float* factor; // (n, n): U, used from the diagonal on
  const float* scale;   // (out)
  uint32_t* signs;      // (out, ceil(n / 32))
  int out;
  int n;
};
void choose_signs(const KernelTable& kernels, const FeedbackJob& job);

// For each row sᵀ H t and sᵀ H s, or without signs tᵀ H t; s its signs and t its target.
struct ProductsJob {
  const float* target;   // (out, n)
  const uint32_t* signs; // (out, ceil(n / 32)), or null
  const float* moment;   // (n, n)
  double* sign_target;   // (out)
  double* sign_sign;     // (out)
  double* target_target; // (out)
  int out;
  int n;
};
void weighted_products(const KernelTable& kernels, const ProductsJob& job);

// Flips signs while that lessens a row's e H eᵀ, e = target − scale · sign: columns from left to right, at most `sweeps` times.
struct RefineJob {
  const float* target;  // (out, n)
  const float* scale;   // (out)
  const float* moment; // (n, n): H
  uint32_t* signs;      // (out, ceil(n / 32)), changed in place
  int out;
  int n;
  int sweeps;
};
void refine_signs(const KernelTable& kernels, const RefineJob& job);

// target += (w D + drift) H⁻¹ for each row w of the weights, with H = U Uᵀ.
struct CorrectionJob {
  float* target;        // (out, n), changed in place
  const float* weights; // (out, n)
  const float* cross;  // (n, n): D
  const float* factor; // (n, n): U, and Uᵀ below the diagonal
  const float* drift;  // (out, n), or null
  int out;
  int n;
};
void correct_targets(const KernelTable& kernels, const CorrectionJob& job);

} // namespace signpost
