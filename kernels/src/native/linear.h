// Base matmul with deltas. Included by kernels.cc alone.
//
// All rows share the base's weights; what a mixture's 1-bit planes add is computed apart, from the signs (signs.h), and an exact difference is
// added to the weights of its rows alone, or where those are quantised computed apart, too.
//
// Every sum has one order. Of quantised weights it is that of integers.h; of others lane l of the only accumulator takes elements l, l + lanes, … of the row (zeros after the last), and the lanes
// are added by `reduce`; then bias, then the mixture's planes one after the other. It does not depend on how many rows or outputs are computed
// together, nor on which of the two paths below does it.
#pragma once
#include "kernels.h"
#include "signs.h"
#include "simd.h"
#include "weights.h"

namespace signpost {
namespace {

#if defined(SIGNPOST_AVX512) || defined(SIGNPOST_NEON)
constexpr int kRegisters = 32;
#else
constexpr int kRegisters = 16;
#endif
// Sums held in registers, beside the weights and activations that are added to them.
constexpr int kTileSums = kRegisters == 32 ? 24 : 10;
constexpr int kTileOutputs = 4;
// Rows of a tile that takes its weights straight from memory: each pays for widening them.
constexpr int kDirectTileRows = kRegisters == 32 ? 6 : 4;
// Rows of quantised weights: sums beside the weights of a group; and rows that stay in the second-level cache while all weights pass by.
constexpr int kIntegerTileRows = kRegisters == 32 ? 8 : 4;
constexpr size_t kIntegerBlockBytes = 512 * 1024;
// Outputs computed at a time from one row: as few as keep the processor adding, for the fewer the streams, the better the hardware follows them. One needs no help.
// A row that weights would drive out of the first-level cache is read for more of them at a time.
constexpr int kRowOutputs = 16 / kLanes;
constexpr int kShortColumns = 3072;

// A panel holds the weights of a tile of outputs as float32, for this many columns: 64 KiB. A tile of rows stays in the first-level cache while the
// panel passes by, a block of them in the second.
constexpr int kPanelColumns = 1024;
constexpr int kPanelRows = kRegisters == 32 ? 6 : 2;
constexpr int kBlockRows = 96;

// No weights but an exact difference: it is added to what has been computed.
struct None {
  static constexpr bool kIsNone = true;
};

// Rows that see the same weights: the base's, or those of one exact group. Where `bias` is null, `biases` has each row's own.
struct Rows {
  const int* rows;
  int count;
  const float* bias;
  const float* const* biases;
  const RowGroup* exact; // null for the base

  Rows from(int first, int n) const { return {rows + first, n, bias, biases == nullptr ? nullptr : biases + first, exact}; }
};

inline const float* input(const LinearJob& job, const Rows& rows, int r) { return job.x + static_cast<size_t>(rows.rows[r]) * job.x_stride; }

// y of some consecutive outputs of one row.
inline void finish(const LinearJob& job, const Rows& rows, int r, int j, const float* sums, int outputs) {
  const float* bias = rows.biases == nullptr ? rows.bias : rows.biases[r];
  float* y = job.y + static_cast<size_t>(rows.rows[r]) * job.y_stride + j;
  for (int o = 0; o < outputs; o++) y[o] = bias == nullptr ? sums[o] : sums[o] + bias[j + o];
}

// ---- weights straight from memory, or the cache that the first rows brought them to ----

// What a tile fetches while it computes, into the second-level cache: the hardware follows fewer streams than a tile reads, and less far.
struct Fetching {
  size_t ahead;     // bytes
  unsigned outputs; // bit o: of the tile's output o

