// What 1-bit planes add to a matmul: Σ_i ±x_i for each output. Included by kernels.cc alone.
//
// No sign is applied to a value twice: for each four columns there is a table of the 16 sums that four signs can make, and four signs are one
// look-up. Two ways to do it, for rows of many experts and for many rows of one:
//  - tables of one row, 16 sums each; a vector looks up one for each of its outputs;
//  - tables of `kLanes` rows, 16 vectors of sums each; all rows of an output look up the same.
// Both add the same numbers in the same order, so a row has the same bits either way: eight columns' (T_lo + T_hi), column after column.
#pragma once
#include "integers.h"
#include "kernels.h"
#include "simd.h"

namespace signpost {
namespace {

constexpr int kTableSums = 16;
constexpr int kTableColumns = 4;
constexpr int kWordTables = 32 / kTableColumns;
// A look-up of kLanes rows takes as long for one of them as for all.
constexpr int kLeastLaneRows = kLanes == 16 ? 12 : kLanes == 8 ? 4 : 2;
// Tiles looked up together: a table is loaded once for all of them.
constexpr int kMostTiles = kLanes == 16 ? 4 : kLanes == 8 ? 2 : 1;
// Outputs of which all rows' signs are looked up before the next.
constexpr int kSpanOutputs = kMostTiles * kTileSigns;

inline size_t sign_words(int in) { return (static_cast<size_t>(in) + 31) / 32; }
inline size_t table_floats(int in) { return sign_words(in) * kWordTables * kTableSums; }
inline float row_scale(const DeltaTerm& term, size_t j) { return term.row_scale[j * term.row_scale_step]; }

// ---- prepared inputs ----

// Sums of signs n, bit i set for +x_i: (±x_0 ± x_1) + (±x_2 ± x_3).
void sign_tables(float* tables, const float* x, const float* col_scale, int in) {
  const int columns = static_cast<int>(sign_words(in)) * 32;
  Words minus[kTableColumns][kTableSums / kLanes];
  for (int i = 0; i < kTableColumns; i++)
    for (int n = 0; n < kTableSums; n++) minus[i][n / kLanes][n % kLanes] = (n >> i) & 1 ? 0u : 0x80000000u;
  for (int at = 0; at < columns; at += kTableColumns, tables += kTableSums) {
    const float* values = x + at; // zeros beyond the last
    float scaled[kTableColumns];
    if (col_scale != nullptr) {
      for (int i = 0; i < kTableColumns; i++) scaled[i] = at + i < in ? values[i] * col_scale[at + i] : 0.0f;
      values = scaled;
    }
    for (int v = 0; v < kTableSums / kLanes; v++) {
      const auto signed_value = [&](int i) { return reinterpret_cast<Vec>(reinterpret_cast<Words>(splat(values[i])) ^ minus[i][v]); };
      store(tables + v * kLanes, (signed_value(0) + signed_value(1)) + (signed_value(2) + signed_value(3)));
    }
  }
}

void sign_columns(float* columns, const float* x, size_t x_stride, const int* rows, int count, const float* col_scale, int in) {
  const int words = static_cast<int>(sign_words(in));
  alignas(64) float values[kLanes][32];
  for (int w = 0; w < words; w++, columns += 32 * kLanes) {
    const int begin = w * 32;
    const int left = in - begin < 32 ? in - begin : 32;
    for (int lane = 0; lane < kLanes; lane++) {
      if (lane < count) std::memcpy(values[lane], x + static_cast<size_t>(rows[lane]) * x_stride + begin, left * sizeof(float));
      for (int i = lane < count ? left : 0; i < 32; i++) values[lane][i] = 0.0f;
      for (int i = 0; lane < count && col_scale != nullptr && i < left; i++) values[lane][i] *= col_scale[begin + i];
    }
#if defined(SIGNPOST_AVX512) || defined(SIGNPOST_AVX2)
    for (int lane = 0; lane < kLanes; lane += 4) {
      for (int i = 0; i < 32; i += 4) {
        __m128 four[4];
        for (int l = 0; l < 4; l++) four[l] = _mm_load_ps(values[lane + l] + i);
        _MM_TRANSPOSE4_PS(four[0], four[1], four[2], four[3]);
        for (int c = 0; c < 4; c++) _mm_storeu_ps(columns + (i + c) * kLanes + lane, four[c]);
      }
    }
#else
    for (int i = 0; i < 32; i++)
      for (int lane = 0; lane < kLanes; lane++) columns[i * kLanes + lane] = values[lane][i];
#endif
  }
}

// The 16 sums of four columns of kLanes rows.
inline void lane_table(float* table, const float* columns) {
  Vec low[4];
  Vec high[4];
  for (int n = 0; n < 4; n++) {
    const auto signed_column = [&](int i, bool plus) {
      const Vec value = load(columns + i * kLanes);
      return plus ? value : reinterpret_cast<Vec>(reinterpret_cast<Words>(value) ^ 0x80000000u);
    };
    low[n] = signed_column(0, n & 1) + signed_column(1, n & 2);
    high[n] = signed_column(2, n & 1) + signed_column(3, n & 2);
  }
  for (int n = 0; n < kTableSums; n++) store(table + n * kLanes, low[n % 4] + high[n / 4]);
}

// ---- one row, many outputs ----

// Adds to `sums` (kTiles · kTileVectors) what the row of `tables` gives for some tiles; `tile` is the first one's words.
template <int kTiles> inline void look_up(Vec* sums, const uint32_t* tile, size_t words, const float* tables, size_t ahead) {
  constexpr int kVectors = kTiles * kTileVectors;
  for (int i = 0; i < kVectors; i++) sums[i] = Vec{};
  for (size_t w = 0; w < words; w++, tables += kWordTables * kTableSums) {
    SignWords bits[kVectors];
    for (int t = 0; t < kTiles; t++) {
      const uint32_t* at = tile + (t * words + w) * kTileSigns;
      __builtin_prefetch(reinterpret_cast<const char*>(at) + ahead, 0, 2);
      __builtin_prefetch(reinterpret_cast<const char*>(at) + kNearBytes, 0, 3);
      for (int v = 0; v < kTileVectors; v++) bits[t * kTileVectors + v] = load_sign_words(at + v * kLanes);
    }
    for (int half = 0; half < 2; half++) {
      const float* table = tables + half * 4 * kTableSums;
      for (int i = 0; i < kVectors; i++) {
        sums[i] += look_up_sum<0>(table, bits[i]) + look_up_sum<1>(table + kTableSums, bits[i]);
        sums[i] += look_up_sum<2>(table + 2 * kTableSums, bits[i]) + look_up_sum<3>(table + 3 * kTableSums, bits[i]);
        bits[i] = upper_half(bits[i]);
      }
    }
  }
}

// y[j] += weight · r_j · sum_j for the outputs of a tile that exist.
inline void add_tile(float* y, const DeltaTerm& term, size_t j, int outputs, const Vec* sums) {
  if (outputs == kTileSigns && term.row_scale_step == 1) {
    for (int v = 0; v < kTileVectors; v++)
      store(y + v * kLanes, fma(splat(term.weight) * load(term.row_scale + j + v * kLanes), sums[v], load(y + v * kLanes)));
    return;
  }
  float values[kTileSigns];
  for (int v = 0; v < kTileVectors; v++) store(values + v * kLanes, sums[v]);
  for (int o = 0; o < outputs; o++) y[o] = fma(term.weight * row_scale(term, j + o), values[o], y[o]);
}

template <int kTiles> inline void add_tiles(const LinearJob& job, const DeltaTerm& term, const float* tables, float* y, int j, int outputs) {
  const size_t words = sign_words(job.in);
  Vec sums[kTiles * kTileVectors];
  // Next for this plane are the outputs after all that are computed now.
  look_up<kTiles>(sums, term.tiles + j * words, words, tables, kSpanOutputs * words * sizeof(uint32_t));
  for (int t = 0; t < kTiles; t++) {
    const int left = outputs - t * kTileSigns;
    add_tile(y + t * kTileSigns, term, static_cast<size_t>(j) + t * kTileSigns, left < kTileSigns ? left : kTileSigns, sums + t * kTileVectors);
  }
}

template <int kTiles> inline void add_all_tiles(const LinearJob& job, const DeltaTerm& term, const float* tables, float* y, int j, int outputs) {
  if constexpr (kTiles > 1)
    if (outputs <= (kTiles - 1) * kTileSigns) return add_all_tiles<kTiles - 1>(job, term, tables, y, j, outputs);
  add_tiles<kTiles>(job, term, tables, y, j, outputs);
}

// Outputs begin … end of all rows that have tables of their own.
void add_signs(const LinearJob& job, int begin, int end) {
  const size_t floats = table_floats(job.in);
  for (int j = begin; j < end; j += kSpanOutputs) {
    const int outputs = end - j < kSpanOutputs ? end - j : kSpanOutputs;
    for (int g = 0; g < job.group_count; g++) {
      const RowGroup& group = job.groups[g];
      for (int r = group.lane_rows; r < group.row_count; r++) {
        float* y = job.y + static_cast<size_t>(group.rows[r]) * job.y_stride + j;
        for (int t = 0; t < group.term_count; t++) {
          const DeltaTerm& term = group.terms[t];
          if (term.tiles == nullptr) continue;
          const float* tables = job.tables + group.tables + (static_cast<size_t>(r - group.lane_rows) * group.inputs + term.input) * floats;
          add_all_tiles<kMostTiles>(job, term, tables, y, j, outputs);
        }
      }
    }
  }
}

// Fetches what `add_signs` reads first: nothing before it has.
inline void fetch_signs(const LinearJob& job, int j) {
  const size_t words = sign_words(job.in);
  for (int g = 0; g < job.group_count; g++) {
    const RowGroup& group = job.groups[g];
    if (group.lane_rows == group.row_count) continue;
    for (int t = 0; t < group.term_count; t++) {
      if (group.terms[t].tiles == nullptr) continue;
      fetch(group.terms[t].tiles + j * words, kSpanOutputs * words * sizeof(uint32_t));
    }
  }
}

// ---- kLanes rows of one mixture ----

// Where a table has the sum of nibble kNibble of `bits`: a shift and a mask, in bytes.
template <int kNibble> inline const float* sum_of(const float* tables, uint32_t bits) {
  constexpr int kShift = 4 * kNibble - (kLanes == 16 ? 6 : kLanes == 8 ? 5 : 4);
  const uint32_t at = (kShift < 0 ? bits << (kShift < 0 ? -kShift : 0) : bits >> (kShift < 0 ? 0 : kShift)) & (15u * kLanes * 4);
  return reinterpret_cast<const float*>(reinterpret_cast<const char*>(tables + kNibble * kTableSums * kLanes) + at);
}

// Adds to `sums` (outputs, kLanes) what 32 columns give.
inline void look_up_lanes(float* sums, const uint32_t* words, size_t tile_words, int outputs, const float* tables) {
  for (int first = 0; first < outputs; first += kTileSigns, words += tile_words) {
    const int count = outputs - first < kTileSigns ? outputs - first : kTileSigns;
    for (int o = 0; o < count; o++, sums += kLanes) {
      const uint32_t bits = words[o];
      Vec sum = load(sums);
      sum += load(sum_of<0>(tables, bits)) + load(sum_of<1>(tables, bits));
      sum += load(sum_of<2>(tables, bits)) + load(sum_of<3>(tables, bits));
      sum += load(sum_of<4>(tables, bits)) + load(sum_of<5>(tables, bits));
      sum += load(sum_of<6>(tables, bits)) + load(sum_of<7>(tables, bits));
      store(sums, sum);
    }
  }
}

// Outputs j … of one term, for up to kLanes rows.
void add_lane_signs(const LinearJob& job, const DeltaTerm& term, const float* columns, const int* rows, int count, int j, int outputs) {
  alignas(64) float sums[kLaneOutputs * kLanes] = {};
  alignas(64) float tables[kWordTables * kTableSums * kLanes];
  const size_t words = sign_words(job.in);
  for (size_t w = 0; w < words; w++) {
    for (int k = 0; k < kWordTables; k++) lane_table(tables + k * kTableSums * kLanes, columns + (w * 32 + static_cast<size_t>(k) * kTableColumns) * kLanes);
    look_up_lanes(sums, term.tiles + j * words + w * kTileSigns, words * kTileSigns, outputs, tables);
  }
  for (int r = 0; r < count; r++) {
    float* y = job.y + static_cast<size_t>(rows[r]) * job.y_stride + j;
    for (int o = 0; o < outputs; o++) y[o] = fma(term.weight * row_scale(term, static_cast<size_t>(j) + o), sums[o * kLanes + r], y[o]);
  }
}

// Outputs j … of block `b` of the rows of a group that are computed kLanes together.
void lane_signs(const LinearJob& job, const RowGroup& group, int b, int j, int outputs) {
  const size_t block = sign_words(job.in) * 32 * kLanes;
  const int blocks = (group.lane_rows + kLanes - 1) / kLanes;
  const int left = group.lane_rows - b * kLanes;
  for (int t = 0; t < group.term_count; t++) {
    const DeltaTerm& term = group.terms[t];
    if (term.tiles == nullptr) continue;
    const float* columns = group.columns + (static_cast<size_t>(term.input) * blocks + b) * block;
    add_lane_signs(job, term, columns, group.rows + b * kLanes, left < kLanes ? left : kLanes, j, outputs);
  }
}

} // namespace
} // namespace signpost
