#include "sign_pack.h"

#include <algorithm>
#include <vector>

#include "pool.h"

namespace signpost {
namespace {

const void* row_start(const void* data, Dtype dtype, int row, int in) {
  return static_cast<const char*>(data) + static_cast<size_t>(row) * in * (dtype == Dtype::F32 ? 4 : 2);
}

} // namespace

void sign_pack(const KernelTable& kernels, const SignPackJob& job) {
  const size_t words = (static_cast<size_t>(job.in) + 31) / 32;
  const int slices = std::min(job.out, Pool::instance().threads() * 4);
  std::vector<float> buffers(static_cast<size_t>(slices) * job.in);
  const auto scale_of = [&](int p, int j) { return job.row_scales[p][job.per_row ? j : 0]; };
  const auto each_row = [&](auto body) {
    Pool::instance().each(slices, 1, [&](int begin, int end) {
      for (int slice = begin; slice < end; slice++) {
        float* left = buffers.data() + static_cast<size_t>(slice) * job.in;
        for (int j = slice; j < job.out; j += slices) body(left, j);
      }
    });
  };
  // A scale for the whole matrix is known only after all its rows: what is left of them is then computed again, not kept.
  const auto left_before = [&](float* left, int j, int plane) {
    kernels.difference(left, row_start(job.base, job.base_dtype, j, job.in), job.base_dtype, row_start(job.tuned, job.tuned_dtype, j, job.in),
                       job.tuned_dtype, job.in);
    for (int p = 0; p < plane; p++) kernels.subtract_plane(left, job.in, scale_of(p, j));
  };
  const auto pack = [&](const float* left, int j, int p) {
    const RowSums sums = kernels.pack_row(left, job.in, job.signs[p] + j * words);
    job.absolute[static_cast<size_t>(p) * job.out + j] = sums.absolute;
    job.squared[static_cast<size_t>(p) * job.out + j] = sums.squared;
  };
  const auto finish = [&](const float* left, int j) { job.squared[static_cast<size_t>(job.planes) * job.out + j] = kernels.sum_squares(left, job.in); };
  if (job.per_row) {
    each_row([&](float* left, int j) {
      left_before(left, j, 0);
      for (int p = 0; p < job.planes; p++) {
        pack(left, j, p);
        job.row_scales[p][j] = static_cast<float>(job.absolute[static_cast<size_t>(p) * job.out + j] / job.in);
        kernels.subtract_plane(left, job.in, job.row_scales[p][j]);
      }
      finish(left, j);
    });
    return;
  }
  for (int p = 0; p < job.planes; p++) {
    each_row([&](float* left, int j) {
      left_before(left, j, p);
      pack(left, j, p);
    });
    double total = 0;
    for (int j = 0; j < job.out; j++) total += job.absolute[static_cast<size_t>(p) * job.out + j];
    job.row_scales[p][0] = static_cast<float>(total / (static_cast<double>(job.out) * job.in));
  }
  each_row([&](float* left, int j) {
    left_before(left, j, job.planes);
    finish(left, j);
  });
}

} // namespace signpost
