#include "calibrate.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "pool.h"

namespace signpost {
namespace {

// Rows of activations, or columns of a factor, that are added to an element while it is in a register.
constexpr int kBlock = 16;
// Rows of a matrix that share what is read of a moment or a factor.
constexpr int kRows = 16;

inline double sign_of(const uint32_t* signs, int j) { return (signs[j >> 5] >> (j & 31)) & 1 ? 1.0 : -1.0; }

// sums[k] += Σ_j value_j · matrix_jk, j in order, for some rows at once.
template <typename Value>
void multiply_rows(const KernelTable& kernels, double* sums, const double* matrix, int n, int first, int rows, Value value) {
  std::fill(sums, sums + static_cast<size_t>(rows) * n, 0.0);
  for (int j = 0; j < n; j++)
    for (int r = 0; r < rows; r++) kernels.add_scaled(sums + static_cast<size_t>(r) * n, matrix + static_cast<size_t>(j) * n, value(first + r, j), n);
}

// Blocks of kRows rows of 0 … out, spread over threads; each gets `doubles` of memory to work in.
template <typename Body> void each_block(int out, size_t doubles, Body body) {
  const int slices = std::min((out + kRows - 1) / kRows, Pool::instance().threads() * 4);
  std::vector<double> buffers(static_cast<size_t>(slices) * doubles);
  Pool::instance().each(slices, 1, [&](int begin, int end) {
    for (int slice = begin; slice < end; slice++)
      for (int first = slice * kRows; first < out; first += slices * kRows) body(buffers.data() + slice * doubles, first, std::min(kRows, out - first));
  });
}

} // namespace

void add_moment(const KernelTable& kernels, double* moment, const float* x, const float* y, int rows, int m, int n) {
  Pool::instance().each(m, 1, [&](int begin, int end) {
    for (int first = 0; first < rows; first += kBlock) {
      const int count = std::min(kBlock, rows - first);
      const float* ys[kBlock];
      for (int b = 0; b < count; b++) ys[b] = y + static_cast<size_t>(first + b) * n;
      for (int i = begin; i < end; i++) {
        double a[kBlock];
        for (int b = 0; b < count; b++) a[b] = x[static_cast<size_t>(first + b) * m + i];
        double* out = moment + static_cast<size_t>(i) * n;
        kernels.add_products(out, ys, a, count, n);
      }
    }
  });
}

int factor_moment(const KernelTable& kernels, double* moment, int n) {
  const auto row = [&](int i) { return moment + static_cast<size_t>(i) * n; };
  // Columns from the last to the first, some at a time: what they have in common with those before them is taken off in one pass.
  std::vector<double> columns(static_cast<size_t>(kBlock) * n);
  for (int last = n; last > 0; last -= kBlock) {
    const int first = std::max(0, last - kBlock);
    const int count = last - first;
    for (int c = last - 1; c >= first; c--) {
      const double pivot = row(c)[c];
      if (!(pivot > 0) || !std::isfinite(pivot)) return c;
      const double diagonal = std::sqrt(pivot);
      double* column = columns.data() + static_cast<size_t>(last - 1 - c) * n;
      for (int i = 0; i < c; i++) column[i] = row(i)[c] / diagonal;
      column[c] = diagonal;
      for (int i = 0; i <= c; i++) row(i)[c] = column[i];
      for (int i = 0; i < c; i++)
        for (int k = first; k < c; k++) row(i)[k] -= column[i] * column[k];
    }
    Pool::instance().each(first, 1, [&](int begin, int end) {
      for (int i = begin; i < end; i++) {
        const double* x[kBlock];
        double a[kBlock];
        for (int b = 0; b < count; b++) {
          x[b] = columns.data() + static_cast<size_t>(b) * n;
          a[b] = x[b][i];
        }
        kernels.subtract_products(row(i), x, a, count, first);
      }
    });
  }
  for (int i = 1; i < n; i++)
    for (int k = 0; k < i; k++) row(i)[k] = row(k)[i];
  return -1;
}

void choose_signs(const KernelTable& kernels, const FeedbackJob& job) {
  const size_t words = (static_cast<size_t>(job.n) + 31) / 32;
  std::fill(job.signs, job.signs + job.out * words, 0u);
  std::vector<double> diagonal(job.n);
  for (int k = 0; k < job.n; k++) diagonal[k] = job.factor[static_cast<size_t>(k) * job.n + k];
  each_block(job.out, (static_cast<size_t>(kRows + 1) * job.n + 1) / 2, [&](double* buffer, int first, int rows) {
    float* left = reinterpret_cast<float*>(buffer);
    float* feedback = left + static_cast<size_t>(kRows) * job.n;
    const float* target = job.target + static_cast<size_t>(first) * job.n;
    std::copy(target, target + static_cast<size_t>(rows) * job.n, left);
    for (int j = 0; j < job.n; j++) {
      const double* factor = job.factor + static_cast<size_t>(j) * job.n;
      for (int k = j + 1; k < job.n; k++) feedback[k] = static_cast<float>(factor[k] / diagonal[k]);
      for (int r = 0; r < rows; r++) {
        float* row = left + static_cast<size_t>(r) * job.n;
        const bool positive = row[j] >= 0.0f;
        if (positive) job.signs[(first + r) * words + j / 32] |= 1u << (j & 31);
        // What the weight itself misses, not what it was asked to make up for.
        const float weight = target[static_cast<size_t>(r) * job.n + j];
        const float error = positive ? weight - job.scale[first + r] : weight + job.scale[first + r];
        kernels.add_feedback(row + j + 1, feedback + j + 1, error, job.n - j - 1);
      }
    }
  });
}

void weighted_products(const KernelTable& kernels, const ProductsJob& job) {
  const size_t words = (static_cast<size_t>(job.n) + 31) / 32;
  const auto target = [&](int i, int j) { return static_cast<double>(job.target[static_cast<size_t>(i) * job.n + j]); };
  const auto sign = [&](int i, int j) { return sign_of(job.signs + i * words, j); };
  each_block(job.out, static_cast<size_t>(kRows) * job.n, [&](double* sums, int first, int rows) {
    const auto dot = [&](int r, auto value) {
      double total = 0;
      for (int k = 0; k < job.n; k++) total += sums[static_cast<size_t>(r) * job.n + k] * value(first + r, k);
      return total;
    };
    multiply_rows(kernels, sums, job.moment, job.n, first, rows, sign);
    for (int r = 0; r < rows; r++) {
      job.sign_target[first + r] = dot(r, target);
      job.sign_sign[first + r] = dot(r, sign);
    }
    if (job.target_target == nullptr) return;
    multiply_rows(kernels, sums, job.moment, job.n, first, rows, target);
    for (int r = 0; r < rows; r++) job.target_target[first + r] = dot(r, target);
  });
}

void refine_signs(const KernelTable& kernels, const RefineJob& job) {
  const size_t words = (static_cast<size_t>(job.n) + 31) / 32;
  each_block(job.out, static_cast<size_t>(kRows) * job.n, [&](double* gradients, int first, int rows) {
    multiply_rows(kernels, gradients, job.moment, job.n, first, rows, [&](int i, int j) {
      const double scale = job.scale[i];
      const double weight = job.target[static_cast<size_t>(i) * job.n + j];
      return weight - scale * sign_of(job.signs + i * words, j);
    });
    for (int r = 0; r < rows; r++) {
      double* gradient = gradients + static_cast<size_t>(r) * job.n;
      uint32_t* signs = job.signs + (first + r) * words;
      bool changed = true;
      for (int sweep = 0; sweep < job.sweeps && changed; sweep++) {
        changed = false;
        for (int j = 0; j < job.n; j++) {
          const double* moment = job.moment + static_cast<size_t>(j) * job.n;
          const double step = 2.0 * job.scale[first + r] * sign_of(signs, j);
          if (!(2.0 * step * gradient[j] + step * step * moment[j] < 0)) continue;
          signs[j / 32] ^= 1u << (j & 31);
          kernels.add_scaled(gradient, moment, step, job.n);
          changed = true;
        }
      }
    }
  });
}

void correct_targets(const KernelTable& kernels, const CorrectionJob& job) {
  const int n = job.n;
  const auto at = [n](int i) { return static_cast<size_t>(i) * n; };
  each_block(job.out, static_cast<size_t>(kRows) * n, [&](double* sums, int first, int rows) {
    multiply_rows(kernels, sums, job.cross, n, first, rows, [&](int i, int j) { return static_cast<double>(job.weights[at(i) + j]); });
    if (job.drift != nullptr)
      for (int r = 0; r < rows; r++) kernels.add_scaled(sums + at(r), job.drift + at(first + r), 1.0, n);
    // y Uᵀ = w D + drift, from the last column; then g U = y, from the first.
    for (int j = n - 1; j >= 0; j--)
      for (int r = 0; r < rows; r++) {
        double* row = sums + at(r);
        row[j] /= job.factor[at(j) + j];
        kernels.add_scaled(row, job.factor + at(j), -row[j], j);
      }
    for (int j = 0; j < n; j++)
      for (int r = 0; r < rows; r++) {
        double* row = sums + at(r);
        row[j] /= job.factor[at(j) + j];
        kernels.add_scaled(row + j + 1, job.factor + at(j) + j + 1, -row[j], n - j - 1);
      }
    for (int r = 0; r < rows; r++) {
      float* target = job.target + at(first + r);
      for (int k = 0; k < n; k++) target[k] = static_cast<float>(target[k] + sums[at(r) + k]);
    }
  });
}

} // namespace signpost
