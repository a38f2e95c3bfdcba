// Paged attention of one query row and kv head. Included by kernels.cc alone.
#pragma once
#include "elementwise.h"
#include "kernels.h"
#include "simd.h"

namespace signpost {
namespace {

// Vectors of a head whose sums over all positions are held in registers.
constexpr int kSumVectors = 4;

// From a vector that is computed to one that is fetched meanwhile: no hardware follows a block table.
constexpr size_t kCacheAheadBytes = 16 * 1024;

// Some of a kv head's cached vectors, one after the other.
struct CacheSpan {
  const float* data;  // (count, head_dim)
  int first;          // of the vectors walked over
  int count;
  const float* ahead; // as much of a later block
};

// Visits a kv head's vectors of `count` positions from `first` on, block by block, in `cache`; what comes after is `next`, of the same blocks.
template <typename F>
inline void walk_cache(const AttentionJob& job, const float* cache, const float* next, int kv_head, const int* blocks, int first, int count, F&& visit) {
  const size_t head_size = static_cast<size_t>(job.block_tokens) * job.head_dim;
  const int begin = first / job.block_tokens;
  const int end = (first + count - 1) / job.block_tokens + 1;
  const int distance = static_cast<int>(kCacheAheadBytes / sizeof(float) / head_size) + 1;
  const auto at = [&](const float* from, int block) { return from + (static_cast<size_t>(blocks[block]) * job.kv_heads + kv_head) * head_size; };
  for (int block = begin, done = 0; block < end; block++) {
    const int token = done == 0 ? first % job.block_tokens : 0;
    const int n = job.block_tokens - token < count - done ? job.block_tokens - token : count - done;
    const size_t skipped = static_cast<size_t>(token) * job.head_dim;
    const int later = block + distance;
    const float* ahead = later < end ? at(cache, later) : at(next, later - end + begin < end ? later - end + begin : begin);
    visit(CacheSpan{at(cache, block) + skipped, done, n, ahead + skipped});
    done += n;
  }
}

// out += Σ_t weight_t · value_t from `column` on, positions in order.
template <int kVectors> inline void add_weighted(float* out, const float* weights, const CacheSpan& values, int dim, int column) {
  Vec sums[kVectors];
  for (int v = 0; v < kVectors; v++) sums[v] = load(out + v * kLanes);
  for (int t = 0; t < values.count; t++) {
    const float* from = values.data + static_cast<size_t>(t) * dim + column;
    const Vec weight = splat(weights[t]);
    for (int v = 0; v < kVectors; v++) sums[v] = fma(weight, load(from + v * kLanes), sums[v]);
  }
  for (int v = 0; v < kVectors; v++) store(out + v * kLanes, sums[v]);
}

// The same of a whole head.
inline void add_values(float* out, const float* weights, const CacheSpan& values, int dim) {
  int i = 0;
  for (; i + kSumVectors * kLanes <= dim; i += kSumVectors * kLanes) add_weighted<kSumVectors>(out + i, weights, values, dim, i);
  for (; i + kLanes <= dim; i += kLanes) add_weighted<1>(out + i, weights, values, dim, i);
  for (; i < dim; i++)
    for (int t = 0; t < values.count; t++) out[i] = fma(weights[t], values.data[static_cast<size_t>(t) * dim + i], out[i]);
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

inline float greatest(const float* x, int n) {
  float top = x[0];
  int i = 0;
  if (n >= kLanes) {
    Vec tops = load(x);
    for (i = kLanes; i + kLanes <= n; i += kLanes) {
      const Vec next = load(x + i);
      tops = next > tops ? next : tops;
    }
    for (int lane = 0; lane < kLanes; lane++) top = tops[lane] > top ? tops[lane] : top;
  }
  for (; i < n; i++) top = x[i] > top ? x[i] : top;
  return top;
}

void attention(const AttentionJob& job, int row, int head, int group, int position, const int* blocks, float* scores) {
  const int kv_head = head / (job.heads / job.kv_heads);
  const int first = job.window > 0 && position + 1 > job.window ? position + 1 - job.window : 0;
  const int count = position + 1 - first;
  const int dim = job.head_dim;
  const float* q = job.q + static_cast<size_t>(row) * job.q_stride + static_cast<size_t>(head) * dim;
  float* out = job.out + static_cast<size_t>(row) * job.out_stride + static_cast<size_t>(head) * dim;
  walk_cache(job, job.keys, job.values, kv_head, blocks, first, count, [&](const CacheSpan& keys) {
    const auto key = [&](int t) { return keys.data + static_cast<size_t>(t) * dim; };
    int t = 0;
    // Four keys at a time share a query's loads and the adding of lanes; a dot product has the bits of `dot`.
    for (; dim % kLanes == 0 && t + 4 <= keys.count; t += 4) {
      fetch(keys.ahead + static_cast<size_t>(t) * dim, 4 * dim * sizeof(float));
      const float* four[4] = {key(t), key(t + 1), key(t + 2), key(t + 3)};
      for (int h = 0; h < group; h++) {
        float* s = scores + static_cast<size_t>(h) * count + keys.first + t;
        dot4(s, q + h * dim, four, dim);
        for (int k = 0; k < 4; k++) s[k] *= job.scale;
      }
    }
    for (; t < keys.count; t++) {
      fetch(keys.ahead + static_cast<size_t>(t) * dim, dim * sizeof(float));
      for (int h = 0; h < group; h++) scores[static_cast<size_t>(h) * count + keys.first + t] = dot(q + h * dim, key(t), dim) * job.scale;
    }
  });
  for (int h = 0; h < group; h++) {
    float* s = scores + static_cast<size_t>(h) * count;
    const float top = greatest(s, count);
    int t = 0;
    for (; t + kLanes <= count; t += kLanes) store(s + t, vector_exp(load(s + t) - splat(top)));
    for (; t < count; t++) s[t] = vector_exp(splat(s[t] - top))[0];
    const float inverse = 1.0f / sum(s, count);
    for (t = 0; t < count; t++) s[t] *= inverse;
  }
  for (int i = 0; i < group * dim; i++) out[i] = 0.0f;
  const float* next_keys = kv_head + 1 < job.kv_heads ? job.keys + static_cast<size_t>(job.block_tokens) * dim : job.keys;
  // All heads take a block's values while they are near.
  walk_cache(job, job.values, next_keys, kv_head, blocks, first, count, [&](const CacheSpan& values) {
    for (int h = 0; h < group; h++) {
      const int share = values.count * dim / group;
      fetch(values.ahead + h * share, share * sizeof(float));
      add_values(out + h * dim, scores + static_cast<size_t>(h) * count + values.first, values, dim);
    }
  });
}

} // namespace
} // namespace signpost
