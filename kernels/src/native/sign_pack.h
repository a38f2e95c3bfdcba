// The packer's inner loop: a difference of two matrices as 1-bit planes.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels.h"

namespace signpost {

struct SignPackJob {
  const void* base;
  Dtype base_dtype;
  const void* tuned;
  Dtype tuned_dtype;
  int out;
  int in;
  int planes;
  bool per_row;
  uint32_t* const* signs;   // [planes] (out, ceil(in / 32))
  float* const* row_scales; // [planes] (out) or (1)
};

struct SignPackResult {
  double difference_squared; // Σ Δ²
  double residual_squared;   // Σ (Δ − Δ̂)²
  bool finite;
};

// Differences and what each plane leaves are float32; sums are float64, along a row element by element, then row by row.
SignPackResult sign_pack(const KernelTable& kernels, const SignPackJob& job);

} // namespace signpost
