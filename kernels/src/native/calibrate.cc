#include "calibrate.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "pool.h"

namespace signpost {
namespace {

// Rows of activations that are added to an element while it is in a register.
constexpr int kTokens = 64;
// Columns of a factor that are taken off what is before them in one pass.
constexpr int kColumns = 32;
// Rows of a matrix that share what is read of a moment or a factor.
constexpr int kRows = 16;
// Rows of a moment that are added up while the sums are in registers.
constexpr int kTerms = 16;
// Columns that are worked on at once: with kTerms rows of them, what fits in a core's first cache.
constexpr int kTile = 256;

inline float sign_of(const uint32_t* signs, int j) { return (signs[j >> 5] >> (j & 31)) & 1 ? 1.0f : -1.0f; }

// sums[k] += Σ_j value(row, j) · matrix_jk over columns begin … end, for some rows at once; j in order from first to last, either way.
template <typename Value>
void add_rows(const KernelTable& kernels, float* sums, const float* matrix, int n, int rows, int begin, int end, int first, int last, Value value) {
  const int step = first <= last ? 1 : -1;
  const int all = (last - first) * step + 1;
  for (int done = 0; done < all; done += kTerms) {
    const int count = std::min(kTerms, all - done);
    const float* x[kTerms];
    for (int b = 0; b < count; b++) x[b] = matrix + static_cast<size_t>(first + (done + b) * step) * n + begin;
    for (int r = 0; r < rows; r++) {
      float a[kTerms];
      for (int b = 0; b < count; b++) a[b] = value(r, first + (done + b) * step);
      kernels.add_products(sums + static_cast<size_t>(r) * n + begin, x, a, count, end - begin);
    }
  }
}

// sums[k] = Σ_j value_j · matrix_jk, j in order, for some rows at once.
template <typename Value>
void multiply_rows(const KernelTable& kernels, float* sums, const float* matrix, int n, int first, int rows, Value value) {
  std::fill(sums, sums + static_cast<size_t>(rows) * n, 0.0f);
  for (int k = 0; k < n; k += kTile)
    add_rows(kernels, sums, matrix, n, rows, k, std::min(n, k + kTile), 0, n - 1, [&](int r, int j) { return value(first + r, j); });
}

// Blocks of kRows rows of 0 … out, spread over threads; each gets `floats` of memory to work in.
template <typename Body> void each_block(int out, size_t floats, Body body) {
  const int slices = std::min((out + kRows - 1) / kRows, Pool::instance().threads() * 4);
  std::vector<float> buffers(static_cast<size_t>(slices) * floats);
  Pool::instance().each(slices, 1, [&](int begin, int end) {
    for (int slice = begin; slice < end; slice++)
      for (int first = slice * kRows; first < out; first += slices * kRows) body(buffers.data() + slice * floats, first, std::min(kRows, out - first));
  });
}

// Copies what is above the diagonal below it, a square at a time.
void mirror(float* matrix, int n) {
  constexpr int kSide = 64;
  const int squares = (n + kSide - 1) / kSide;
  Pool::instance().each(squares, 1, [&](int begin, int end) {
    for (int i = begin * kSide; i < std::min(n, end * kSide); i += kSide)
      for (int k = 0; k <= i; k += kSide)
        for (int row = i; row < std::min(n, i + kSide); row++)
          for (int column = k; column < std::min(row, k + kSide); column++)
            matrix[static_cast<size_t>(row) * n + column] = matrix[static_cast<size_t>(column) * n + row];
  });
}

} // namespace

void add_moment(const KernelTable& kernels, float* moment, const float* x, const float* y, int rows, int m, int n) {
  // A moment of something with itself is symmetric: half of it is computed.
  const bool is_symmetric = x == y && m == n;
  const auto add = [&](int begin, int end) {
    for (int k = 0; k < n; k += kTile) {
      const int width = std::min(kTile, n - k);
      const int stop = is_symmetric ? std::min(end, k + width) : end;
      for (int first = 0; first < rows; first += kTokens) {
        const int count = std::min(kTokens, rows - first);
        const float* ys[kTokens];
        for (int b = 0; b < count; b++) ys[b] = y + static_cast<size_t>(first + b) * n + k;
        for (int i = begin; i < stop; i++) {
          float a[kTokens];
          for (int b = 0; b < count; b++) a[b] = x[static_cast<size_t>(first + b) * m + i];
          kernels.add_products(moment + static_cast<size_t>(i) * n + k, ys, a, count, width);
        }
      }
    }
  };
  // A row from above with one from below: as much for each thread.
  Pool::instance().each((m + 1) / 2, 1, [&](int begin, int end) {
    add(begin, end);
    add(std::max(end, m - end), m - begin);
  });
  if (is_symmetric) mirror(moment, n);
}

int factor_moment(const KernelTable& kernels, float* moment, int n) {
  const auto row = [&](int i) { return moment + static_cast<size_t>(i) * n; };
  // Columns from the last to the first, some at a time: what they have in common with those before them is taken off in one pass.
  std::vector<float> columns(static_cast<size_t>(kColumns) * n);
  // The columns at hand, (n, kColumns): in the matrix each element of one is a page of its own.
  std::vector<float> panel(static_cast<size_t>(kColumns) * n);
  for (int last = n; last > 0; last -= kColumns) {
    const int first = std::max(0, last - kColumns);
    const int count = last - first;
    for (int i = 0; i < last; i++) std::copy(row(i) + first, row(i) + last, panel.data() + static_cast<size_t>(i) * kColumns);
    for (int c = count - 1; c >= 0; c--) {
      const auto at = [&](int i) { return panel.data() + static_cast<size_t>(i) * kColumns; };
      const float pivot = at(first + c)[c];
      if (!(pivot > 0) || !std::isfinite(pivot)) return first + c;
      const float diagonal = std::sqrt(pivot);
      float* column = columns.data() + static_cast<size_t>(count - 1 - c) * n;
      for (int i = 0; i < first + c; i++) column[i] = at(i)[c] / diagonal;
      column[first + c] = diagonal;
      for (int i = 0; i <= first + c; i++) at(i)[c] = column[i];
      for (int i = 0; i < first + c; i++)
        for (int k = 0; k < c; k++) at(i)[k] -= column[i] * column[first + k];
    }
    for (int i = 0; i < last; i++) std::copy(panel.data() + static_cast<size_t>(i) * kColumns, panel.data() + static_cast<size_t>(i) * kColumns + count, row(i) + first);
    const auto subtract = [&](int begin, int end) {
      for (int k = 0; k < first; k += kTile) {
        const int width = std::min(kTile, first - k);
        const float* x[kColumns];
        for (int b = 0; b < count; b++) x[b] = columns.data() + static_cast<size_t>(b) * n + k;
        for (int i = begin; i < std::min(end, k + width); i++) {
          float a[kColumns];
          for (int b = 0; b < count; b++) a[b] = -columns[static_cast<size_t>(b) * n + i];
          kernels.add_products(row(i) + k, x, a, count, width);
        }
      }
    };
    Pool::instance().each((first + 1) / 2, 1, [&](int begin, int end) {
      subtract(begin, end);
      subtract(std::max(end, first - end), first - begin);
    });
  }
  mirror(moment, n);
  return -1;
}

void choose_signs(const KernelTable& kernels, const FeedbackJob& job) {
  const size_t words = (static_cast<size_t>(job.n) + 31) / 32;
  std::fill(job.signs, job.signs + job.out * words, 0u);
  std::vector<float> inverse(job.n);
  for (int k = 0; k < job.n; k++) inverse[k] = 1.0f / job.factor[static_cast<size_t>(k) * job.n + k];
  each_block(job.out, static_cast<size_t>(kRows + 1) * job.n, [&](float* left, int first, int rows) {
    float* feedback = left + static_cast<size_t>(kRows) * job.n;
    const float* target = job.target + static_cast<size_t>(first) * job.n;
    std::copy(target, target + static_cast<size_t>(rows) * job.n, left);
    for (int j = 0; j < job.n; j++) {
      const float* factor = job.factor + static_cast<size_t>(j) * job.n;
      for (int k = j + 1; k < job.n; k++) feedback[k] = factor[k] * inverse[k];
      for (int r = 0; r < rows; r++) {
        float* row = left + static_cast<size_t>(r) * job.n;
        const bool positive = row[j] >= 0.0f;
        if (positive) job.signs[(first + r) * words + j / 32] |= 1u << (j & 31);
        // What the weight itself misses, not what it was asked to make up for.
        const float weight = target[static_cast<size_t>(r) * job.n + j];
        const float error = positive ? weight - job.scale[first + r] : weight + job.scale[first + r];
        kernels.add_scaled(row + j + 1, feedback + j + 1, error, job.n - j - 1);
      }
    }
  });
}

void weighted_products(const KernelTable& kernels, const ProductsJob& job) {
  const size_t words = (static_cast<size_t>(job.n) + 31) / 32;
  const auto target = [&](int i, int j) { return job.target[static_cast<size_t>(i) * job.n + j]; };
  const auto sign = [&](int i, int j) { return sign_of(job.signs + i * words, j); };
  each_block(job.out, static_cast<size_t>(kRows) * job.n, [&](float* sums, int first, int rows) {
    const auto dot = [&](int r, auto value) {
      double total = 0;
      for (int k = 0; k < job.n; k++) total += static_cast<double>(sums[static_cast<size_t>(r) * job.n + k]) * value(first + r, k);
      return total;
    };
    if (job.signs == nullptr) {
      multiply_rows(kernels, sums, job.moment, job.n, first, rows, target);
      for (int r = 0; r < rows; r++) job.target_target[first + r] = dot(r, target);
      return;
    }
    multiply_rows(kernels, sums, job.moment, job.n, first, rows, sign);
    for (int r = 0; r < rows; r++) {
      job.sign_target[first + r] = dot(r, target);
      job.sign_sign[first + r] = dot(r, sign);
    }
  });
}

void refine_signs(const KernelTable& kernels, const RefineJob& job) {
  const size_t words = (static_cast<size_t>(job.n) + 31) / 32;
  each_block(job.out, static_cast<size_t>(kRows) * job.n, [&](float* gradients, int first, int rows) {
    multiply_rows(kernels, gradients, job.moment, job.n, first, rows, [&](int i, int j) {
      return job.target[static_cast<size_t>(i) * job.n + j] - job.scale[i] * sign_of(job.signs + i * words, j);
    });
    bool changed = true;
    for (int sweep = 0; sweep < job.sweeps && changed; sweep++) {
      changed = false;
      for (int j = 0; j < job.n; j++) {
        const float* moment = job.moment + static_cast<size_t>(j) * job.n;
        for (int r = 0; r < rows; r++) {
          float* gradient = gradients + static_cast<size_t>(r) * job.n;
          uint32_t* signs = job.signs + (first + r) * words;
          const float step = 2.0f * job.scale[first + r] * sign_of(signs, j);
          if (!(2.0f * step * gradient[j] + step * step * moment[j] < 0)) continue;
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
  each_block(job.out, static_cast<size_t>(kRows) * n, [&](float* sums, int first, int rows) {
    multiply_rows(kernels, sums, job.cross, n, first, rows, [&](int i, int j) { return job.weights[at(i) + j]; });
    if (job.drift != nullptr)
      for (int r = 0; r < rows; r++) kernels.add_scaled(sums + at(r), job.drift + at(first + r), 1.0f, n);
    const auto solved = [&](int r, int j) { return -sums[at(r) + j]; };
    // y Uᵀ = w D + drift, from the last columns; then g U = y, from the first.
    for (int end = n; end > 0; end -= kTile) {
      const int begin = std::max(0, end - kTile);
      if (end < n) add_rows(kernels, sums, job.factor, n, rows, begin, end, n - 1, end, solved);
      for (int j = end - 1; j >= begin; j--)
        for (int r = 0; r < rows; r++) {
          float* row = sums + at(r);
          row[j] /= job.factor[at(j) + j];
          kernels.add_scaled(row + begin, job.factor + at(j) + begin, -row[j], j - begin);
        }
    }
    for (int begin = 0; begin < n; begin += kTile) {
      const int end = std::min(n, begin + kTile);
      if (begin > 0) add_rows(kernels, sums, job.factor, n, rows, begin, end, 0, begin - 1, solved);
      for (int j = begin; j < end; j++)
        for (int r = 0; r < rows; r++) {
          float* row = sums + at(r);
          row[j] /= job.factor[at(j) + j];
          kernels.add_scaled(row + j + 1, job.factor + at(j) + j + 1, -row[j], end - j - 1);
        }
    }
    for (int r = 0; r < rows; r++) {
      float* target = job.target + at(first + r);
      for (int k = 0; k < n; k++) target[k] += sums[at(r) + k];
    }
  });
}

} // namespace signpost
