#include "sign_pack.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "pool.h"

namespace signpost {
namespace {

size_t element_bytes(Dtype dtype) { return dtype == Dtype::F32 ? 4 : 2; }

const void* row_start(const void* data, Dtype dtype, int row, int in) {
  return static_cast<const char*>(data) + static_cast<size_t>(row) * in * element_bytes(dtype);
}

struct RowSums {
  double absolute = 0;
  double squared = 0;
};

RowSums pack_row(const float* left, int in, uint32_t* signs) {
  RowSums sums;
  for (int i = 0; i < in; i += 32) {
    const int n = in - i < 32 ? in - i : 32;
    uint32_t word = 0;
    for (int b = 0; b < n; b++) word |= static_cast<uint32_t>(left[i + b] >= 0.0f) << b;
    signs[i / 32] = word;
  }
  for (int i = 0; i < in; i++) {
    sums.absolute += std::fabs(static_cast<double>(left[i]));
    sums.squared += static_cast<double>(left[i]) * left[i];
  }
  return sums;
}

void subtract_plane(float* left, int in, float scale) {
  for (int i = 0; i < in; i++) left[i] = left[i] >= 0.0f ? left[i] - scale : left[i] + scale;
}

double squared(const float* left, int in) {
  double sum = 0;
  for (int i = 0; i < in; i++) sum += static_cast<double>(left[i]) * left[i];
  return sum;
}

} // namespace

SignPackResult sign_pack(const KernelTable& kernels, const SignPackJob& job) {
  const size_t words = (static_cast<size_t>(job.in) + 31) / 32;
  std::vector<float> left(static_cast<size_t>(job.out) * job.in);
  std::vector<double> absolute(job.out), first(job.out), rest(job.out);
  const auto row = [&](int j) { return left.data() + static_cast<size_t>(j) * job.in; };
  const auto each_row = [&](auto body) {
    Pool::instance().each(job.out, 8, [&](int begin, int end) {
      for (int j = begin; j < end; j++) body(j);
    });
  };
  each_row([&](int j) {
    kernels.difference(row(j), row_start(job.base, job.base_dtype, j, job.in), job.base_dtype,
                       row_start(job.tuned, job.tuned_dtype, j, job.in), job.tuned_dtype, job.in);
  });
  for (int p = 0; p < job.planes; p++) {
    each_row([&](int j) {
      const RowSums sums = pack_row(row(j), job.in, job.signs[p] + j * words);
      absolute[j] = sums.absolute;
      if (p == 0) first[j] = sums.squared;
    });
    if (job.per_row) {
      for (int j = 0; j < job.out; j++) job.row_scales[p][j] = static_cast<float>(absolute[j] / job.in);
    } else {
      double total = 0;
      for (double value : absolute) total += value;
      job.row_scales[p][0] = static_cast<float>(total / (static_cast<double>(job.out) * job.in));
    }
    each_row([&](int j) { subtract_plane(row(j), job.in, job.row_scales[p][job.per_row ? j : 0]); });
  }
  each_row([&](int j) { rest[j] = squared(row(j), job.in); });
  SignPackResult result = {0, 0, true};
  for (int j = 0; j < job.out; j++) {
    result.difference_squared += first[j];
    result.residual_squared += rest[j];
  }
  result.finite = std::isfinite(result.difference_squared);
  return result;
}

} // namespace signpost
