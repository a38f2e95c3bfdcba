// Base matmul with deltas folded in. Included by kernels.cc alone.
//
// With B the sign bits as 0/1, a plane adds weight · r_j · (2 Σ_i B_ji c_i x_i − Σ_i c_i x_i) to output j. Here the first part goes into the
// weight on its way to the multiply-add, w'_ji = w_ji + 2 weight r_j B_ji c_i, and the second is taken off at the end: a plane costs one
// masked add a weight and its own bytes, shared by all rows of its group.
//
// Every sum has one order: lane l of the only accumulator takes elements l, l + lanes, … of the row (zeros after the last), and the lanes
// are added by `reduce`. It does not depend on how many rows or outputs are computed together, nor on which of the two paths below does it.
#pragma once
#include "kernels.h"
#include "simd.h"

namespace signpost {
namespace {

// A panel holds the weights of some outputs, as one group sees them, for this many columns: 8 KiB, beside the rows' in the first-level cache.
constexpr int kPanelColumns = 512;
constexpr int kTileOutputs = 4;
constexpr int kTileRows = kLanes == 16 ? 6 : 2;
// Rows whose activations stay in the second-level cache while all outputs pass by.
constexpr int kBlockRows = 96;
constexpr int kBlockBytes = 512 * 1024;
// Groups of at most so many rows, with no delta or one plane, are computed straight from memory.
constexpr int kDirectRows = kLanes == 16 ? 4 : 2;
// What is fetched ahead of use: far enough for memory, near enough for the second-level cache.
constexpr size_t kTilesAhead = 2;
// Outputs whose sums are in flight for several groups at once, and the groups' rows.
constexpr int kBlockOutputs = 2 * kTileOutputs;
constexpr int kBatchRows = 16;
constexpr int kLineBytes = 64;

inline float row_scale(const DeltaTerm& term, size_t j) { return term.row_scale[j * term.row_scale_step]; }

inline void finish(const LinearJob& job, const RowGroup& group, int g, int j, float sum) {
  for (int t = 0; t < group.term_count; t++) {
    const DeltaTerm& term = group.terms[t];
    if (term.signs != nullptr) sum = fma(-(term.weight * row_scale(term, j)), group.sums[t * group.row_count + g], sum);
  }
  if (group.bias != nullptr) sum += group.bias[j];
  job.y[static_cast<size_t>(group.rows[g]) * job.y_stride + j] = sum;
}

// `vectors` vectors of one output's weights as float32, zeros after the last of `columns`.
template <typename W> inline void fill_row(float* row, const W* weights, int columns, int vectors, size_t ahead) {
  const int whole = columns / kLanes < vectors ? columns / kLanes : vectors;
  for (int v = 0; v < whole; v++) {
    if (v % (kLineBytes / (kLanes * static_cast<int>(sizeof(W)))) == 0) __builtin_prefetch(reinterpret_cast<const char*>(weights + v * kLanes) + ahead, 0, 2);
    store(row + v * kLanes, load_weights(weights + v * kLanes));
  }
  if (whole < vectors) store(row + whole * kLanes, load_weights_tail(weights + whole * kLanes, columns - whole * kLanes));
}

// ---- few rows, no delta or one plane: straight from memory ----

// Some columns of consecutive outputs' weights: in memory, or in a panel.
template <typename W> struct InMemory {
  using Weight = W;
  const W* data;
  size_t stride; // elements from one output to the next
  int columns;   // that may be read; a tile takes zeros after them
};
struct InPanel {
  using Weight = float;
  const float* data;
  static constexpr size_t stride = kPanelColumns;
  int columns;
};

// What a tile is part of: outputs j …, columns `first` · kLanes …, and how many bytes further what is needed next begins.
struct Place {
  int j;
  int first;
  int vectors;
  size_t ahead;
  size_t signs_ahead;
};

// Adds the products of a place's columns to `saved` (rows, kBlockOutputs). What is next is prefetched: the hardware follows fewer streams
// than a tile reads.
template <int kOutputs, int kRows, bool kPlane, bool kAhead, typename Source>
inline void direct_tile(const LinearJob& job, const RowGroup& group, Source w, const Place& at, Vec* saved) {
  using W = typename Source::Weight;
  const float* x[kRows];
  for (int r = 0; r < kRows; r++) x[r] = job.x + static_cast<size_t>(group.rows[r]) * job.x_stride + at.first * kLanes;
  const W* weights[kOutputs];
  const uint32_t* signs[kOutputs] = {};
  Vec twice[kOutputs] = {};
  for (int o = 0; o < kOutputs; o++) {
    weights[o] = w.data + o * w.stride;
    if (!kPlane) continue;
    // Chunks begin at whole sign words.
    signs[o] = group.terms[0].signs + (at.j + o) * ((static_cast<size_t>(job.in) + 31) / 32) + at.first * kLanes / 32;
    twice[o] = splat(2.0f * (group.terms[0].weight * row_scale(group.terms[0], at.j + o)));
  }
  Vec sums[kOutputs][kRows];
  for (int o = 0; o < kOutputs; o++)
    for (int r = 0; r < kRows; r++) sums[o][r] = saved[r * kBlockOutputs + o];
  const auto step = [&](int v, int o, Vec value) __attribute__((always_inline)) {
    if (kPlane) value = add_where(value, sign_bits(signs[o], v), twice[o]);
    for (int r = 0; r < kRows; r++) sums[o][r] = fma(value, load(x[r] + v * kLanes), sums[o][r]);
  };
  const int whole = w.columns / kLanes < at.vectors ? w.columns / kLanes : at.vectors;
  for (int v = 0; v < whole; v++) {
    if (kAhead && v % (kLineBytes / (kLanes * static_cast<int>(sizeof(W)))) == 0)
      for (int o = 0; o < kOutputs; o++) __builtin_prefetch(reinterpret_cast<const char*>(weights[o] + v * kLanes) + at.ahead, 0, 2);
    if (kPlane && v % (kLineBytes * 8 / kLanes) == 0)
      for (int o = 0; o < kOutputs; o++) __builtin_prefetch(reinterpret_cast<const char*>(signs[o]) + v * kLanes / 8 + at.signs_ahead, 0, 2);
    for (int o = 0; o < kOutputs; o++) step(v, o, load_weights(weights[o] + v * kLanes));
  }
  if (whole < at.vectors)
    for (int o = 0; o < kOutputs; o++) step(whole, o, load_weights_tail(weights[o] + whole * kLanes, w.columns - whole * kLanes));
  for (int o = 0; o < kOutputs; o++)
    for (int r = 0; r < kRows; r++) saved[r * kBlockOutputs + o] = sums[o][r];
}

inline bool is_direct(const RowGroup& group) {
  if (group.row_count > kDirectRows) return false;
  return group.term_count == 0 || (group.term_count == 1 && group.terms[0].signs != nullptr && group.terms[0].col_scale == nullptr);
}

template <int kOutputs, bool kPlane, bool kAhead, typename Source>
inline void direct_rows(const LinearJob& job, const RowGroup& group, Source w, const Place& at, Vec* saved) {
  switch (group.row_count) {
    case 1: return direct_tile<kOutputs, 1, kPlane, kAhead>(job, group, w, at, saved);
    case 2: return direct_tile<kOutputs, 2, kPlane, kAhead>(job, group, w, at, saved);
#if defined(SIGNPOST_AVX512)
    case 3: return direct_tile<kOutputs, 3, kPlane, kAhead>(job, group, w, at, saved);
    default: return direct_tile<kOutputs, 4, kPlane, kAhead>(job, group, w, at, saved);
#else
    default: return;
#endif
  }
}

// One group's share of a place: up to kBlockOutputs outputs, kTileOutputs at once unless there is one row.
template <bool kAhead, typename Source>
void direct_outputs(const LinearJob& job, const RowGroup& group, Source w, Place at, int outputs, Vec* saved) {
  if (outputs == kBlockOutputs && group.row_count == 1) {
    if (group.term_count == 0) return direct_tile<kBlockOutputs, 1, false, kAhead>(job, group, w, at, saved);
    return direct_tile<kBlockOutputs, 1, true, kAhead>(job, group, w, at, saved);
  }
  int o = 0;
  for (; o + kTileOutputs <= outputs; o += kTileOutputs, at.j += kTileOutputs, w.data += kTileOutputs * w.stride) {
    if (group.term_count == 0) direct_rows<kTileOutputs, false, kAhead>(job, group, w, at, saved + o);
    else direct_rows<kTileOutputs, true, kAhead>(job, group, w, at, saved + o);
  }
  for (; o < outputs; o++, at.j++, w.data += w.stride) {
    if (group.term_count == 0) direct_rows<1, false, kAhead>(job, group, w, at, saved + o);
    else direct_rows<1, true, kAhead>(job, group, w, at, saved + o);
  }
}

// Consecutive groups, the direct ones among them.
struct Batch {
  int from;
  int to;
  int groups;
  int rows; // at most kBatchRows
};

// Adds some columns' products of up to kBlockOutputs outputs to `saved` (rows, kBlockOutputs).
template <typename W> void direct_chunk(const LinearJob& job, InMemory<W> source, const Batch& batch, const Place& at, int outputs, Vec* saved) {
  const bool is_alone = batch.groups == 1;
  alignas(64) float panel[kBlockOutputs * kPanelColumns];
  // Several groups share the weights: they are widened once.
  if (!is_alone)
    for (int o = 0; o < outputs; o++) fill_row(panel + o * kPanelColumns, source.data + o * source.stride, source.columns, at.vectors, at.ahead);
  for (int g = batch.from; g < batch.to; g++) {
    const RowGroup& group = job.groups[g];
    if (!is_direct(group)) continue;
    if (is_alone) direct_outputs<true>(job, group, source, at, outputs, saved);
    else direct_outputs<false>(job, group, InPanel{panel, at.vectors * kLanes}, at, outputs, saved);
    saved += group.row_count * kBlockOutputs;
  }
}

template <typename W> void direct_batch(const LinearJob& job, const W* w, const Batch& batch, int begin, int end) {
  Vec saved[kBatchRows * kBlockOutputs];
  const size_t stride = static_cast<size_t>(job.in);
  const int all = (job.in + kLanes - 1) / kLanes;
  // One group reads its weights from beginning to end; a panel holds a chunk of them.
  const int chunk = batch.groups == 1 ? all : kPanelColumns / kLanes;
  // One row's outputs are few enough sums to need no more streams than a tile has.
  const int step = batch.groups == 1 ? kTileOutputs : kBlockOutputs;
  for (int j = begin; j < end; j += step) {
    const int outputs = end - j < step ? end - j : step;
    for (int i = 0; i < batch.rows * kBlockOutputs; i++) saved[i] = Vec{};
    for (int first = 0; first < all; first += chunk) {
      const size_t column = static_cast<size_t>(first) * kLanes;
      // Next are a later tile, or the same outputs' next chunk; after the last chunk, the next outputs' first.
      const size_t ahead = chunk == all ? kTilesAhead * step * stride : first + chunk < all ? static_cast<size_t>(chunk) * kLanes : step * stride - column;
      const Place at = {j, first, all - first < chunk ? all - first : chunk, ahead * sizeof(W), kTilesAhead * step * ((stride + 31) / 32) * 4};
      direct_chunk(job, InMemory<W>{w + j * stride + column, stride, job.in - first * kLanes}, batch, at, outputs, saved);
    }
    const Vec* at = saved;
    for (int g = batch.from; g < batch.to; g++) {
      if (!is_direct(job.groups[g])) continue;
      for (int r = 0; r < job.groups[g].row_count; r++, at += kBlockOutputs)
        for (int o = 0; o < outputs; o++) finish(job, job.groups[g], r, j + o, reduce(at[o]));
    }
  }
}

template <typename W> void direct_groups(const LinearJob& job, const W* w, int begin, int end) {
  Batch batch = {0, 0, 0, 0};
  for (int g = 0; g < job.group_count; g++) {
    if (!is_direct(job.groups[g])) continue;
    if (batch.rows + job.groups[g].row_count > kBatchRows) {
      direct_batch(job, w, batch, begin, end);
      batch = {g, g, 0, 0};
    }
    batch.to = g + 1;
    batch.groups++;
    batch.rows += job.groups[g].row_count;
  }
  if (batch.rows > 0) direct_batch(job, w, batch, begin, end);
}

// ---- many rows or any mixture: weights first into a panel ----

// One row of weights, columns v · kLanes on, changed in place by one term.
inline void apply_term_to(float* row, const DeltaTerm& term, size_t j, int in, int first, int vectors) {
  const int whole = in / kLanes - first < vectors ? in / kLanes - first : vectors;
  const int tail = whole < vectors ? in % kLanes : 0;
  const int from = first * kLanes;
  if (term.signs == nullptr) {
    const uint16_t* exact = term.exact + j * in + from;
    const Vec weight = splat(term.weight);
    for (int v = 0; v < whole; v++) store(row + v * kLanes, fma(weight, load_weights(exact + v * kLanes), load(row + v * kLanes)));
    if (tail > 0) store(row + whole * kLanes, fma(weight, load_weights_tail(exact + whole * kLanes, tail), load(row + whole * kLanes)));
    return;
  }
  const uint32_t* signs = term.signs + j * ((in + 31) / 32);
  const Vec twice = splat(2.0f * (term.weight * row_scale(term, j)));
  const float* columns = term.col_scale == nullptr ? nullptr : term.col_scale + from;
  for (int v = 0; v < vectors; v++) {
    Vec step = twice;
    if (columns != nullptr) step = twice * (v < whole ? load(columns + v * kLanes) : load_weights_tail(columns + v * kLanes, tail));
    store(row + v * kLanes, add_where(load(row + v * kLanes), sign_bits(signs, first + v), step));
  }
}

template <typename W> inline void fill_panel(float* panel, const LinearJob& job, const RowGroup& group, const W* w, int j, int outputs, int first, int vectors) {
  const size_t stride = static_cast<size_t>(job.in);
  for (int o = 0; o < outputs; o++) {
    float* row = panel + o * kPanelColumns;
    fill_row(row, w + (j + o) * stride + static_cast<size_t>(first) * kLanes, job.in - first * kLanes, vectors, kTileOutputs * stride * sizeof(W));
    for (int t = 0; t < group.term_count; t++) apply_term_to(row, group.terms[t], j + o, job.in, first, vectors);
  }
}

template <int kOutputs, int kRows>
void panel_tile(const float* panel, int vectors, const LinearJob& job, const int* rows, int from, Vec* saved) {
  const float* x[kRows];
  for (int r = 0; r < kRows; r++) x[r] = job.x + static_cast<size_t>(rows[r]) * job.x_stride + from;
  Vec sums[kRows][kOutputs];
  for (int r = 0; r < kRows; r++)
    for (int o = 0; o < kOutputs; o++) sums[r][o] = saved[r * kTileOutputs + o];
  for (int v = 0; v < vectors; v++) {
    Vec weights[kOutputs];
    for (int o = 0; o < kOutputs; o++) weights[o] = load(panel + o * kPanelColumns + v * kLanes);
    for (int r = 0; r < kRows; r++) {
      const Vec value = load(x[r] + v * kLanes);
      for (int o = 0; o < kOutputs; o++) sums[r][o] = fma(weights[o], value, sums[r][o]);
    }
  }
  for (int r = 0; r < kRows; r++)
    for (int o = 0; o < kOutputs; o++) saved[r * kTileOutputs + o] = sums[r][o];
}

// Tiles of even size: 8 rows are 4 and 4, not 6 and 2.
inline int tile_size(int left, int most) {
  const int tiles = (left + most - 1) / most;
  return (left + tiles - 1) / tiles;
}

template <int kOutputs> inline void panel_rows(const float* panel, int vectors, const LinearJob& job, const int* rows, int count, int from, Vec* saved) {
  for (int r = 0; r < count;) {
    const int size = tile_size(count - r, kTileRows);
    Vec* at = saved + r * kTileOutputs;
    switch (size) {
      case 1: panel_tile<kOutputs, 1>(panel, vectors, job, rows + r, from, at); break;
      case 2: panel_tile<kOutputs, 2>(panel, vectors, job, rows + r, from, at); break;
#if defined(SIGNPOST_AVX512)
      case 3: panel_tile<kOutputs, 3>(panel, vectors, job, rows + r, from, at); break;
      case 4: panel_tile<kOutputs, 4>(panel, vectors, job, rows + r, from, at); break;
      case 5: panel_tile<kOutputs, 5>(panel, vectors, job, rows + r, from, at); break;
      default: panel_tile<kOutputs, 6>(panel, vectors, job, rows + r, from, at); break;
#else
      default: break;
#endif
    }
    r += size;
  }
}

template <typename W> void panel_block(const LinearJob& job, const RowGroup& group, const W* w, int j, int outputs, int first_row, int row_count) {
  alignas(64) float panel[kTileOutputs * kPanelColumns];
  Vec saved[kBlockRows * kTileOutputs];
  for (int i = 0; i < row_count * kTileOutputs; i++) saved[i] = Vec{};
  const int all = (job.in + kLanes - 1) / kLanes;
  const int* rows = group.rows + first_row;
  for (int first = 0; first < all; first += kPanelColumns / kLanes) {
    const int vectors = all - first < kPanelColumns / kLanes ? all - first : kPanelColumns / kLanes;
    fill_panel(panel, job, group, w, j, outputs, first, vectors);
    if (outputs == kTileOutputs) panel_rows<kTileOutputs>(panel, vectors, job, rows, row_count, first * kLanes, saved);
    else panel_rows<1>(panel, vectors, job, rows, row_count, first * kLanes, saved);
  }
  for (int r = 0; r < row_count; r++)
    for (int o = 0; o < outputs; o++) finish(job, group, first_row + r, j + o, reduce(saved[r * kTileOutputs + o]));
}

template <typename W> void panel_group(const LinearJob& job, const RowGroup& group, const W* w, int begin, int end) {
  const int fitting = static_cast<int>(kBlockBytes / (size_t{4} * job.in)) / kTileRows * kTileRows;
  const int block = fitting < kTileRows ? kTileRows : fitting > kBlockRows ? kBlockRows : fitting;
  for (int row = 0; row < group.row_count; row += block) {
    const int count = group.row_count - row < block ? group.row_count - row : block;
    int j = begin;
    for (; j + kTileOutputs <= end; j += kTileOutputs) panel_block(job, group, w, j, kTileOutputs, row, count);
    for (; j < end; j++) panel_block(job, group, w, j, 1, row, count);
  }
}

template <typename W> void linear_of(const LinearJob& job, const W* w, int begin, int end) {
  direct_groups(job, w, begin, end);
  for (int g = 0; g < job.group_count; g++)
    if (!is_direct(job.groups[g])) panel_group(job, job.groups[g], w, begin, end);
}

void linear(const LinearJob& job, int begin, int end) {
  if (job.dtype == Dtype::BF16) linear_of(job, static_cast<const uint16_t*>(job.w), begin, end);
  else linear_of(job, static_cast<const float*>(job.w), begin, end);
}

} // namespace
} // namespace signpost
