// Linear layers of one input: who sees which weights, what their kernels need of the input, and all outputs shared among threads.
#include <algorithm>
#include <atomic>

#include "device.h"
#include "pool.h"

namespace signpost {
namespace {
// So little is made sooner by each thread that needs it than it comes from another core's cache.
constexpr size_t kOwnInputBytes = 64 * 1024;
alignas(64) thread_local char own_inputs[kOwnInputBytes];
// Of the call they were made for; of no two devices' calls the same.
thread_local uint64_t own_inputs_id = 0;
std::atomic<uint64_t> next_inputs{1};
} // namespace

void Device::append_terms(std::vector<DeltaTerm>& terms, const Mixture& mixture, int param) const {
  for (int t = batch.mixture_start[mixture.batch_row]; t < batch.mixture_start[mixture.batch_row + 1]; t++) {
    for (const DeltaTerm& term : slots[batch.mixture_slots[t]][param].terms) {
      terms.push_back(term);
      terms.back().weight = batch.mixture_weights[t];
    }
  }
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
      layer.groups.push_back({mixture.rows.data(), static_cast<int>(mixture.rows.size()), nullptr, terms, is_exact, own_bias, 0, 0, nullptr, 0});
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
      } else {
        prepared.columns = floats;
        for (const float* scale : scales_)
          for (int r = 0; r < group.lane_rows; r += kernels_.lanes, floats += padded * lanes)
            blocks_.push_back({group.rows + r, std::min(kernels_.lanes, group.lane_rows - r), scale, floats});
        prepared.tables = tables_.size() * table_floats;
        for (int r = group.lane_rows; r < group.row_count; r++)
          for (const float* scale : scales_) tables_.push_back({group.rows + r, 1, scale, tables_.size() * table_floats});
      }
      group.tables = prepared.tables;
    }
  }
  if (columns_.bytes() < floats * sizeof(float)) columns_ = Memory(floats * sizeof(float));
  float* columns = columns_.as<float>();
  for (size_t l = 0; l < count; l++)
    for (size_t g = 0; g < layers_[l].groups.size(); g++) layers_[l].groups[g].columns = columns + layers_[l].prepared[g].columns;
  Pool::instance().each(static_cast<int>(blocks_.size()), row_grain(x.cols * 4), [&](int begin, int end) {
    for (int b = begin; b < end; b++) {
      const Preparation& one = blocks_[b];
      kernels_.sign_columns(columns + one.at, x.data, x.stride, one.rows, one.count, one.col_scale, x.cols);
    }
  });
}

Device::RowInputs Device::row_inputs(Matrix x, Dtype dtype) {
  const size_t tables = tables_.size() * ((static_cast<size_t>(x.cols) + 31) / 32 * 32 / 4 * 16) * sizeof(float);
  const size_t bytes = tables + (is_quantized(dtype) ? rows() * integer_bytes(x.cols) : 0);
  RowInputs inputs = {x, dtype, tables, bytes <= kOwnInputBytes, next_inputs.fetch_add(1, std::memory_order_relaxed), nullptr};
  if (inputs.are_own) return inputs;
  if (inputs_.bytes() < bytes) inputs_ = Memory(bytes);
  inputs.shared = inputs_.as<char>();
  Pool::instance().each(input_count(dtype), row_grain(x.cols * 4), [&](int begin, int end) { make_inputs(inputs, inputs.shared, begin, end); });
  return inputs;
}

int Device::input_count(Dtype dtype) const { return static_cast<int>(tables_.size()) + (is_quantized(dtype) ? rows() : 0); }

void Device::make_inputs(const RowInputs& inputs, char* into, int begin, int end) const {
  const Matrix x = inputs.x;
  const int zero = inputs.dtype == Dtype::Q8 ? 128 : 8;
  const int tables = static_cast<int>(tables_.size());
  for (int i = begin; i < std::min(end, tables); i++) kernels_.sign_tables(reinterpret_cast<float*>(into) + tables_[i].at, row_of(x, *tables_[i].rows), tables_[i].col_scale, x.cols);
  for (int r = std::max(begin - tables, 0); r < end - tables; r++) kernels_.integers(into + inputs.tables + r * integer_bytes(x.cols), row_of(x, r), x.cols, zero);
}

const char* Device::inputs_here(const RowInputs& inputs) const {
  if (!inputs.are_own) return inputs.shared;
  if (own_inputs_id != inputs.id) {
    make_inputs(inputs, own_inputs, 0, input_count(inputs.dtype));
    own_inputs_id = inputs.id;
  }
  return own_inputs;
}

