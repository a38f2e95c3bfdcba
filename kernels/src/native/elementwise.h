// Sums and elementwise ops of one row. Included by kernels.cc alone.
#pragma once
#include "kernels.h"
#include "simd.h"

namespace signpost {
namespace {

inline float weight_at(const float* p) { return *p; }
inline float weight_at(const uint16_t* p) {
  const uint32_t word = static_cast<uint32_t>(*p) << 16;
  float value;
  std::memcpy(&value, &word, 4);
  return value;
}

float f16_to_f32(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  uint32_t exponent = (half >> 10) & 31;
  uint32_t mantissa = half & 1023;
  uint32_t word;
  if (exponent == 31) {
    word = sign | 0x7f800000u | (mantissa << 13);
  } else if (exponent != 0) {
    word = sign | ((exponent + 112) << 23) | (mantissa << 13);
  } else if (mantissa == 0) {
    word = sign;
  } else {
    exponent = 113;
    while ((mantissa & 1024) == 0) {
      mantissa <<= 1;
      exponent--;
    }
    word = sign | (exponent << 23) | ((mantissa & 1023) << 13);
  }
  float value;
  std::memcpy(&value, &word, 4);
  return value;
}

// exp for x ≤ 88, by Cephes' expf polynomial: relative error below 2e-7; smaller arguments than −87 give 0.
inline Vec vector_exp(Vec x) {
  const Ints tiny = x < splat(-87.0f);
  x = tiny ? splat(0.0f) : x;
  // Rounds to the nearest integer by adding and taking away 1.5 · 2^23.
  const Vec magic = splat(12582912.0f);
  const Vec n = fma(x, splat(1.44269504088896341f), magic) - magic;
  Vec r = fma(n, splat(-0.693359375f), x);
  r = fma(n, splat(2.12194440e-4f), r);
  Vec p = splat(1.9875691500e-4f);
  p = fma(p, r, splat(1.3981999507e-3f));
  p = fma(p, r, splat(8.3334519073e-3f));
  p = fma(p, r, splat(4.1665795894e-2f));
  p = fma(p, r, splat(1.6666665459e-1f));
  p = fma(p, r, splat(5.0000001201e-1f));
  const Vec e = fma(p * r, r, r) + splat(1.0f);
  const Ints power = (__builtin_convertvector(n, Ints) + 127) << 23;
  const Vec result = e * reinterpret_cast<Vec>(power);
  return tiny ? splat(0.0f) : result;
}

inline Vec silu(Vec x) {
  // Beyond 80 the exponential would overflow where the result is 0 already.
  const Vec minus = -x;
  const Vec bounded = minus > splat(80.0f) ? splat(80.0f) : minus;
  return x / (splat(1.0f) + vector_exp(bounded));
}

void swiglu(float* out, const float* gate, const float* up, int n) {
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, silu(load(gate + i)) * load(up + i));
  for (; i < n; i++) out[i] = silu(splat(gate[i]))[0] * up[i];
}

float sum(const float* x, int n) {
  Vec total = {};
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) total += load(x + i);
  float result = reduce(total);
  for (; i < n; i++) result += x[i];
  return result;
}

float dot(const float* a, const float* b, int n) {
  Vec total = {};
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) total = fma(load(a + i), load(b + i), total);
  float result = reduce(total);
  for (; i < n; i++) result = fma(a[i], b[i], result);
  return result;
}

void scale_by(float* out, const float* x, const float* w, float factor, int n) {
  for (int i = 0; i < n; i++) out[i] = x[i] * factor * w[i];
}

void add(float* x, const float* y, int n) {
  for (int i = 0; i < n; i++) x[i] += y[i];
}

void rotate(float* x, const float* cos, const float* sin, int half) {
  for (int i = 0; i < half; i++) {
    const float a = x[i];
    const float b = x[i + half];
    x[i] = a * cos[i] - b * sin[i];
    x[i + half] = b * cos[i] + a * sin[i];
  }
}

