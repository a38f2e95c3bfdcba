// One model's memory on the CPU: parameters, expert slots, KV cache, and the batch of the step under way. All of it is its own;
// everything was checked before it got here.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include "kernels.h"
#include "mapped_file.h"
#include "memory.h"
#include "pool.h"

namespace signpost {

struct Param {
  const void* data = nullptr; // (out, in), or (out) for a vector
  Dtype dtype = Dtype::F32;
  Memory memory; // what `data` points into
  std::shared_ptr<MappedFile> file; // what it points into instead, until the parameter is settled
  uint64_t offset = 0;              // of it
  int out = 0;
  int in = 0; // 0 for a vector

  // Of a parameter that is loaded.
  size_t bytes() const { return row_bytes(dtype, in == 0 ? 1 : in) * out; }
  size_t resident_bytes() const { return file == nullptr ? memory.bytes() : bytes(); }
};

// What one expert adds to one parameter: its terms with weight 1, planes first; an exact difference stands last.
struct Delta {
  std::vector<DeltaTerm> terms;
  std::vector<Memory> memory; // what the terms point into
  std::vector<float> added; // (k, in): rows below the matrix's own
  // Of planes that were here: the next expert's are as large, and memory that the system has just given costs more than filling it does.
  std::vector<Memory> spare;

  // Memory of so many bytes, not zeroed. Throws std::bad_alloc.
  Memory take(size_t bytes) {
    if (spare.empty()) return Memory(bytes);
    Memory memory = std::move(spare.back());
    spare.pop_back();
    return memory.bytes() == bytes ? std::move(memory) : Memory(bytes);
  }

  // Empties it. What isn't a plane's is given back; what is spare of one that is empty already stays.
  void clear() {
    if (!terms.empty()) spare.clear();
    for (size_t t = 0; t < terms.size(); t++)
      if (terms[t].exact == nullptr) spare.push_back(std::move(memory[t]));
    if (!terms.empty()) std::reverse(spare.begin(), spare.end());
    terms.clear();
    memory.clear();
    added = {};
  }
};

struct KvShape {
  int layers, blocks, block_tokens, kv_heads, head_dim;

  // Of keys or values.
  size_t layer_floats() const { return static_cast<size_t>(blocks) * kv_heads * block_tokens * head_dim; }
};

// Activations: rows of `stride` floats, zeros from `cols` on.
struct Matrix {
  float* data;
  int cols;
  int stride;
  int capacity;
};

// out = W x + b; `bias` may be -1.
struct Linear {
  Matrix out;
  int param;
  int bias;
};

// What becomes of the outputs of linear layers, for which no other thread has to have them: target += out of the only layer; or of two, gate and up,
// target = silu(gate) · up.
struct Epilogue {
  enum class Kind { None, Add, Swiglu } kind = Kind::None;
  Matrix target = {};
};

inline float* row_of(Matrix m, int row) { return m.data + static_cast<size_t>(row) * m.stride; }

// Work smaller than this is done before another thread has woken up.
constexpr int kGrainValues = 16 * 1024;
inline int row_grain(int cols) {
  return cols >= kGrainValues ? 1 : kGrainValues / (cols < 1 ? 1 : cols);
}

struct Batch {
  int rows = 0;
  std::vector<int32_t> tokens, positions, sequence; // (rows)
  std::vector<int32_t> block_table;                 // (sequences, blocks_per_sequence)
  int blocks_per_sequence = 0;
  std::vector<int32_t> mixture_start, mixture_slots; // (rows + 1), (terms)
  std::vector<float> mixture_weights;                // (terms)
  std::vector<int32_t> logit_rows;
};

// Rows that see the same model: all with the same experts, weights and order.
struct Mixture {
  std::vector<int> rows; // active rows
  int batch_row;         // one of them in the batch, whose terms are all rows' terms
};

class Device {
public:
  // Throws std::bad_alloc when the cache is larger than the machine gives.
  Device(const KernelTable& kernels, std::vector<Param> params, int slots, KvShape kv);

  std::vector<Param> params;
  std::vector<std::vector<Delta>> slots; // [slot][param]
  KvShape kv;
  Batch batch;
  // Filled by the caller and checked, then taken by `begin`: a batch that is refused leaves the one before untouched.
  Batch incoming;

  // Makes a parameter resident, of `data` (BF16, F16 or F32) as it is or as `format` has it: F32, or of a matrix Q8 or Q4.
  void load(Param& param, Dtype format, const void* data, Dtype dtype);
  // The same of what a file holds as BF16 or F32, which is read in and stays there.
  void map(Param& param, Dtype dtype, std::shared_ptr<MappedFile> file, uint64_t offset);
  // Has a mapped parameter in `memory` from now on: a copy.
  void settle(Param& param, Memory memory);
  // Adds a plane to a delta of a parameter: copies of signs (out, ceil(in / 32)) and scales. `col_scale` may be null.
  void add_plane(Delta& delta, const Param& param, const uint32_t* signs, const float* row_scale, bool is_per_row, const float* col_scale) const;
  // Adds a copy of a BF16 difference.
  void add_exact(Delta& delta, const Param& param, const uint16_t* exact) const;
  // Puts BF16 rows (count, in) below what a delta's matrix has.
  void add_rows(Delta& delta, const uint16_t* rows, size_t count, int in) const;

