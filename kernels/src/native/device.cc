#include "device.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "pool.h"

namespace signpost {
namespace {
// Rows of weights that a thread takes to convert: a whole number of tiles.
constexpr int kGrainRows = 64;

float* scratch(std::vector<float>& buffer, size_t size) {
  if (buffer.size() < size) buffer.resize(size);
  return buffer.data();
}

typedef uint32_t Quad __attribute__((vector_size(16)));
typedef uint32_t QuadU __attribute__((vector_size(16), aligned(4), may_alias));

// The hardware sees sixteen streams that go back and forth, and fetches too little ahead.
constexpr size_t kSignsAhead = 4096;

// Past the cache: all of an expert is written before any of it is read, and lines that are written whole need not be fetched first.
inline void stream(uint32_t* to, Quad quad) {
#if defined(__x86_64__)
  _mm_stream_si128(reinterpret_cast<__m128i*>(to), reinterpret_cast<__m128i>(quad));
#else
  *reinterpret_cast<Quad*>(to) = quad;
#endif
}

// Before another thread reads what was streamed.
inline void end_streams() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

// Four words of four outputs each become four outputs of four words each.
inline void transpose_quads(Quad* to, size_t to_stride, const uint32_t* from, size_t from_stride) {
  const auto row = [&](size_t o) -> Quad { return *reinterpret_cast<const QuadU*>(from + o * from_stride); };
  const auto put = [&](size_t w, Quad quad) { to[w * to_stride] = quad; };
  const Quad low_ab = __builtin_shufflevector(row(0), row(1), 0, 4, 1, 5);
  const Quad high_ab = __builtin_shufflevector(row(0), row(1), 2, 6, 3, 7);
  const Quad low_cd = __builtin_shufflevector(row(2), row(3), 0, 4, 1, 5);
  const Quad high_cd = __builtin_shufflevector(row(2), row(3), 2, 6, 3, 7);
  put(0, __builtin_shufflevector(low_ab, low_cd, 0, 1, 4, 5));
  put(1, __builtin_shufflevector(low_ab, low_cd, 2, 3, 6, 7));
  put(2, __builtin_shufflevector(high_ab, high_cd, 0, 1, 4, 5));
  put(3, __builtin_shufflevector(high_ab, high_cd, 2, 3, 6, 7));
}

// A tile's signs, those of kTileSigns outputs side by side, from (out, words); zeros stand for outputs beyond the last. `tiles` begins at a line, as each word of all
// outputs then does.
void tile_signs(uint32_t* tiles, const uint32_t* signs, size_t out, size_t words, size_t tile) {
  const size_t first = tile * kTileSigns;
  const size_t rows = std::min<size_t>(kTileSigns, out - first);
  uint32_t* to = tiles + first * words;
  const uint32_t* from = signs + first * words;
  const size_t quads = rows == kTileSigns ? words / 4 * 4 : 0;
  constexpr size_t kQuads = kTileSigns / 4;
  for (size_t w = 0; w < quads; w += 4) {
    // As many bytes as are read now, so much further.
    for (size_t at = 0; at < sizeof(Quad) * 4 * kQuads; at += 64) __builtin_prefetch(reinterpret_cast<const char*>(from + w * kTileSigns) + kSignsAhead + at);
    Quad lines[4 * kQuads];
    for (size_t q = 0; q < kQuads; q++) transpose_quads(lines + q, kQuads, from + q * 4 * words + w, words);
    for (size_t i = 0; i < 4 * kQuads; i++) stream(to + w * kTileSigns + i * 4, lines[i]);
  }
  for (size_t w = quads; w < words; w++)
    for (size_t o = 0; o < kTileSigns; o++) to[w * kTileSigns + o] = o < rows ? from[o * words + w] : 0;
}
} // namespace

Device::Device(const KernelTable& kernels, std::vector<Param> params_, int slot_count, KvShape kv_)
    : params(std::move(params_)), slots(slot_count), kv(kv_), kernels_(kernels), keys_(kv.layers * kv.layer_floats() * sizeof(float)), values_(kv.layers * kv.layer_floats() * sizeof(float)) {
  for (auto& slot : slots) slot.resize(params.size());
}

void Device::begin() {
  std::swap(batch, incoming);
  active_.resize(batch.rows);
  for (int r = 0; r < batch.rows; r++) active_[r] = r;
  regroup();
}

bool Device::same_mixture(int row, int other) const {
  const int start = batch.mixture_start[row];
  const int other_start = batch.mixture_start[other];
  const int terms = batch.mixture_start[row + 1] - start;
  if (terms != batch.mixture_start[other + 1] - other_start) return false;
  for (int t = 0; t < terms; t++) {
    if (batch.mixture_slots[start + t] != batch.mixture_slots[other_start + t]) return false;
    if (batch.mixture_weights[start + t] != batch.mixture_weights[other_start + t]) return false;
  }
  return true;
}

void Device::regroup() {
  mixture_count_ = 0;
  mixture_of_.resize(active_.size());
  for (int r = 0; r < rows(); r++) {
    // Rows of one sequence stand together: the row before has most likely the same.
    size_t m = r > 0 && same_mixture(active_[r], active_[r - 1]) ? static_cast<size_t>(mixture_of_[r - 1]) : 0;
    while (m < mixture_count_ && !same_mixture(active_[r], mixtures_[m].batch_row)) m++;
    if (m == mixture_count_) {
      if (m == mixtures_.size()) mixtures_.emplace_back();
      mixtures_[m].rows.clear();
      mixtures_[m].batch_row = active_[r];
      mixture_count_++;
    }
    mixtures_[m].rows.push_back(r);
    mixture_of_[r] = static_cast<int>(m);
  }
}

bool Device::has_delta(const Mixture& mixture, int param) const {
  for (int t = batch.mixture_start[mixture.batch_row]; t < batch.mixture_start[mixture.batch_row + 1]; t++)
    if (!slots[batch.mixture_slots[t]][param].terms.empty()) return true;
  return false;
}

void Device::seen(float* out, int param, const Mixture& mixture, size_t j, int n) const {
  const Param& base = params[param];
  kernels_.widen(out, base.data, base.dtype, j, n);
  for (int t = batch.mixture_start[mixture.batch_row]; t < batch.mixture_start[mixture.batch_row + 1]; t++) {
    for (DeltaTerm term : slots[batch.mixture_slots[t]][param].terms) {
      term.weight = batch.mixture_weights[t];
      kernels_.apply_term(out, term, j, n);
    }
  }
}

void Device::see_vector(int param, std::vector<float>& buffer, std::vector<const float*>& seen_as) const {
  const Param& base = params[param];
  const size_t n = static_cast<size_t>(base.out);
  float* widened = scratch(buffer, n * (mixture_count_ + 1));
  kernels_.widen(widened, base.data, base.dtype, 0, base.out);
  seen_as.resize(mixture_count_);
  for (size_t m = 0; m < mixture_count_; m++) {
    seen_as[m] = widened;
    if (!has_delta(mixtures_[m], param)) continue;
    float* own = widened + n * (m + 1);
    seen(own, param, mixtures_[m], 0, base.out);
    seen_as[m] = own;
  }
}

void Device::load(Param& param, Dtype format, const void* data, Dtype dtype) {
  const int rows = param.in == 0 ? 1 : param.out;
  const int columns = param.in == 0 ? param.out : param.in;
  const size_t from = row_bytes(dtype, columns);
  const size_t to = row_bytes(format, columns);
  const int tiles = is_quantized(format) ? tiles_of(rows) : 0;
  Memory memory(tiles > 0 ? tiles * tile_bytes(format, columns) : rows * to);
  Pool::instance().each(tiles > 0 ? tiles * kTileSigns : rows, kGrainRows, [&](int begin, int end) {
    for (int j = begin; j < end; j++) {
      const char* row = j < rows ? static_cast<const char*>(data) + j * from : nullptr;
      if (tiles > 0) kernels_.quantize(memory.as<char>(), format, j, row, dtype, columns);
      else if (format == dtype) std::copy_n(row, to, memory.as<char>() + j * to);
      else kernels_.widen(reinterpret_cast<float*>(memory.as<char>() + j * to), row, dtype, 0, columns);
    }
  });
  settle(param, std::move(memory));
  param.dtype = format;
}

void Device::map(Param& param, Dtype dtype, std::shared_ptr<MappedFile> file, uint64_t offset) {
  param.memory = Memory();
  param.dtype = dtype;
  param.offset = offset;
  param.data = file->at(offset);
  param.file = std::move(file);
  param.file->read_in(offset, param.bytes());
}

void Device::settle(Param& param, Memory memory) {
  param.memory = std::move(memory);
  param.data = param.memory.as<char>();
  param.file = nullptr;
}

void Device::add_plane(Delta& delta, const Param& param, const uint32_t* signs, const float* row_scale, bool is_per_row, const float* col_scale) const {
  const size_t words = (static_cast<size_t>(param.in) + 31) / 32;
  const size_t tiled = tiled_words(param.out, param.in);
  const size_t scales = is_per_row ? param.out : 1;
  Memory memory = delta.take((tiled + scales + (col_scale == nullptr ? 0 : param.in)) * sizeof(float));
  uint32_t* tiles = memory.as<uint32_t>();
  const int grain = std::max<int>(1, kGrainValues / static_cast<int>(words * kTileSigns));
  Pool::instance().each(tiles_of(param.out), grain, [&](int begin, int end) {
    for (int tile = begin; tile < end; tile++) tile_signs(tiles, signs, param.out, words, tile);
    end_streams();
  });
  float* rows = reinterpret_cast<float*>(tiles + tiled);
  std::copy_n(row_scale, scales, rows);
  if (col_scale != nullptr) std::copy_n(col_scale, param.in, rows + scales);
  delta.terms.push_back({tiles, rows, is_per_row ? 1 : 0, col_scale == nullptr ? nullptr : rows + scales, nullptr, 1.0f, 0});
  delta.memory.push_back(std::move(memory));
}

void Device::add_exact(Delta& delta, const Param& param, const uint16_t* exact) const {
  const size_t count = static_cast<size_t>(param.out) * (param.in == 0 ? 1 : param.in);
  Memory memory(count * sizeof(uint16_t));
  std::copy_n(exact, count, memory.as<uint16_t>());
  delta.terms.push_back({nullptr, nullptr, 0, nullptr, memory.as<uint16_t>(), 1.0f, 0});
  delta.memory.push_back(std::move(memory));
}

void Device::add_rows(Delta& delta, const uint16_t* rows, size_t count, int in) const {
  delta.added.resize(count * in);
  for (size_t j = 0; j < count; j++) kernels_.widen(delta.added.data() + j * in, rows, Dtype::BF16, j, in);
}

const std::vector<float>* Device::added(int row, int param) const {
  for (int t = batch.mixture_start[row]; t < batch.mixture_start[row + 1]; t++) {
    const std::vector<float>& rows = slots[batch.mixture_slots[t]][param].added;
    if (!rows.empty()) return &rows;
  }
  return nullptr;
}

int Device::adding(int row, int param) const {
  int count = 0;
  for (int t = batch.mixture_start[row]; t < batch.mixture_start[row + 1]; t++) count += slots[batch.mixture_slots[t]][param].added.empty() ? 0 : 1;
  return count;
}

void Device::embed(Matrix out, int param) {
  const int tokens = params[param].out;
  Pool::instance().each(rows(), row_grain(out.cols), [&](int begin, int end) {
    for (int r = begin; r < end; r++) {
      const int token = batch.tokens[active_[r]];
      if (token < tokens) seen(row_of(out, r), param, mixtures_[mixture_of_[r]], static_cast<size_t>(token), out.cols);
      else std::copy_n(added(active_[r], param)->data() + static_cast<size_t>(token - tokens) * out.cols, out.cols, row_of(out, r));
    }
  });
}

void Device::rms_norm(Matrix out, Matrix x, int param, float eps) {
  const int n = params[param].out;
  see_vector(param, widened_, vectors_);
  Pool::instance().each(rows(), row_grain(x.cols), [&](int begin, int end) {
    for (int r = begin; r < end; r++) {
      for (int at = 0; at < x.cols; at += n) {
        const float* in = row_of(x, r) + at;
        const float mean = kernels_.dot(in, in, n) / static_cast<float>(n);
        kernels_.scale_by(row_of(out, r) + at, in, vectors_[mixture_of_[r]], 1.0f / std::sqrt(mean + eps), n);
      }
    }
  });
}

void Device::head(Matrix out, Matrix x, int param) {
  linears(x, {{out, param, -1}});
  const int outputs = params[param].out;
  Pool::instance().each(out.cols - outputs, row_grain(x.cols), [&](int begin, int end) {
    for (int r = 0; r < rows(); r++) {
      const std::vector<float>* below = added(active_[r], param);
      const int own = below == nullptr ? 0 : static_cast<int>(below->size() / x.cols);
      float* logits = row_of(out, r) + outputs;
      for (int j = begin; j < std::min(own, end); j++) logits[j] = kernels_.dot(row_of(x, r), below->data() + static_cast<size_t>(j) * x.cols, x.cols);
      for (int j = std::max(own, begin); j < end; j++) logits[j] = -std::numeric_limits<float>::infinity();
    }
  });
}

void Device::rope(Matrix x, const float* cos, const float* sin, int head_dim) {
  const int half = head_dim / 2;
  Pool::instance().each(rows(), row_grain(x.cols), [&](int begin, int end) {
    for (int r = begin; r < end; r++) {
      const size_t at = static_cast<size_t>(batch.positions[active_[r]]) * half;
      for (int h = 0; h < x.cols; h += head_dim) kernels_.rotate(row_of(x, r) + h, cos + at, sin + at, half);
    }
  });
}

void Device::store_kv(int layer, Matrix keys, Matrix values) {
  const size_t layer_size = kv.layer_floats();
  for (int r = 0; r < rows(); r++) {
    const int row = active_[r];
    const int position = batch.positions[row];
    const size_t block = static_cast<size_t>(batch.block_table[static_cast<size_t>(batch.sequence[row]) * batch.blocks_per_sequence + position / kv.block_tokens]);
    for (int h = 0; h < kv.kv_heads; h++) {
      const size_t at = layer * layer_size + ((block * kv.kv_heads + h) * kv.block_tokens + position % kv.block_tokens) * kv.head_dim;
      std::copy_n(row_of(keys, r) + h * kv.head_dim, kv.head_dim, keys_.as<float>() + at);
      std::copy_n(row_of(values, r) + h * kv.head_dim, kv.head_dim, values_.as<float>() + at);
    }
  }
}

void Device::attention(Matrix out, Matrix queries, int layer, float scale, int window) {
  const size_t layer_size = kv.layer_floats();
  const int heads = queries.cols / kv.head_dim;
  const AttentionJob job = {queries.data,      out.data,    queries.stride, out.stride,  keys_.as<float>() + layer * layer_size, values_.as<float>() + layer * layer_size,
                            kv.block_tokens, kv.kv_heads, heads,          kv.head_dim, scale,                             window};
  int longest = 0;
  for (int row : active_) longest = std::max(longest, batch.positions[row] + 1);
  const int group = heads / kv.kv_heads;
  const int units = rows() * kv.kv_heads;
  const auto attend = [&](int unit, int first, int count, float* scores) {
    const int r = unit / kv.kv_heads;
    const int row = active_[r];
    const int* blocks = batch.block_table.data() + static_cast<size_t>(batch.sequence[row]) * batch.blocks_per_sequence;
    kernels_.attention(job, r, unit % kv.kv_heads * group + first, count, batch.positions[row], blocks, scores);
  };
  const int threads = Pool::instance().threads();
  const int slices = threads * 4;
  if (units >= slices) {
    const size_t unit_scores = static_cast<size_t>(group) * longest;
    float* scores = scratch(scores_, unit_scores * slices);
    // Slices take every n-th unit: later rows of a chunk see more positions than earlier ones.
    Pool::instance().each(slices, 1, [&](int begin, int end) {
      for (int slice = begin; slice < end; slice++)
        for (int unit = slice; unit < units; unit += slices) attend(unit, 0, group, scores + unit_scores * slice);
    });
    return;
  }
  // Where units are few, heads that share keys are shared among threads, too: five units on two threads would be three and two.
  const int all = rows() * heads;
  float* scores = scratch(scores_, static_cast<size_t>(all) * longest);
  const bool small = static_cast<size_t>(all) * longest * kv.head_dim < kGrainValues;
  Pool::instance().each(all, small ? all : (all + threads - 1) / threads, [&](int begin, int end) {
    for (int head = begin; head < end;) {
      const int unit = head / group;
      const int stop = std::min(end, (unit + 1) * group);
      attend(unit, head - unit * group, stop - head, scores + static_cast<size_t>(head) * longest);
      head = stop;
    }
  });
}

void Device::swiglu(Matrix out, Matrix gate, Matrix up) {
  Pool::instance().each(rows(), row_grain(gate.cols), [&](int begin, int end) {
    for (int r = begin; r < end; r++) kernels_.swiglu(row_of(out, r), row_of(gate, r), row_of(up, r), gate.cols);
  });
}

void Device::add(Matrix x, Matrix y) {
  Pool::instance().each(rows(), row_grain(x.cols), [&](int begin, int end) {
    for (int r = begin; r < end; r++) kernels_.add(row_of(x, r), row_of(y, r), x.cols);
  });
}

void Device::gather(Matrix out, Matrix x) {
  for (size_t r = 0; r < batch.logit_rows.size(); r++) std::copy_n(row_of(x, batch.logit_rows[r]), x.cols, row_of(out, static_cast<int>(r)));
  active_.assign(batch.logit_rows.begin(), batch.logit_rows.end());
  regroup();
}

} // namespace signpost