inline float value_at(const void* data, Dtype dtype, int i) {
  switch (dtype) {
    case Dtype::BF16: return weight_at(static_cast<const uint16_t*>(data) + i);
    case Dtype::F16: return f16_to_f32(static_cast<const uint16_t*>(data)[i]);
    default: return static_cast<const float*>(data)[i];
  }
}

void apply_term(float* out, const DeltaTerm& term, size_t j, int n) {
  if (term.tiles == nullptr) {
    for (int i = 0; i < n; i++) out[i] = fma(term.weight, weight_at(term.exact + j * n + i), out[i]);
    return;
  }
  const uint32_t* signs = term.tiles + (j / kTileSigns * ((n + 31) / 32)) * kTileSigns + j % kTileSigns;
  const float scale = term.weight * term.row_scale[j * term.row_scale_step];
  for (int i = 0; i < n; i++) {
    const float step = term.col_scale == nullptr ? scale : scale * term.col_scale[i];
    out[i] += (signs[i / 32 * kTileSigns] >> (i % 32)) & 1 ? step : -step;
  }
}

void difference(float* out, const void* base, Dtype base_dtype, const void* tuned, Dtype tuned_dtype, int n) {
  if (base_dtype == Dtype::BF16 && tuned_dtype == Dtype::BF16) {
    const uint16_t* b = static_cast<const uint16_t*>(base);
    const uint16_t* t = static_cast<const uint16_t*>(tuned);
    for (int i = 0; i < n; i++) out[i] = weight_at(t + i) - weight_at(b + i);
    return;
  }
  int i = 0;
#if defined(SIGNPOST_AVX512) || defined(SIGNPOST_AVX2) || defined(SIGNPOST_NEON)
  if (base_dtype == Dtype::F16 && tuned_dtype == Dtype::F16) {
    const uint16_t* b = static_cast<const uint16_t*>(base);
    const uint16_t* t = static_cast<const uint16_t*>(tuned);
    for (; i + kLanes <= n; i += kLanes) store(out + i, load_halves(t + i) - load_halves(b + i));
  }
#endif
  for (; i < n; i++) out[i] = value_at(tuned, tuned_dtype, i) - value_at(base, base_dtype, i);
}

// ---- calibration: sums that plain code can repeat, so nothing is fused; the compiler makes vectors of these loops ----

// out[k] += Σ_b a_b · x_b[k], some k at a time in registers. The compiler would keep these sums in memory.
void add_products(float* out, const float* const* x, const float* a, int count, int n) {
  constexpr int kVecs = 8;
  int k = 0;
  for (; k + kVecs * kLanes <= n; k += kVecs * kLanes) {
    Vec sums[kVecs];
#pragma GCC unroll 8
    for (int v = 0; v < kVecs; v++) sums[v] = load(out + k + v * kLanes);
    for (int b = 0; b < count; b++) {
      const Vec factor = splat(a[b]);
      const float* from = x[b] + k;
#pragma GCC unroll 8
      for (int v = 0; v < kVecs; v++) sums[v] += factor * load(from + v * kLanes);
    }
#pragma GCC unroll 8
    for (int v = 0; v < kVecs; v++) store(out + k + v * kLanes, sums[v]);
  }
  for (; k < n; k++)
    for (int b = 0; b < count; b++) out[k] += a[b] * x[b][k];
}

void add_scaled(float* out, const float* x, float a, int n) {
  for (int k = 0; k < n; k++) out[k] += a * x[k];
}

// Wraps around: a measure of read bandwidth, not a digest.
uint64_t sum_words(const uint64_t* words, size_t n) {
  constexpr size_t kLineWords = 8;
  constexpr size_t kAheadWords = 256;
  uint64_t sums[kLineWords] = {};
  size_t i = 0;
  for (; i + kLineWords <= n; i += kLineWords) {
    __builtin_prefetch(words + i + kAheadWords, 0, 2);
    for (size_t k = 0; k < kLineWords; k++) sums[k] += words[i + k];
  }
  for (; i < n; i++) sums[0] += words[i];
  uint64_t total = 0;
  for (const uint64_t sum : sums) total += sum;
  return total;
}

} // namespace
} // namespace signpost