bool Device::are_alike(const std::vector<Linear>& linears) const {
  return std::all_of(linears.begin(), linears.end(), [&](const Linear& one) { return params[one.param].out == params[linears.front().param].out; });
}

Upcoming Device::expect(const std::vector<Linear>& linears) {
  if (followers_.size() < params.size()) followers_.resize(params.size());
  if (previous_ >= 0) {
    std::vector<int>& followers = followers_[previous_];
    followers.clear();
    for (const Linear& linear : linears) {
      followers.push_back(linear.param);
      // A thread begins with its part of the first.
      if (are_alike(linears)) break;
    }
  }
  previous_ = linears.front().param;
  Upcoming upcoming;
  size_t count = 0;
  for (int next : followers_[previous_]) {
    if (count == upcoming.spans.size()) break;
    upcoming.spans[count++] = {static_cast<const char*>(params[next].data), params[next].resident_bytes()};
  }
  return upcoming;
}

void Device::finish(const Epilogue& epilogue, const std::vector<Linear>& linears, int from, int to) const {
  const int at = from * kTileSigns;
  const int n = std::min(to * kTileSigns, epilogue.target.cols) - at;
  for (int r = 0; r < rows(); r++) {
    float* target = row_of(epilogue.target, r) + at;
    const float* out = row_of(linears.front().out, r) + at;
    if (epilogue.kind == Epilogue::Kind::Add) kernels_.add(target, out, n);
    else kernels_.swiglu(target, out, row_of(linears.back().out, r) + at, n);
  }
}

void Device::linears(Matrix x, const std::vector<Linear>& linears, const Epilogue& epilogue) {
  const size_t count = linears.size();
  if (count == 0) return;
  if (layers_.size() < count) layers_.resize(count);
  bool has_groups = false;
  for (size_t l = 0; l < count; l++) {
    collect_groups(layers_[l], linears[l].param, linears[l].bias);
    has_groups = has_groups || !layers_[l].groups.empty();
  }
  blocks_.clear();
  tables_.clear();
  if (has_groups) prepare_inputs(x, count);
  const Upcoming upcoming = expect(linears);
  const bool alike = are_alike(linears);
  bool has_ended = epilogue.kind == Epilogue::Kind::None;
  // Layers of one format are computed together: integers differ between formats.
  for (size_t first = 0; first < count;) {
    const Dtype dtype = params[linears[first].param].dtype;
    size_t end = first;
    while (end < count && params[linears[end].param].dtype == dtype) end++;
    const RowInputs inputs = row_inputs(x, dtype);
    int tiles = 0;
    for (size_t l = first; l < end; l++) {
      Layer& layer = layers_[l];
      const Param& w = params[layer.param];
      const Matrix& out = linears[l].out;
      layer.job = {w.data, w.dtype, x.data, x.stride, nullptr, nullptr, w.in, out.data, out.stride, layer.plain_rows.data(), layer.plain_bias.data(), static_cast<int>(layer.plain_rows.size()),
                   layer.groups.data(), static_cast<int>(layer.groups.size())};
      tiles = alike ? tiles_of(w.out) : tiles + tiles_of(w.out);
    }
    const bool ends = !has_ended && end - first == count && blocks_.empty();
    // Of layers that are alike a thread computes the same outputs, of others one layer's after the other's.
    Pool::instance().each(tiles, 1, [&](int from, int to) {
      const char* made = inputs_here(inputs);
      int before = 0;
      for (size_t l = first; l < end; l++) {
        const int outputs = params[layers_[l].param].out;
        const int begin = std::max(from - before, 0);
        const int stop = std::min(to - before, tiles_of(outputs));
        if (!alike) before += tiles_of(outputs);
        if (begin >= stop) continue;
        LinearJob job = layers_[l].job;
        job.tables = reinterpret_cast<const float*>(made);
        job.integers = made + inputs.tables;
        kernels_.linear(job, begin * kTileSigns, std::min(stop * kTileSigns, outputs));
      }
      if (ends) finish(epilogue, linears, from, to);
    }, &upcoming);
    has_ended = has_ended || ends;
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
  if (has_ended) return;
  Pool::instance().each(tiles_of(epilogue.target.cols), std::max(1, row_grain(rows() * kTileSigns)), [&](int from, int to) { finish(epilogue, linears, from, to); });
}

} // namespace signpost
