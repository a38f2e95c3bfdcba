#include "device.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "pool.h"

namespace signpost {
namespace {
// Work smaller than this is done before another thread has woken up.
constexpr int kGrainValues = 16 * 1024;
constexpr int kGrainOutputs = 16;

size_t element_bytes(Dtype dtype) { return dtype == Dtype::F32 ? 4 : 2; }

const void* offset(const void* data, Dtype dtype, size_t elements) {
  return static_cast<const char*>(data) + elements * element_bytes(dtype);
}

float* row_of(Matrix m, int row) { return m.data + static_cast<size_t>(row) * m.stride; }

int row_grain(int cols) { return std::max(1, kGrainValues / std::max(1, cols)); }
} // namespace

Device::Device(const KernelTable& kernels, std::vector<Param> params_, int slot_count, KvShape kv_)
    : params(std::move(params_)), slots(slot_count), kv(kv_), kernels_(kernels) {
  for (auto& slot : slots) slot.resize(params.size());
  const size_t cached = static_cast<size_t>(kv.layers) * kv.blocks * kv.block_tokens * kv.kv_heads * kv.head_dim;
  keys_.resize(cached);
  values_.resize(cached);
}

float* Device::scratch(std::vector<float>& buffer, size_t size) {
  if (buffer.size() < size) buffer.resize(size);
  return buffer.data();
}

void Device::begin() {
  active_.resize(batch.rows);
  for (int r = 0; r < batch.rows; r++) active_[r] = r;
  regroup();
}

void Device::regroup() {
  group_count_ = 0;
  for (int round = 0;; round++) {
    const size_t first = group_count_;
    bool any = false;
    for (int i = 0; i < rows(); i++) {
      const int term = batch.mixture_start[active_[i]] + round;
      if (term >= batch.mixture_start[active_[i] + 1]) continue;
      any = true;
      const int slot = batch.mixture_slots[term];
      size_t g = first;
      while (g < group_count_ && groups_[g].slot != slot) g++;
      if (g == group_count_) {
        if (g == groups_.size()) groups_.emplace_back();
        groups_[g].slot = slot;
        groups_[g].rows.clear();
        groups_[g].weights.clear();
        group_count_++;
      }
      groups_[g].rows.push_back(i);
      groups_[g].weights.push_back(batch.mixture_weights[term]);
    }
    if (!any) return;
  }
}

const Delta* Device::delta(int slot, int param) const {
  const Delta& found = slots[slot][param];
  return found.planes.empty() && found.exact == nullptr ? nullptr : &found;
}

bool Device::row_has_delta(int active_row, int param) const {
  const int row = active_[active_row];
  for (int t = batch.mixture_start[row]; t < batch.mixture_start[row + 1]; t++)
    if (delta(batch.mixture_slots[t], param) != nullptr) return true;
  return false;
}

void Device::seen(float* out, int param, int active_row, size_t from, int n) const {
  const Param& base = params[param];
  kernels_.widen(out, offset(base.data, base.dtype, from), base.dtype, n);
  const int row = active_[active_row];
  for (int t = batch.mixture_start[row]; t < batch.mixture_start[row + 1]; t++) {
    const Delta* change = delta(batch.mixture_slots[t], param);
    if (change == nullptr) continue;
    const float weight = batch.mixture_weights[t];
    for (const Plane& plane : change->planes) {
      // Only whole rows of a matrix (an embedding) are asked for where there are planes.
      const size_t j = from / base.in;
      const uint32_t* signs = plane.signs + j * ((base.in + 31) / 32);
      const float scale = plane.row_scale[j * plane.row_scale_step];
      for (int i = 0; i < n; i++) {
        const float sign = (signs[i / 32] >> (i % 32)) & 1 ? 1.0f : -1.0f;
        out[i] += weight * scale * sign * (plane.col_scale == nullptr ? 1.0f : plane.col_scale[i]);
      }
    }
    if (change->exact != nullptr) {
      for (int i = 0; i < n; i++) {
        const uint32_t word = static_cast<uint32_t>(change->exact[from + i]) << 16;
        float value;
        std::memcpy(&value, &word, 4);
        out[i] += weight * value;
      }
    }
  }
}

void Device::embed(Matrix out, int param) {
  Pool::instance().each(rows(), row_grain(out.cols), [&](int begin, int end) {
    for (int r = begin; r < end; r++) {
      const size_t token = static_cast<size_t>(batch.tokens[active_[r]]);
      seen(row_of(out, r), param, r, token * out.cols, out.cols);
    }
  });
}

void Device::rms_norm(Matrix out, Matrix x, int param, float eps) {
  const int n = params[param].out;
  float* weights = scratch(widened_, static_cast<size_t>(n) * (rows() + 1));
  kernels_.widen(weights, params[param].data, params[param].dtype, n);
  Pool::instance().each(rows(), row_grain(x.cols), [&](int begin, int end) {
    for (int r = begin; r < end; r++) {
      const float* w = weights;
      if (row_has_delta(r, param)) {
        float* own = weights + static_cast<size_t>(n) * (r + 1);
        seen(own, param, r, 0, n);
        w = own;
      }
      for (int at = 0; at < x.cols; at += n) {
        const float* in = row_of(x, r) + at;
        const float mean = kernels_.sum_squares(in, n) / static_cast<float>(n);
        kernels_.scale_by(row_of(out, r) + at, in, w, 1.0f / std::sqrt(mean + eps), n);
      }
    }
  });
}

void Device::linear(Matrix out, Matrix x, int param, int bias) {
  const Param& w = params[param];
  const DenseJob base = {w.data, w.dtype, x.data, x.stride, w.in, out.data, out.stride, nullptr, nullptr, rows()};
  Pool& pool = Pool::instance();
  pool.each(w.out, kGrainOutputs, [&](int begin, int end) { kernels_.dense(base, begin, end); });

  for (size_t g = 0; g < group_count_; g++) {
    const Group& group = groups_[g];
    const Delta* change = delta(group.slot, param);
    if (change == nullptr) continue;
    const int count = static_cast<int>(group.rows.size());
    for (const Plane& plane : change->planes) {
      const float* input = x.data;
      if (plane.col_scale != nullptr) {
        float* scaled = scratch(scaled_, static_cast<size_t>(rows()) * x.stride);
        for (int row : group.rows) {
          float* to = scaled + static_cast<size_t>(row) * x.stride;
          kernels_.multiply(to, row_of(x, row), plane.col_scale, w.in);
          std::fill(to + w.in, to + x.stride, 0.0f);
        }
        input = scaled;
      }
      float* sums = scratch(sums_, rows());
      for (int row : group.rows) sums[row] = kernels_.sum(input + static_cast<size_t>(row) * x.stride, w.in);
      const SignJob job = {&plane,   input,      sums, x.stride, w.in, out.data, out.stride, group.rows.data(), group.weights.data(), count};
      pool.each(w.out, kGrainOutputs, [&](int begin, int end) { kernels_.sign(job, begin, end); });
    }
    if (change->exact != nullptr) {
      const DenseJob job = {change->exact, Dtype::BF16, x.data, x.stride, w.in, out.data, out.stride, group.rows.data(), group.weights.data(), count};
      pool.each(w.out, kGrainOutputs, [&](int begin, int end) { kernels_.dense(job, begin, end); });
    }
  }

  if (bias < 0) return;
  float* values = scratch(widened_, static_cast<size_t>(out.cols));
  for (int r = 0; r < rows(); r++) {
    seen(values, bias, r, 0, out.cols);
    kernels_.add(row_of(out, r), values, out.cols);
  }
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
      std::copy_n(row_of(keys, r) + h * kv.head_dim, kv.head_dim, keys_.begin() + at);
      std::copy_n(row_of(values, r) + h * kv.head_dim, kv.head_dim, values_.begin() + at);
    }
  }
}

