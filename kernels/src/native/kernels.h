// What the compute kernels take and give: plain structs over raw memory, checked by the caller. One table of functions for each
// instruction set; nothing here may use templates of the standard library, whose code would be shared between sets.
#pragma once
#include <cstddef>
#include <cstdint>

namespace signpost {

enum class Dtype : int { BF16 = 0, F16 = 1, F32 = 2 };

// One part of what a mixture adds to a matrix (out, in): a 1-bit plane, or an exact difference.
struct DeltaTerm {
  const uint32_t* signs;   // (out, ceil(in / 32)), or null for an exact difference
  const float* row_scale;  // (out) or (1)
  int row_scale_step;      // 1, or 0 for one scale
  const float* col_scale;  // (in), or null
  const uint16_t* exact;   // (out, in) BF16, or null for a plane
  float weight;            // of the expert in the mixture
};

// Rows of a batch that see the same matrix: base and one mixture.
struct RowGroup {
  const int* rows; // (row_count)
  int row_count;
  const DeltaTerm* terms; // (term_count), in order of application
  int term_count;
  const float* sums; // (term_count, row_count): Σ (c ⊙ x) for a plane's columns scales c
  const float* bias; // (out), or null
};

// y[row] = W[group] x[row] + bias[group].
struct LinearJob {
  const void* w; // (out, in)
  Dtype dtype;   // BF16 or F32
  const float* x; // (rows, x_stride), zeros from in to the next multiple of 32
  int x_stride;
  int in;
  float* y;
  int y_stride;
  const RowGroup* groups;
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

struct KernelTable {
  const char* name;
  // Outputs begin … end of every group.
  void (*linear)(const LinearJob&, int begin, int end);
  // Head group `kv_head` of query `row` at `position`; `scores` holds (heads / kv_heads) * (position + 1) floats.
  void (*attention)(const AttentionJob&, int row, int kv_head, int position, const int* blocks, float* scores);
  float (*sum)(const float* x, int n);
  float (*dot)(const float* a, const float* b, int n);
  void (*scale_by)(float* out, const float* x, const float* w, float factor, int n); // out = x · factor · w
  void (*add)(float* x, const float* y, int n);
  void (*swiglu)(float* out, const float* gate, const float* up, int n);
  // x[i], x[i + half] rotated by cos[i], sin[i].
  void (*rotate)(float* x, const float* cos, const float* sin, int half);
  void (*widen)(float* out, const void* data, Dtype dtype, int n);
  // out += weight · difference, for row j of a matrix (or a whole vector, j = 0) of n columns.
  void (*apply_term)(float* out, const DeltaTerm& term, size_t j, int n);
  // d = tuned − base (float32) of one row.
  void (*difference)(float* out, const void* base, Dtype base_dtype, const void* tuned, Dtype tuned_dtype, int n);
  // out[k] ± Σ_b a_b · x_b[k], b in order; not fused.
  void (*add_products)(double* out, const float* const* x, const double* a, int count, int n);
  void (*subtract_products)(double* out, const double* const* x, const double* a, int count, int n);
  // out += a · x; not fused.
  void (*add_scaled)(double* out, const double* x, double a, int n);
  void (*add_feedback)(float* out, const float* x, float a, int n);
  uint64_t (*sum_words)(const uint64_t* words, size_t n);
};

extern const KernelTable kPortable;
#if defined(__x86_64__) || defined(_M_X64)
extern const KernelTable kAvx2;
extern const KernelTable kAvx512;
#elif defined(__aarch64__)
extern const KernelTable kNeon;
#endif

} // namespace signpost
