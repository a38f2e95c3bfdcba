#include "group_pack.h"

#include "pool.h"

namespace signpost {
namespace {

// Rows that are worth another thread.
constexpr int kGrainRows = 4;

} // namespace

void group_pack(const KernelTable& kernels, const GroupPackJob& job) {
  const size_t groups = groups_of(job.in);
  const size_t row_values = groups * kGroupColumns / (job.format == Dtype::Q8 ? 1 : 2);
  const size_t from = row_bytes(job.dtype, job.in);
  Pool::instance().each(job.out, kGrainRows, [&](int begin, int end) {
    for (size_t j = begin; j < static_cast<size_t>(end); j++)
      kernels.pack_groups(job.values + j * row_values, job.scales + j * groups, job.format, static_cast<const char*>(job.data) + j * from, job.dtype, job.in);
  });
}

} // namespace signpost
