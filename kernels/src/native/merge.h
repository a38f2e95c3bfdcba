// The packer's merging: differences, the histogram that a trim goes by, and TIES' election. Every step is rounded to float32 in mergekit's order.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels.h"

namespace signpost {

// out = tuned − base, n elements.
void subtract(const KernelTable& kernels, float* out, const void* base, Dtype base_dtype, const void* tuned, Dtype tuned_dtype, int n);

// counts[h] += how many magnitudes have the bits h: upper halves, or where `upper` is not negative, the lower halves of those with that upper half.
void count_magnitudes(uint32_t* counts, const float* values, int n, int upper);

// At each element the sign of Σ weight · value is elected (+ where it is zero); the terms of that sign are added up and, with `normalize`, divided by the sum
// of their weights.
struct ElectJob {
  float* out;                 // (n)
  const float* const* values; // (terms), each (n)
  const float* weights;       // (terms)
  int terms;
  int n;
  bool normalize;
};
void elect_and_merge(const ElectJob& job);

} // namespace signpost