  // Where rows are computed in so many tiles, each fetches its part of what comes after the outputs that all of them compute now.
  static Fetching of(int tile, int tiles, size_t stride) {
    if (tiles == 1) return {kAheadBytes, ~0u};
    unsigned outputs = 0;
    for (int o = tile; o < kTileOutputs; o += tiles) outputs |= 1u << o;
    return {kTileSigns * stride, outputs};
  }
};

// The sums of some outputs from j on into `results` (rows, kTileSigns).
template <typename F, int kOutputs, int kRows> inline void direct_tile(const LinearJob& job, const Rows& rows, int j, Fetching fetching, float* results) {
  constexpr bool kFetches = kOutputs * kRows > 1;
  const size_t stride = row_bytes(job.dtype, job.in);
  const char* weights[kOutputs];
  for (int o = 0; o < kOutputs; o++) weights[o] = static_cast<const char*>(job.w) + static_cast<size_t>(j + o) * stride;
  const float* x[kRows];
  for (int r = 0; r < kRows; r++) x[r] = input(job, rows, r);
  Vec sums[kRows][kTileOutputs] = {};
  const auto step = [&](int v) __attribute__((always_inline)) {
    Vec values[kOutputs];
    for (int o = 0; o < kOutputs; o++) values[o] = F::at(weights[o], v);
    for (int r = 0; r < kRows; r++) {
      const Vec value = load(x[r] + v * kLanes);
      for (int o = 0; o < kOutputs; o++) sums[r][o] = fma(values[o], value, sums[r][o]);
    }
  };
  const int whole = job.in / kLanes;
  constexpr int kLineVectors = 64 / F::kVectorBytes;
  const int lines = whole / kLineVectors;
  const auto run = [&](int from, int to, size_t near) __attribute__((always_inline)) {
    for (int line = from; line < to; line++) {
      for (int o = 0; o < kOutputs && kFetches; o++) {
        if (fetching.outputs >> o & 1) __builtin_prefetch(weights[o] + line * size_t{64} + fetching.ahead, 0, 2);
        __builtin_prefetch(weights[o] + line * size_t{64} + near, 0, 3);
      }
#pragma GCC unroll 16
      for (int i = 0; i < kLineVectors; i++) step(line * kLineVectors + i);
    }
  };
  // At a row's end the first of the next tile's is near.
  constexpr int kNearLines = kNearBytes / 64;
  const int last = lines < kNearLines ? 0 : lines - kNearLines;
  run(0, last, kNearBytes);
  run(last, lines, kOutputs * stride - static_cast<size_t>(last) * 64);
  for (int v = lines * kLineVectors; v < whole; v++) step(v);
  if (const int left = job.in - whole * kLanes; left > 0) {
    for (int o = 0; o < kOutputs; o++) {
      const Vec value = load_tail<F>(weights[o], whole, left);
      for (int r = 0; r < kRows; r++) sums[r][o] = fma(value, load(x[r] + whole * kLanes), sums[r][o]);
    }
  }
  for (int r = 0; r < kRows; r++) {
    float four[kTileOutputs];
    reduce4(sums[r], four);
    for (int o = 0; o < kOutputs; o++) results[r * kTileSigns + o] = four[o];
  }
}

// Outputs j … of up to kDirectTileRows rows, some at a time.
template <typename F, int kRows, int kOutputs> void direct_rows(const LinearJob& job, const Rows& rows, int j, int outputs, Fetching fetching) {
  alignas(64) float results[kRows * kTileSigns];
  int o = 0;
  for (; o + kOutputs <= outputs; o += kOutputs) direct_tile<F, kOutputs, kRows>(job, rows, j + o, fetching, results + o);
  for (; o < outputs; o++) direct_tile<F, 1, kRows>(job, rows, j + o, fetching, results + o);
  for (int r = 0; r < kRows; r++) finish(job, rows, r, j, results + r * kTileSigns, outputs);
}

template <typename F, int kRows> void direct_rows(const LinearJob& job, const Rows& rows, int j, int outputs, Fetching fetching) {
  if (kRows == 1 && job.in <= kShortColumns) return direct_rows<F, kRows, kRowOutputs>(job, rows, j, outputs, fetching);
  direct_rows<F, kRows, (kTileSums / kRows < kTileOutputs ? kTileSums / kRows : kTileOutputs)>(job, rows, j, outputs, fetching);
}

inline int tiles_for(int left, int most) { return (left + most - 1) / most; }

// Tiles of even size: 8 rows are 4 and 4, not 6 and 2.
inline int tile_size(int left, int most) {
  const int tiles = tiles_for(left, most);
  return (left + tiles - 1) / tiles;
}

// Up to kTileSigns outputs of any number of rows.
template <typename F> void direct_tiles(const LinearJob& job, const Rows& all, int j, int outputs) {
  const int tiles = tiles_for(all.count, kDirectTileRows);
  for (int first = 0, tile = 0; first < all.count; tile++) {
    const int size = tile_size(all.count - first, kDirectTileRows);
    const Rows rows = all.from(first, size);
    const Fetching fetching = Fetching::of(tile, tiles, row_bytes(job.dtype, job.in));
    switch (size) {
      case 1: direct_rows<F, 1>(job, rows, j, outputs, fetching); break;
      case 2: direct_rows<F, 2>(job, rows, j, outputs, fetching); break;
      case 3: direct_rows<F, 3>(job, rows, j, outputs, fetching); break;
      case 4: direct_rows<F, 4>(job, rows, j, outputs, fetching); break;
      default:
        if constexpr (kDirectTileRows == 6) {
          if (size == 5) direct_rows<F, 5>(job, rows, j, outputs, fetching);
          else direct_rows<F, 6>(job, rows, j, outputs, fetching);
        }
    }
    first += size;
  }
}

// ---- an exact difference: weights first into a panel ----

// Part of output j's weights, from column `from` on, changed in place by an exact difference.
inline void add_exact(float* row, const DeltaTerm& term, size_t j, int in, int from, int vectors) {
  const char* exact = reinterpret_cast<const char*>(term.exact + j * in + from);
  const Vec weight = splat(term.weight);
  const int whole = (in - from) / kLanes < vectors ? (in - from) / kLanes : vectors;
  for (int v = 0; v < whole; v++) store(row + v * kLanes, fma(weight, Brains::at(exact, v), load(row + v * kLanes)));
  if (whole < vectors) store(row + whole * kLanes, fma(weight, load_tail<Brains>(exact, whole, in - from - whole * kLanes), load(row + whole * kLanes)));
}

template <typename F> inline void fill_panel(float* panel, const LinearJob& job, const Rows& rows, int j, int outputs, int first, int vectors) {
  const size_t stride = row_bytes(job.dtype, job.in);
  for (int o = 0; o < outputs; o++) {
    float* row = panel + o * kPanelColumns;
    if constexpr (F::kIsNone) std::memset(row, 0, vectors * sizeof(Vec));
    else widen_row<F>(row, static_cast<const char*>(job.w) + (j + o) * stride, job.in, first, vectors, kTileSigns * stride);
    for (int t = 0; t < rows.exact->term_count; t++)
      if (rows.exact->terms[t].exact != nullptr) add_exact(row, rows.exact->terms[t], static_cast<size_t>(j + o), job.in, first * kLanes, vectors);
  }
}

// Adds some outputs' products to `saved` (rows, kTileSigns).
template <int kOutputs, int kRows> void panel_tile(const float* panel, int vectors, const LinearJob& job, const Rows& rows, int from, Vec* saved) {
  const float* x[kRows];
  for (int r = 0; r < kRows; r++) x[r] = input(job, rows, r) + from;
  Vec sums[kRows][kOutputs];
  for (int r = 0; r < kRows; r++)
    for (int o = 0; o < kOutputs; o++) sums[r][o] = saved[r * kTileSigns + o];
  for (int v = 0; v < vectors; v++) {
    Vec weights[kOutputs];
    for (int o = 0; o < kOutputs; o++) weights[o] = load(panel + o * kPanelColumns + v * kLanes);
    for (int r = 0; r < kRows; r++) {
      const Vec value = load(x[r] + v * kLanes);
      for (int o = 0; o < kOutputs; o++) sums[r][o] = fma(weights[o], value, sums[r][o]);
    }
  }
  for (int r = 0; r < kRows; r++)
    for (int o = 0; o < kOutputs; o++) saved[r * kTileSigns + o] = sums[r][o];
}

template <int kRows> inline void panel_outputs(const float* panel, int vectors, const LinearJob& job, const Rows& rows, int from, int outputs, Vec* saved) {
  int o = 0;
  for (; o + kTileOutputs <= outputs; o += kTileOutputs) panel_tile<kTileOutputs, kRows>(panel + o * kPanelColumns, vectors, job, rows, from, saved + o);
  for (; o < outputs; o++) panel_tile<1, kRows>(panel + o * kPanelColumns, vectors, job, rows, from, saved + o);
}

inline void panel_rows(const float* panel, int vectors, const LinearJob& job, const Rows& all, int from, int outputs, Vec* saved) {
  for (int first = 0; first < all.count;) {
    const int size = tile_size(all.count - first, kPanelRows);
    const Rows rows = all.from(first, size);
    Vec* at = saved + first * kTileSigns;
    switch (size) {
      case 1: panel_outputs<1>(panel, vectors, job, rows, from, outputs, at); break;
      case 2: panel_outputs<2>(panel, vectors, job, rows, from, outputs, at); break;
      default:
        if constexpr (kPanelRows == 6) {
          if (size == 3) panel_outputs<3>(panel, vectors, job, rows, from, outputs, at);
          else if (size == 4) panel_outputs<4>(panel, vectors, job, rows, from, outputs, at);
          else if (size == 5) panel_outputs<5>(panel, vectors, job, rows, from, outputs, at);
          else panel_outputs<6>(panel, vectors, job, rows, from, outputs, at);
        }
    }
    first += size;
  }
}

// Up to kTileSigns outputs of up to kBlockRows rows.
template <typename F> void panel_block(const LinearJob& job, const Rows& rows, int j, int outputs) {
  alignas(64) float panel[kTileSigns * kPanelColumns];
  Vec saved[kBlockRows * kTileSigns];
  for (int i = 0; i < rows.count * kTileSigns; i++) saved[i] = Vec{};
  const int all = (job.in + kLanes - 1) / kLanes;
  for (int first = 0; first < all; first += kPanelColumns / kLanes) {
    const int vectors = all - first < kPanelColumns / kLanes ? all - first : kPanelColumns / kLanes;
    fill_panel<F>(panel, job, rows, j, outputs, first, vectors);
    panel_rows(panel, vectors, job, rows, first * kLanes, outputs, saved);
  }
  for (int r = 0; r < rows.count; r++) {
    float sums[kTileSigns];
    for (int o = 0; o < kTileSigns; o += 4) reduce4(saved + r * kTileSigns + o, sums + o);
    if constexpr (F::kIsNone) {
      float* y = job.y + static_cast<size_t>(rows.rows[r]) * job.y_stride + j;
      for (int o = 0; o < outputs; o++) y[o] += sums[o];
    } else finish(job, rows, r, j, sums, outputs);
  }
}

template <typename F> void panels(const LinearJob& job, const Rows& all, int begin, int end) {
  for (int first = 0; first < all.count; first += kBlockRows) {
    const Rows rows = all.from(first, all.count - first < kBlockRows ? all.count - first : kBlockRows);
    for (int j = begin; j < end; j += kTileSigns) panel_block<F>(job, rows, j, end - j < kTileSigns ? end - j : kTileSigns);
  }
}

// ---- quantised weights ----

template <typename F, int kRows> void integer_rows(const LinearJob& job, const Rows& rows, int j, int outputs, bool is_first) {
  const size_t bytes = integer_bytes(job.in);
  const char* x[kRows];
  for (int r = 0; r < kRows; r++) x[r] = job.integers + rows.rows[r] * bytes;
  Vec sums[kRows][kTileVectors];
  const char* tile = static_cast<const char*>(job.w) + j / kTileSigns * tile_bytes(F::kDtype, job.in);
  integer_tile<F, kRows>(tile, groups_of(job.in), x, is_first ? kAheadBytes : 0, sums);
  for (int r = 0; r < kRows; r++) finish(job, rows, r, j, reinterpret_cast<const float*>(sums[r]), outputs);
}

template <typename F, int kRows> void integer_rows_of(int size, const LinearJob& job, const Rows& rows, int j, int outputs, bool is_first) {
  if constexpr (kRows > 1)
    if (size < kRows) return integer_rows_of<F, kRows - 1>(size, job, rows, j, outputs, is_first);
  integer_rows<F, kRows>(job, rows, j, outputs, is_first);
}

// A tile's outputs of some rows.
template <typename F> void integer_block(const LinearJob& job, const Rows& all, int j, int outputs) {
  for (int first = 0; first < all.count;) {
    const int size = tile_size(all.count - first, kIntegerTileRows);
    integer_rows_of<F, kIntegerTileRows>(size, job, all.from(first, size), j, outputs, first == 0);
    first += size;
  }
}

// ---- all of it ----

inline int tile_outputs(int left) { return left < kTileSigns ? left : kTileSigns; }

template <typename F> void linear_of(const LinearJob& job, int begin, int end) {
  for (int g = 0; g < job.group_count; g++) {
    const RowGroup& group = job.groups[g];
    if (group.is_exact) panels<F>(job, {group.rows, group.row_count, group.bias, nullptr, &group}, begin, end);
  }
  const Rows plain = {job.plain_rows, job.plain_count, nullptr, job.plain_bias, nullptr};
  fetch_signs(job, begin);
  for (int j = begin; j < end; j += kTileSigns) direct_tiles<F>(job, plain, j, tile_outputs(end - j));
  add_signs(job, begin, end);
}

template <typename F> void quantized_linear(const LinearJob& job, int begin, int end) {
  const Rows plain = {job.plain_rows, job.plain_count, nullptr, job.plain_bias, nullptr};
  const int most = static_cast<int>(kIntegerBlockBytes / integer_bytes(job.in));
  fetch_signs(job, begin);
  const int rows = tile_size(plain.count, most < kIntegerTileRows ? kIntegerTileRows : most);
  for (int first = 0; first < plain.count; first += rows) {
    const Rows block = plain.from(first, plain.count - first < rows ? plain.count - first : rows);
    for (int j = begin; j < end; j += kTileSigns) {
      integer_block<F>(job, block, j, tile_outputs(end - j));
    }
  }
  for (int g = 0; g < job.group_count; g++) {
    const RowGroup& group = job.groups[g];
    if (group.is_exact) panels<None>(job, {group.rows, group.row_count, nullptr, nullptr, &group}, begin, end);
  }
  add_signs(job, begin, end);
}

void linear(const LinearJob& job, int begin, int end) {
  switch (job.dtype) {
    case Dtype::BF16: return linear_of<Brains>(job, begin, end);
    case Dtype::Q8: return quantized_linear<Bytes>(job, begin, end);
    case Dtype::Q4: return quantized_linear<Nibbles>(job, begin, end);
    default: return linear_of<Floats>(job, begin, end);
  }
}

} // namespace
} // namespace signpost
