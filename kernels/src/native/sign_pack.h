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
  double* absolute;         // (planes, out): Σ |left| of a row before the plane
  double* squared;          // (planes + 1, out): Σ left² of a row before the plane; the last is what all of them leave
};

// Differences and what each plane leaves are float32; sums are float64, along a row in kSumLanes lanes. Memory: one row a thread.
// Throws std::bad_alloc.
void sign_pack(const KernelTable& kernels, const SignPackJob& job);

} // namespace signpost
