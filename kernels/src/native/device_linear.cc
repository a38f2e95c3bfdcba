// Linear layers of one input: who sees which weights, what their kernels need of the input, and all outputs shared among threads.
#include <algorithm>

#include "device.h"
#include "pool.h"

namespace signpost {

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

Upcoming Device::expect(const std::vector<Linear>& linears) {
  if (followers_.size() < params.size()) followers_.resize(params.size());
  if (previous_ >= 0) {
    std::vector<int>& followers = followers_[previous_];
    followers.clear();
    for (const Linear& linear : linears) followers.push_back(linear.param);
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

void Device::linears(Matrix x, const std::vector<Linear>& linears) {
  const size_t count = linears.size();
  if (count == 0) return;
  if (layers_.size() < count) layers_.resize(count);
  bool has_groups = false;
  for (size_t l = 0; l < count; l++) {
    collect_groups(layers_[l], linears[l].param, linears[l].bias);
    has_groups = has_groups || !layers_[l].groups.empty();
  }
  if (has_groups) prepare_inputs(x, count);
  const Upcoming upcoming = expect(linears);
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
    }, &upcoming);
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

} // namespace signpost
