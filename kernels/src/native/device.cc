#include "device.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>

#include "pool.h"

namespace signpost {
namespace {
// Work smaller than this is done before another thread has woken up.
constexpr int kGrainValues = 16 * 1024;
constexpr int kGrainRows = 64;

float* row_of(Matrix m, int row) { return m.data + static_cast<size_t>(row) * m.stride; }

float* scratch(std::vector<float>& buffer, size_t size) {
  if (buffer.size() < size) buffer.resize(size);
  return buffer.data();
}

int row_grain(int cols) { return std::max(1, kGrainValues / std::max(1, cols)); }
} // namespace

Device::Device(const KernelTable& kernels, std::vector<Param> params_, int slot_count, KvShape kv_)
    : params(std::move(params_)), slots(slot_count), kv(kv_), kernels_(kernels) {
  for (auto& slot : slots) slot.resize(params.size());
  const size_t cached = static_cast<size_t>(kv.layers) * kv.blocks * kv.block_tokens * kv.kv_heads * kv.head_dim;
  keys_.reset(static_cast<float*>(std::calloc(cached, sizeof(float))));
  values_.reset(static_cast<float*>(std::calloc(cached, sizeof(float))));
  if (keys_ == nullptr || values_ == nullptr) throw std::bad_alloc();
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

void Device::append_terms(std::vector<DeltaTerm>& terms, const Mixture& mixture, int param) const {
  for (int t = batch.mixture_start[mixture.batch_row]; t < batch.mixture_start[mixture.batch_row + 1]; t++) {
    for (const DeltaTerm& term : slots[batch.mixture_slots[t]][param].terms) {
      terms.push_back(term);
      terms.back().weight = batch.mixture_weights[t];
    }
  }
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
  param.memory = std::move(memory);
  param.data = param.memory.as<char>();
  param.dtype = format;
}

void Device::add_plane(Delta& delta, const Param& param, const uint32_t* signs, const float* row_scale, bool is_per_row, const float* col_scale) const {
  const size_t words = (static_cast<size_t>(param.in) + 31) / 32;
  const size_t tiled = tiled_words(param.out, param.in);
  const size_t scales = is_per_row ? param.out : 1;
  Memory memory((tiled + scales + (col_scale == nullptr ? 0 : param.in)) * sizeof(float));
  uint32_t* tiles = memory.as<uint32_t>();
  for (size_t tile = 0; tile * kTileSigns < static_cast<size_t>(param.out); tile++) {
    for (size_t w = 0; w < words; w++) {
      for (size_t o = 0; o < kTileSigns; o++) {
        const size_t j = tile * kTileSigns + o;
        tiles[(tile * words + w) * kTileSigns + o] = j < static_cast<size_t>(param.out) ? signs[j * words + w] : 0;
      }
    }
  }
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

void Device::collect_groups(Layer& layer, int param, int bias) {
  layer.param = param;
  layer.groups.clear();
  layer.terms.clear();
  layer.first_term.clear();
  layer.plain_rows.clear();
  layer.plain_bias.clear();
  if (bias >= 0) see_vector(bias, layer.widened, layer.bias);
  for (size_t m = 0; m < mixture_count_; m++) {
    const Mixture& mixture = mixtures_[m];
    const float* own_bias = bias < 0 ? nullptr : layer.bias[m];
    bool is_exact = false;
    if (has_delta(mixture, param)) {
      const size_t first = layer.terms.size();
      layer.first_term.push_back(first);
      append_terms(layer.terms, mixture, param);
      for (size_t t = first; t < layer.terms.size(); t++) is_exact = is_exact || layer.terms[t].exact != nullptr;
      const int terms = static_cast<int>(layer.terms.size() - first);
      layer.groups.push_back({mixture.rows.data(), static_cast<int>(mixture.rows.size()), nullptr, terms, is_exact, own_bias, 0, 0, nullptr, nullptr});
    }
    if (is_exact && !is_quantized(params[param].dtype)) continue;
    layer.plain_rows.insert(layer.plain_rows.end(), mixture.rows.begin(), mixture.rows.end());
    layer.plain_bias.insert(layer.plain_bias.end(), mixture.rows.size(), own_bias);
  }
  for (size_t g = 0; g < layer.groups.size(); g++) layer.groups[g].terms = layer.terms.data() + layer.first_term[g];
}

const Device::Prepared* Device::prepared_like(size_t l, const RowGroup& group) const {
  // The usual case, of planes without column scales: all that is prepared are the rows themselves.
  const auto is_plain = [](const RowGroup& one) {
    return one.inputs == 1 && std::all_of(one.terms, one.terms + one.term_count, [](const DeltaTerm& term) { return term.col_scale == nullptr; });
  };
  if (!is_plain(group)) return nullptr;
  for (size_t other = 0; other < l; other++)
    for (size_t g = 0; g < layers_[other].groups.size(); g++)
      if (layers_[other].groups[g].rows == group.rows && is_plain(layers_[other].groups[g])) return &layers_[other].prepared[g];
  return nullptr;
}

void Device::prepare_inputs(Matrix x, size_t count) {
  preparations_.clear();
  const size_t padded = (static_cast<size_t>(x.cols) + 31) / 32 * 32;
  const size_t lanes = kernels_.lanes;
  const size_t table_floats = padded / 4 * 16;
  size_t floats = 0;
  for (size_t l = 0; l < count; l++) {
    Layer& layer = layers_[l];
    layer.prepared.resize(layer.groups.size());
    for (size_t g = 0; g < layer.groups.size(); g++) {
      RowGroup& group = layer.groups[g];
      Prepared& prepared = layer.prepared[g];
      scales_.clear();
      for (int t = 0; t < group.term_count; t++) {
        DeltaTerm& term = layer.terms[layer.first_term[g] + t];
        if (term.tiles == nullptr) continue;
        term.input = static_cast<int>(std::find(scales_.begin(), scales_.end(), term.col_scale) - scales_.begin());
        if (term.input == static_cast<int>(scales_.size())) scales_.push_back(term.col_scale);
      }
      group.inputs = static_cast<int>(scales_.size());
      const int last = group.row_count % kernels_.lanes;
      group.lane_rows = last >= kernels_.least_lane_rows ? group.row_count : group.row_count - last;
      if (const Prepared* like = prepared_like(l, group); like != nullptr) {
        prepared = *like;
        continue;
      }
      prepared.columns = floats;
      for (const float* scale : scales_)
        for (int r = 0; r < group.lane_rows; r += kernels_.lanes, floats += padded * lanes)
          preparations_.push_back({&group, scale, r, std::min(kernels_.lanes, group.lane_rows - r), floats});
      prepared.tables = floats;
      for (int r = group.lane_rows; r < group.row_count; r++)
        for (const float* scale : scales_) {
          preparations_.push_back({&group, scale, r, 1, floats});
          floats += table_floats;
        }
    }
  }
  if (prepared_.bytes() < floats * sizeof(float)) prepared_ = Memory(floats * sizeof(float));
  float* prepared = prepared_.as<float>();
  for (size_t l = 0; l < count; l++) {
    for (size_t g = 0; g < layers_[l].groups.size(); g++) {
      layers_[l].groups[g].columns = prepared + layers_[l].prepared[g].columns;
      layers_[l].groups[g].tables = prepared + layers_[l].prepared[g].tables;
    }
  }
  Pool::instance().each(static_cast<int>(preparations_.size()), row_grain(x.cols * 4), [&](int begin, int end) {
    for (int p = begin; p < end; p++) {
      const Preparation& one = preparations_[p];
      const int* rows = one.group->rows + one.first;
      if (one.first < one.group->lane_rows) kernels_.sign_columns(prepared + one.at, x.data, x.stride, rows, one.rows, one.col_scale, x.cols);
      else kernels_.sign_tables(prepared + one.at, row_of(x, *rows), one.col_scale, x.cols);
    }
  });
}

const char* Device::round_inputs(Matrix x, Dtype dtype) {
  const size_t bytes = integer_bytes(x.cols);
  const size_t all = rows() * bytes;
  if (rounded_.bytes() < all) rounded_ = Memory(all);
  char* rounded = rounded_.as<char>();
  const int zero = dtype == Dtype::Q8 ? 128 : 8;
  Pool::instance().each(rows(), row_grain(x.cols), [&](int begin, int end) {
    for (int r = begin; r < end; r++) kernels_.integers(rounded + r * bytes, row_of(x, r), x.cols, zero);
  });
  return rounded;
}

void Device::linears(Matrix x, const std::vector<Linear>& linears) {
  const size_t count = linears.size();
  if (layers_.size() < count) layers_.resize(count);
  bool has_groups = false;
  for (size_t l = 0; l < count; l++) {
    collect_groups(layers_[l], linears[l].param, linears[l].bias);
    has_groups = has_groups || !layers_[l].groups.empty();
  }
  if (has_groups) prepare_inputs(x, count);
  // Layers of one format are computed together: integers differ between formats.
  for (size_t first = 0; first < count;) {
    const Dtype dtype = params[linears[first].param].dtype;
    size_t end = first;
    while (end < count && params[linears[end].param].dtype == dtype) end++;
    const char* rounded = is_quantized(dtype) ? round_inputs(x, dtype) : nullptr;
    int tiles = 0;
    for (size_t l = first; l < end; l++) {
      Layer& layer = layers_[l];
      const Param& w = params[layer.param];
      const Matrix& out = linears[l].out;
      layer.job = {w.data, w.dtype, x.data, x.stride, rounded, w.in, out.data, out.stride, layer.plain_rows.data(), layer.plain_bias.data(), static_cast<int>(layer.plain_rows.size()),
                   layer.groups.data(), static_cast<int>(layer.groups.size())};
      tiles += tiles_of(w.out);
    }
    Pool::instance().each(tiles, 1, [&](int from, int to) {
      for (size_t l = first; l < end && to > 0; l++) {
        const int outputs = params[layers_[l].param].out;
        if (from < tiles_of(outputs)) kernels_.linear(layers_[l].job, std::max(from, 0) * kTileSigns, std::min(to * kTileSigns, outputs));
        from -= tiles_of(outputs);
        to -= tiles_of(outputs);
      }
    });
    first = end;
  }
  for (size_t l = 0; l < count; l++) {
    const LinearJob& job = layers_[l].job;
    const int outputs = params[layers_[l].param].out;
    const int pieces = (outputs + kLaneOutputs - 1) / kLaneOutputs;
    for (const RowGroup& group : layers_[l].groups) {
      const int blocks = (group.lane_rows + kernels_.lanes - 1) / kernels_.lanes;
      Pool::instance().each(blocks * pieces, 1, [&](int begin, int end) {
        for (int unit = begin; unit < end; unit++) {
          const int first = unit % pieces * kLaneOutputs;
          kernels_.lane_signs(job, group, unit / pieces, first, std::min(kLaneOutputs, outputs - first));
        }
      });
    }
  }
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
  const size_t layer_size = static_cast<size_t>(kv.blocks) * kv.kv_heads * kv.block_tokens * kv.head_dim;
  for (int r = 0; r < rows(); r++) {
    const int row = active_[r];
    const int position = batch.positions[row];
    const size_t block = static_cast<size_t>(batch.block_table[static_cast<size_t>(batch.sequence[row]) * batch.blocks_per_sequence + position / kv.block_tokens]);
    for (int h = 0; h < kv.kv_heads; h++) {
      const size_t at = layer * layer_size + ((block * kv.kv_heads + h) * kv.block_tokens + position % kv.block_tokens) * kv.head_dim;
      std::copy_n(row_of(keys, r) + h * kv.head_dim, kv.head_dim, keys_.get() + at);
      std::copy_n(row_of(values, r) + h * kv.head_dim, kv.head_dim, values_.get() + at);
    }
  }
}

void Device::attention(Matrix out, Matrix queries, int layer, float scale, int window) {
  const size_t layer_size = static_cast<size_t>(kv.blocks) * kv.kv_heads * kv.block_tokens * kv.head_dim;
  const int heads = queries.cols / kv.head_dim;
  const AttentionJob job = {queries.data,      out.data,    queries.stride, out.stride,  keys_.get() + layer * layer_size, values_.get() + layer * layer_size,
                            kv.block_tokens, kv.kv_heads, heads,          kv.head_dim, scale,                             window};
  int longest = 0;
  for (int row : active_) longest = std::max(longest, batch.positions[row] + 1);
  const int units = rows() * kv.kv_heads;
  const size_t unit_scores = static_cast<size_t>(heads / kv.kv_heads) * longest;
  const bool small = unit_scores * units * kv.head_dim < kGrainValues;
  // Slices take every n-th unit: later rows of a chunk see more positions than earlier ones.
  const int slices = small ? 1 : std::min(units, Pool::instance().threads() * 4);
  float* scores = scratch(scores_, unit_scores * slices);
  Pool::instance().each(slices, 1, [&](int begin, int end) {
    for (int slice = begin; slice < end; slice++) {
      for (int unit = slice; unit < units; unit += slices) {
        const int r = unit / kv.kv_heads;
        const int row = active_[r];
        const int* blocks = batch.block_table.data() + static_cast<size_t>(batch.sequence[row]) * batch.blocks_per_sequence;
        kernels_.attention(job, r, unit % kv.kv_heads, batch.positions[row], blocks, scores + unit_scores * slice);
      }
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
