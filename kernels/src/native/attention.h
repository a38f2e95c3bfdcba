// Paged attention of one query row and kv head. Included by kernels.cc alone.
#pragma once
#include "elementwise.h"
#include "kernels.h"
#include "simd.h"

namespace signpost {
namespace {

// Vectors of a head whose sums over all positions are held in registers.
constexpr int kSumVectors = 4;

// A kv head's cached vectors, position after position.
class CacheWalk {
public:
  CacheWalk(const AttentionJob& job, const float* cache, int kv_head, const int* blocks, int first)
      : cache_(cache + static_cast<size_t>(kv_head) * job.block_tokens * job.head_dim), blocks_(blocks + first / job.block_tokens),
        block_size_(static_cast<size_t>(job.kv_heads) * job.block_tokens * job.head_dim), dim_(job.head_dim), tokens_(job.block_tokens), token_(first % job.block_tokens) {}

  const float* next() {
    if (token_ == tokens_) {
      token_ = 0;
      blocks_++;
    }
    return cache_ + *blocks_ * block_size_ + static_cast<size_t>(token_++) * dim_;
  }

private:
  const float* cache_;
  const int* blocks_;
  size_t block_size_;
  int dim_;
  int tokens_;
  int token_;
};

// out = Σ_t weight_t · value_t from `column` on, positions in order.
template <int kVectors> inline void weighted_sum(float* out, const float* weights, int count, CacheWalk values, int column) {
  Vec sums[kVectors] = {};
  for (int t = 0; t < count; t++) {
    const float* from = values.next() + column;
    const Vec weight = splat(weights[t]);
    for (int v = 0; v < kVectors; v++) sums[v] = fma(weight, load(from + v * kLanes), sums[v]);
  }
  for (int v = 0; v < kVectors; v++) store(out + v * kLanes, sums[v]);
}

// Four dot products of whole vectors.
inline void dot4(float* out, const float* x, const float* const* y, int n) {
  Vec sums[4] = {};
  for (int i = 0; i < n; i += kLanes) {
    const Vec value = load(x + i);
    for (int k = 0; k < 4; k++) sums[k] = fma(value, load(y[k] + i), sums[k]);
  }
  reduce4(sums, out);
}

void attention(const AttentionJob& job, int row, int kv_head, int position, const int* blocks, float* scores) {
  const int group = job.heads / job.kv_heads;
  const int first = job.window > 0 && position + 1 > job.window ? position + 1 - job.window : 0;
  const int count = position + 1 - first;
  const int dim = job.head_dim;
  const float* q = job.q + static_cast<size_t>(row) * job.q_stride + static_cast<size_t>(kv_head) * group * dim;
  float* out = job.out + static_cast<size_t>(row) * job.out_stride + static_cast<size_t>(kv_head) * group * dim;
  CacheWalk keys(job, job.keys, kv_head, blocks, first);
  const CacheWalk values(job, job.values, kv_head, blocks, first);
  int done = 0;
  // Four keys at a time share a query's loads and the adding of lanes; a dot product has the bits of `dot`.
  for (; dim % kLanes == 0 && done + 4 <= count; done += 4) {
    const float* four[4];
    for (int k = 0; k < 4; k++) four[k] = keys.next();
    for (int h = 0; h < group; h++) {
      float* s = scores + static_cast<size_t>(h) * count + done;
      dot4(s, q + h * dim, four, dim);
      for (int k = 0; k < 4; k++) s[k] *= job.scale;
    }
  }
  for (int t = done; t < count; t++) {
    const float* key = keys.next();
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
  for (int i = 0; i < dim;) {
    const int left = dim - i;
    const int width = left >= kSumVectors * kLanes ? kSumVectors * kLanes : left >= kLanes ? kLanes : 1;
    for (int h = 0; h < group; h++) {
      const float* s = scores + static_cast<size_t>(h) * count;
      if (width == kSumVectors * kLanes) weighted_sum<kSumVectors>(out + h * dim + i, s, count, values, i);
      else if (width == kLanes) weighted_sum<1>(out + h * dim + i, s, count, values, i);
      else {
        CacheWalk walk = values;
        float sum = 0.0f;
        for (int t = 0; t < count; t++) sum = fma(s[t], walk.next()[i], sum);
        out[h * dim + i] = sum;
      }
    }
    i += width;
  }
}

} // namespace
} // namespace signpost
