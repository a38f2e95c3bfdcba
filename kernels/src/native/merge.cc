#include "merge.h"

#include <algorithm>
#include <cstring>

#include "pool.h"

namespace signpost {
namespace {

// Elements that are worth another thread.
constexpr int kPiece = 8192;

template <typename Body> void each_piece(int n, Body body) {
  Pool::instance().each((n + kPiece - 1) / kPiece, 1, [&](int begin, int end) { body(begin * kPiece, std::min(n, end * kPiece)); });
}

const void* element(const void* data, Dtype dtype, int i) { return static_cast<const char*>(data) + static_cast<size_t>(i) * (dtype == Dtype::F32 ? 4 : 2); }

} // namespace

void subtract(const KernelTable& kernels, float* out, const void* base, Dtype base_dtype, const void* tuned, Dtype tuned_dtype, int n) {
  each_piece(n, [&](int begin, int end) {
    kernels.difference(out + begin, element(base, base_dtype, begin), base_dtype, element(tuned, tuned_dtype, begin), tuned_dtype, end - begin);
  });
}

void count_magnitudes(uint32_t* counts, const float* values, int n, int upper) {
  for (int i = 0; i < n; i++) {
    uint32_t bits;
    std::memcpy(&bits, values + i, 4);
    bits &= 0x7fffffff;
    if (upper < 0) counts[bits >> 16]++;
    else if (static_cast<int>(bits >> 16) == upper) counts[bits & 0xffff]++;
  }
}

void elect_and_merge(const ElectJob& job) {
  each_piece(job.n, [&](int begin, int end) {
    for (int i = begin; i < end; i++) {
      float elected = 0;
      for (int t = 0; t < job.terms; t++) elected += job.values[t][i] * job.weights[t];
      const bool positive = elected >= 0;
      float sum = 0;
      float weight = 0;
      for (int t = 0; t < job.terms; t++) {
        const float value = job.values[t][i] * job.weights[t];
        const bool counts = value != 0 && (value > 0) == positive;
        sum = counts ? sum + value : sum;
        weight = counts ? weight + job.weights[t] : weight;
      }
      job.out[i] = job.normalize && weight != 0 ? sum / weight : sum;
    }
  });
}

} // namespace signpost
