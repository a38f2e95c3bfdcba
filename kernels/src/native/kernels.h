// What the compute kernels take and give: plain structs over raw memory, checked by the caller. One table of functions for each
// instruction set; nothing here may use templates of the standard library, whose code would be shared between sets.
#pragma once
#include <cstddef>
#include <cstdint>

namespace signpost {

// Q8 and Q4 are ours: values in groups of 32 columns (zeros after the last), each with an F16 scale; see integers.h.
enum class Dtype : int { BF16 = 0, F16 = 1, F32 = 2, Q8 = 3, Q4 = 4 };

static constexpr int kGroupColumns = 32;
static inline bool is_quantized(Dtype dtype) { return dtype == Dtype::Q8 || dtype == Dtype::Q4; }
static inline int groups_of(int in) { return (in + kGroupColumns - 1) / kGroupColumns; }

// Bytes from one row of a matrix that isn't quantised to the next.
static inline size_t row_bytes(Dtype dtype, size_t in) { return in * (dtype == Dtype::F32 ? 4 : 2); }

// Outputs of a tile of signs: a tile's words stand as (ceil(in / 32), kTileSigns), so that one load has a word of each output.
static constexpr int kTileSigns = 16;
static inline int tiles_of(int out) { return (out + kTileSigns - 1) / kTileSigns; }
static inline size_t tiled_words(size_t out, size_t in) { return (out + kTileSigns - 1) / kTileSigns * kTileSigns * ((in + 31) / 32); }

// A tile of a quantised matrix: values, then scales. Tiles begin at cache lines.
static inline size_t tile_bytes(Dtype dtype, int in) {
  const size_t group = kTileSigns * (dtype == Dtype::Q8 ? kGroupColumns + 2 : kGroupColumns / 2 + 2);
  return (groups_of(in) * group + 63) / 64 * 64;
}
// A row of activations as `integers` makes it.
static inline size_t integer_bytes(int in) { return (static_cast<size_t>(groups_of(in)) * (2 * kGroupColumns + 8) + 63) / 64 * 64; }

// Outputs whose sums stay near while the tables of `lanes` rows change; the tables are made anew for each so many.
static constexpr int kLaneOutputs = 256;

// One part of what a mixture adds to a matrix (out, in): a 1-bit plane, or an exact difference.
struct DeltaTerm {
  const uint32_t* tiles;   // (ceil(out / 16), ceil(in / 32), 16), or null for an exact difference
  const float* row_scale;  // (out) or (1)
  int row_scale_step;      // 1, or 0 for one scale
  const float* col_scale;  // (in), or null
  const uint16_t* exact;   // (out, in) BF16, or null for a plane
  float weight;            // of the expert in the mixture
  int input;               // which of its group's prepared inputs the signs are applied to
};

// Rows of a batch that see the same matrix: base and one mixture.
struct RowGroup {
  const int* rows; // (row_count)
  int row_count;
  const DeltaTerm* terms; // (term_count), in order of application
  int term_count;
  bool is_exact;     // whether one of them is an exact difference
  const float* bias; // (out), or null
  // What signs are applied to, once for each column scale. The first `lane_rows` rows are computed `lanes` together.
  int inputs;
  int lane_rows;
  const float* columns; // (inputs, ceil(lane_rows / lanes), padded in, lanes)
  size_t tables;        // of `LinearJob::tables`: (row_count - lane_rows, inputs, padded in / 4, 16)
};

// y[row] = W[group] x[row] + bias[group].
struct LinearJob {
  const void* w; // (out, in)
  Dtype dtype;   // all but F16
  const float* x; // (rows, x_stride), zeros from in to the next multiple of 32
  int x_stride;
  const float* tables;  // of all groups
  const char* integers; // (rows, integer_bytes(in)) where w is quantised
  int in;
  float* y;
  int y_stride;
  // Rows that share the base's weights: all but those of exact groups, of which quantised weights are apart.
  const int* plain_rows;          // (plain_count)
  const float* const* plain_bias; // (plain_count) of null or (out)
  int plain_count;
  const RowGroup* groups; // those with terms
  int group_count;
};

// Attention of some query rows of one sequence over its cache.
struct AttentionJob {
  const float* q; // (rows, q_stride)
  float* out;     // (rows, out_stride)
  int q_stride;
  int out_stride;
  const float* keys;   // (blocks, kv_heads, block_tokens, head_dim)
  const float* values; // the same
  int block_tokens;
  int kv_heads;
  int heads;
  int head_dim;
  float scale;
  int window;
};

// Sums along a row of float32 values are float64, in so many lanes: lane l adds elements l, l + kSumLanes … in order; then the lanes are added by halves.
constexpr int kSumLanes = 16;

struct RowSums {
  double absolute;
  double squared;
};

// What Gumbel noise is a function of: a seed's two words, and two of the counter's.
struct GumbelKey {
  uint32_t key0;
  uint32_t key1;
  uint32_t choice;
  uint32_t place;
};

struct KernelTable {
  const char* name;
  int lanes;
  // From so many rows of a group on it pays to compute `lanes` of them together.
  int least_lane_rows;
  // Outputs begin … end of every row, but for the signs of lane rows; `begin` is a multiple of kTileSigns.
  void (*linear)(const LinearJob&, int begin, int end);
  // Then the signs of the block-th `lanes` lane rows of a group, for up to kLaneOutputs outputs from a multiple of kTileSigns on.
  void (*lane_signs)(const LinearJob&, const RowGroup&, int block, int first, int outputs);
  // A row x (in) as `LinearJob::integers` has it for weights that are `zero` more than they mean.
  void (*integers)(char* out, const float* x, int in, int zero);
  // A row x (in) as `RowGroup::tables` has it; `col_scale` may be null.
  void (*sign_tables)(float* tables, const float* x, const float* col_scale, int in);
  // Up to `lanes` rows as `RowGroup::columns` has them, zeros for those beyond `count`.
  void (*sign_columns)(float* columns, const float* x, size_t x_stride, const int* rows, int count, const float* col_scale, int in);
  // `count` heads from `head` on, which share keys and values, of query `row` at `position`; `scores` holds count * (position + 1) floats.
  void (*attention)(const AttentionJob&, int row, int head, int count, int position, const int* blocks, float* scores);
  float (*dot)(const float* a, const float* b, int n);
  void (*scale_by)(float* out, const float* x, const float* w, float factor, int n); // out = x · factor · w
  void (*add)(float* x, const float* y, int n);
  void (*swiglu)(float* out, const float* gate, const float* up, int n);
  // x[i], x[i + half] rotated by cos[i], sin[i].
  void (*rotate)(float* x, const float* cos, const float* sin, int half);
  // Row j of a matrix of n columns, or a vector of n values (j = 0).
  void (*widen)(float* out, const void* data, Dtype dtype, size_t j, int n);
  // Row j of a matrix in tiles, from n values of BF16, F16 or F32, or zeros where `data` is null.
  void (*quantize)(void* matrix, Dtype format, size_t j, const void* data, Dtype dtype, int n);
  // One row of n such values in groups one after the other; see GroupPackJob.
  void (*pack_groups)(uint8_t* values, uint16_t* scales, Dtype format, const void* data, Dtype dtype, int n);
  // out += weight · difference, for row j of a matrix (or a whole vector, j = 0) of n columns.
  void (*apply_term)(float* out, const DeltaTerm& term, size_t j, int n);
  // d = tuned − base (float32) of one row.
  void (*difference)(float* out, const void* base, Dtype base_dtype, const void* tuned, Dtype tuned_dtype, int n);
  // Signs of a row, bit 1 where it is ≥ 0, and its sums.
  RowSums (*pack_row)(const float* left, int n, uint32_t* signs);
  // left −= ± scale, by its sign.
  void (*subtract_plane)(float* left, int n, float scale);
  double (*sum_squares)(const float* left, int n);
  // out[k] += Σ_b a_b · x_b[k], b in order; not fused.
  void (*add_products)(float* out, const float* const* x, const float* a, int count, int n);
  // out += a · x; not fused.
  void (*add_scaled)(float* out, const float* x, float a, int n);
  // Softmax's weights of a vocabulary, and their sum; see softmax.h.
  double (*exponentials)(double* out, const float* x, int n, double top, double temperature, double cut, int cut_index);
  // Of tokens by how likely they are, those around which `weights` come to `target`: their ids, in order, how many, and what all likelier ones weigh.
  int (*gather_edge)(int* ids, double* before, const float* x, const double* weights, int n, double top, double temperature, double target);
  // A draw from softmax; see gumbel.h.
  int (*gumbel_argmax)(const float* x, int n, int best, double temperature, double cut, int cut_index, const GumbelKey& key);
  uint64_t (*sum_words)(const uint64_t* words, size_t n);
  // SHA-256's state (8) after the next `blocks` blocks of each of up to `lanes` messages; see sha256_lanes.h. Null where that is no gain.
  void (*sha256)(uint32_t* const* states, const uint8_t* const* data, int count, size_t blocks);
};

extern const KernelTable kPortable;
#if defined(__x86_64__) || defined(_M_X64)
extern const KernelTable kAvx2;
extern const KernelTable kAvx512;
extern const KernelTable kAvx512Vnni;
#elif defined(__aarch64__)
extern const KernelTable kNeon;
#endif

} // namespace signpost