void Device::attention(Matrix out, Matrix queries, int layer, float scale, int window) {
  const size_t layer_size = static_cast<size_t>(kv.blocks) * kv.kv_heads * kv.block_tokens * kv.head_dim;
  const int heads = queries.cols / kv.head_dim;
  const AttentionJob job = {queries.data,      out.data,    queries.stride, out.stride,  keys_.data() + layer * layer_size, values_.data() + layer * layer_size,
                            kv.block_tokens, kv.kv_heads, heads,          kv.head_dim, scale,                             window};
  int longest = 0;
  for (int row : active_) longest = std::max(longest, batch.positions[row] + 1);
  const int units = rows() * kv.kv_heads;
  const size_t unit_scores = static_cast<size_t>(heads / kv.kv_heads) * longest;
  const int grain = std::max(1, kGrainValues / std::max(1, static_cast<int>(unit_scores) * kv.head_dim / 4));
  const bool large = unit_scores * units * sizeof(float) > (size_t{64} << 20);
  float* shared = large ? nullptr : scratch(scores_, unit_scores * units);
  Pool::instance().each(units, grain, [&](int begin, int end) {
    static thread_local std::vector<float> own;
    for (int unit = begin; unit < end; unit++) {
      const int r = unit / kv.kv_heads;
      const int row = active_[r];
      const int* blocks = batch.block_table.data() + static_cast<size_t>(batch.sequence[row]) * batch.blocks_per_sequence;
      float* scores = large ? scratch(own, unit_scores) : shared + unit_scores * unit;
      kernels_.attention(job, r, unit % kv.kv_heads, batch.positions[row], blocks, scores);
    }
  });
}

void Device::swiglu(Matrix out, Matrix gate, Matrix up) {
  Pool::instance().each(rows(), row_grain(gate.cols), [&](int begin, int end) {
    for (int r = begin; r < end; r++) kernels_.swiglu(row_of(out, r), row_of(gate, r), row_of(up, r), gate.cols);
  });
}

void Device::add(Matrix x, Matrix y) {
  for (int r = 0; r < rows(); r++) kernels_.add(row_of(x, r), row_of(y, r), x.cols);
}

void Device::gather(Matrix out, Matrix x) {
  for (size_t r = 0; r < batch.logit_rows.size(); r++) std::copy_n(row_of(x, batch.logit_rows[r]), x.cols, row_of(out, static_cast<int>(r)));
  active_.assign(batch.logit_rows.begin(), batch.logit_rows.end());
  regroup();
}

} // namespace signpost