  void begin();
  void embed(Matrix out, int param);
  void rms_norm(Matrix out, Matrix x, int param, float eps);
  // Layers of one input: what their experts' signs and integer weights need of it is prepared once, and threads share the outputs of all.
  void linears(Matrix x, const std::vector<Linear>& layers, const Epilogue& epilogue = {});
  void head(Matrix out, Matrix x, int param);
  void rope(Matrix x, const float* cos, const float* sin, int head_dim);
  void store_kv(int layer, Matrix keys, Matrix values);
  void attention(Matrix out, Matrix queries, int layer, float scale, int window);
  void swiglu(Matrix out, Matrix gate, Matrix up);
  void add(Matrix x, Matrix y);
  void gather(Matrix out, Matrix x);

  // The rows that the experts of a batch row add below a matrix, of the first that has any; null for none.
  const std::vector<float>* added(int batch_row, int param) const;
  // How many experts of a batch row add any.
  int adding(int batch_row, int param) const;
  // Rows that ops act on now, and the batch row behind each.
  int batch_row(int row) const { return active_[row]; }
  int rows() const { return static_cast<int>(active_.size()); }

private:
  void regroup();
  bool same_mixture(int batch_row, int other) const;
  bool has_delta(const Mixture& mixture, int param) const;
  void append_terms(std::vector<DeltaTerm>& terms, const Mixture& mixture, int param) const;
  // Values of row j of a parameter (or all of a vector, j = 0) as a mixture sees them, into `out` (n).
  void seen(float* out, int param, const Mixture& mixture, size_t j, int n) const;
  // Where a group's inputs are: in `columns_`, and among a call's tables; see RowGroup.
  struct Prepared {
    size_t columns, tables;
  };
  // What rows are computed from one at a time, for a call of `linears`: `tables` bytes of `tables_`, then rows as integers for weights of `dtype`.
  struct RowInputs {
    Matrix x;
    Dtype dtype;
    size_t tables;
    bool are_own; // each thread makes its own
    uint64_t id;
    char* shared; // null where they are own
  };
  // What one linear layer of a step is computed from.
  struct Layer {
    int param;
    std::vector<float> widened;
    std::vector<const float*> bias; // (mixtures)
    std::vector<int> plain_rows;
    std::vector<const float*> plain_bias; // (plain rows)
    std::vector<DeltaTerm> terms;
    std::vector<size_t> first_term; // (groups)
    std::vector<RowGroup> groups;
    std::vector<Prepared> prepared; // (groups)
    LinearJob job;
  };

  // Each mixture's view of a vector parameter, in `seen`: the base's where it adds nothing.
  void see_vector(int param, std::vector<float>& widened, std::vector<const float*>& seen) const;
  // Rows with the same view of a matrix and its bias.
  void collect_groups(Layer& layer, int param, int bias);
  // What the signs of the first `count` of `layers_` are applied to: lane rows' in `columns_`, and of the others which tables they need.
  void prepare_inputs(Matrix x, size_t count);
  // What is shared of them is made.
  RowInputs row_inputs(Matrix x, Dtype dtype);
  int input_count(Dtype dtype) const;
  void make_inputs(const RowInputs& inputs, char* into, int begin, int end) const;
  // Them, for the thread that asks.
  const char* inputs_here(const RowInputs& inputs) const;
  // Where the rows of a group of layer `l` have been prepared for a layer before it; null where they haven't.
  const Prepared* prepared_like(size_t l, const RowGroup& group) const;

  const KernelTable& kernels_;
  Zeros keys_, values_; // (layers, blocks, kv_heads, block_tokens, head_dim)
  std::vector<int> active_;          // batch rows that ops act on
  std::vector<Mixture> mixtures_;    // the first mixture_count_ are in use
  size_t mixture_count_ = 0;
  std::vector<int> mixture_of_; // (active rows)

  // The epilogue for tiles from … to of outputs.
  void finish(const Epilogue& epilogue, const std::vector<Linear>& linears, int from, int to) const;
  // Whether all have as many outputs.
  bool are_alike(const std::vector<Linear>& linears) const;
  // What the next call of `linears` will read, if it is the one that came after this one's first layer the last time.
  Upcoming expect(const std::vector<Linear>& linears);
  std::vector<std::vector<int>> followers_; // (params): the layers computed after those that begin with this one
  int previous_ = -1;               // the first layer of the last call

  // Scratch of one op; kept so that a step allocates nothing once it has run.
  struct Preparation {
    const int* rows;
    int count; // 1 for tables
    const float* col_scale;
    size_t at; // float of `columns_`, or of all tables
  };
  std::vector<float> widened_, scores_;
  Memory columns_, inputs_;
  std::vector<const float*> vectors_; // (mixtures)
  std::vector<Layer> layers_;         // the first ones are in use
  std::vector<Preparation> blocks_, tables_; // of lane rows, and of the others
  std::vector<const float*> scales_; // distinct column scales of a group
};

} // namespace signpost
