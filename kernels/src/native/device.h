// One model's memory on the CPU: parameters, expert slots, KV cache, and the batch of the step under way. Pointers come from typed arrays
// that the JavaScript side keeps alive; everything was checked before it got here.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels.h"

namespace signpost {

struct Param {
  const void* data = nullptr; // (out, in), or (out) for a vector
  Dtype dtype = Dtype::F32;
  int out = 0;
  int in = 0; // 0 for a vector
};

struct Delta {
  std::vector<Plane> planes;
  const uint16_t* exact = nullptr; // BF16, in the parameter's shape
};

struct KvShape {
  int layers, blocks, block_tokens, kv_heads, head_dim;
};

// Activations: rows of `stride` floats, zeros from `cols` on.
struct Matrix {
  float* data;
  int cols;
  int stride;
  int capacity;
};

struct Batch {
  int rows = 0;
  std::vector<int32_t> tokens, positions, sequence; // (rows)
  std::vector<int32_t> block_table;                 // (sequences, blocks_per_sequence)
  int blocks_per_sequence = 0;
  std::vector<int32_t> mixture_start, mixture_slots; // (rows + 1), (terms)
  std::vector<float> mixture_weights;                // (terms)
  std::vector<int32_t> logit_rows;
};

// Rows whose n-th mixture term is the same slot: the unit in which deltas are applied. Rounds (n = 0, 1, …) follow each other, so that a
// row adds its terms in its own order whatever else is in the batch.
struct Group {
  int slot;
  std::vector<int> rows;
  std::vector<float> weights;
};

class Device {
public:
  Device(const KernelTable& kernels, std::vector<Param> params, int slots, KvShape kv);

  std::vector<Param> params;
  std::vector<std::vector<Delta>> slots; // [slot][param]
  KvShape kv;
  Batch batch;

  void begin();
  void embed(Matrix out, int param);
  void rms_norm(Matrix out, Matrix x, int param, float eps);
  void linear(Matrix out, Matrix x, int param, int bias);
  void rope(Matrix x, const float* cos, const float* sin, int head_dim);
  void store_kv(int layer, Matrix keys, Matrix values);
  void attention(Matrix out, Matrix queries, int layer, float scale, int window);
  void swiglu(Matrix out, Matrix gate, Matrix up);
  void add(Matrix x, Matrix y);
  void gather(Matrix out, Matrix x);

  // Rows that ops act on now.
  int rows() const { return static_cast<int>(active_.size()); }

private:
  void regroup();
  const Delta* delta(int slot, int param) const;
  // Values from..from+n of a parameter as a row sees them, into `out`.
  void seen(float* out, int param, int active_row, size_t from, int n) const;
  bool row_has_delta(int active_row, int param) const;
  float* scratch(std::vector<float>& buffer, size_t size);

  const KernelTable& kernels_;
  std::vector<float> keys_, values_; // (layers, blocks, kv_heads, block_tokens, head_dim)
  std::vector<int> active_;          // batch rows that ops act on
  std::vector<Group> groups_;        // in order of application
  size_t group_count_ = 0;
  std::vector<float> scaled_, sums_, widened_, scores_;
};

} // namespace signpost
