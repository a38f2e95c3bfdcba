// A matrix quantised as a GPU holds it: rows one after the other, each in whole groups of 32 columns.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels.h"

namespace signpost {

struct GroupPackJob {
  uint8_t* values;   // (out, groups of 32 columns): Q8 a byte each, Q4 two in a byte, the first in its low half; zeros after the last column
  uint16_t* scales;  // (out, groups) F16
  Dtype format;      // Q8 or Q4
  const void* data;  // (out, in) BF16, F16 or F32
  Dtype dtype;
  int out;
  int in;
};
void group_pack(const KernelTable& kernels, const GroupPackJob& job);

} // namespace signpost
