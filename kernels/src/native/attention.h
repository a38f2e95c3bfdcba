// Paged attention of one query row and kv head. Included by kernels.cc alone.
#pragma once
#include "elementwise.h"
#include "kernels.h"
#include "simd.h"

namespace signpost {
namespace {

inline void add_scaled(float* out, const float* x, float factor, int n) {
  const Vec factors = splat(factor);
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, fma(factors, load(x + i), load(out + i)));
  for (; i < n; i++) out[i] = fma(factor, x[i], out[i]);
}

void attention(const AttentionJob& job, int row, int kv_head, int position, const int* blocks, float* scores) {
  const int group = job.heads / job.kv_heads;
  const int first = job.window > 0 && position + 1 > job.window ? position + 1 - job.window : 0;
  const int count = position + 1 - first;
  const int dim = job.head_dim;
  const float* q = job.q + static_cast<size_t>(row) * job.q_stride + static_cast<size_t>(kv_head) * group * dim;
  float* out = job.out + static_cast<size_t>(row) * job.out_stride + static_cast<size_t>(kv_head) * group * dim;
  const auto at = [&](int t) {
    const size_t block = static_cast<size_t>(blocks[t / job.block_tokens]);
    return ((block * job.kv_heads + kv_head) * job.block_tokens + t % job.block_tokens) * dim;
  };
  for (int t = 0; t < count; t++) {
    const float* key = job.keys + at(first + t);
    for (int h = 0; h < group; h++) scores[static_cast<size_t>(h) * count + t] = dot(q + h * dim, key, dim) * job.scale;
  }
  for (int h = 0; h < group; h++) {
    float* s = scores + static_cast<size_t>(h) * count;
    float top = s[0];
    for (int t = 1; t < count; t++) top = s[t] > top ? s[t] : top;
    int t = 0;
    for (; t + kLanes <= count; t += kLanes) store(s + t, vector_exp(load(s + t) - splat(top)));
    for (; t < count; t++) s[t] = vector_exp(splat(s[t] - top))[0];
    const float inverse = 1.0f / sum(s, count);
    for (t = 0; t < count; t++) s[t] *= inverse;
  }
  for (int i = 0; i < group * dim; i++) out[i] = 0.0f;
  for (int t = 0; t < count; t++) {
    const float* value = job.values + at(first + t);
    for (int h = 0; h < group; h++) add_scaled(out + h * dim, value, scores[static_cast<size_t>(h) * count + t], dim);
  }
}

} // namespace
} // namespace signpost
