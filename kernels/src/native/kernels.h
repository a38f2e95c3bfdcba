// What the compute kernels take and give: plain structs over raw memory, checked by the caller. One table of functions for each
// instruction set; nothing here may use templates of the standard library, whose code would be shared between sets.
#pragma once
#include <cstddef>
#include <cstdint>

namespace signpost {

enum class Dtype : int { BF16 = 0, F16 = 1, F32 = 2 };

// One 1-bit plane of a matrix (out, in).
struct Plane {
  const uint32_t* signs;  // (out, ceil(in / 32))
  const float* row_scale; // (out) or (1)
  int row_scale_step;     // 1, or 0 for one scale
  const float* col_scale; // (in), or null
};

// y[row][j] += weight · rowScale[j] · (2 · Σ_i bit[j][i] · x[row][i] − sum[row]) for a group of rows.
struct SignJob {
  const Plane* plane;
  const float* x;       // (rows, x_stride), already times the column scale; zeros from in to the next multiple of 32
  const float* sums;    // (rows): Σ of the row of x
  int x_stride;
  int in;
  float* y;
  int y_stride;
  const int* rows;      // (count)
  const float* weights; // (count)
  int count;
};

// y[row][j] (+)= weight · Σ_i w[j][i] · x[row][i] for a group of rows.
struct DenseJob {
  const void* w; // (out, in)
  Dtype dtype;   // BF16 or F32
  const float* x;
  int x_stride;
  int in;
  float* y;
  int y_stride;
  const int* rows;      // (count), or null for rows 0 … count - 1
  const float* weights; // (count), or null to store instead of adding
  int count;
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
  void (*dense)(const DenseJob&, int begin, int end);
  void (*sign)(const SignJob&, int begin, int end);
  // Head group `kv_head` of query `row` at `position`; `scores` holds (heads / kv_heads) * (position + 1) floats.
  void (*attention)(const AttentionJob&, int row, int kv_head, int position, const int* blocks, float* scores);
  float (*sum)(const float* x, int n);
  float (*sum_squares)(const float* x, int n);
  void (*scale_by)(float* out, const float* x, const float* w, float factor, int n); // out = x · factor · w
  void (*multiply)(float* out, const float* x, const float* w, int n);
  void (*add)(float* x, const float* y, int n);
  void (*swiglu)(float* out, const float* gate, const float* up, int n);
  // x[i], x[i + half] rotated by cos[i], sin[i].
  void (*rotate)(float* x, const float* cos, const float* sin, int half);
  void (*widen)(float* out, const void* data, Dtype dtype, int n);
  // d = tuned − base (float32) of one row.
  void (*difference)(float* out, const void* base, Dtype base_dtype, const void* tuned, Dtype tuned_dtype, int n);
};

extern const KernelTable kPortable;
#if defined(__x86_64__) || defined(_M_X64)
extern const KernelTable kAvx2;
extern const KernelTable kAvx512;
#elif defined(__aarch64__)
extern const KernelTable kNeon;
#endif

} // namespace signpost
