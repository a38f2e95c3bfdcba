// A row of a difference: its signs, its sums, and what a plane leaves of it. Included by kernels.cc alone.
#pragma once
#include "kernels.h"
#include "simd.h"

namespace signpost {
namespace {

// Doubles of one register, and the floats they come from.
constexpr int kDoubles = kLanes / 2;
typedef double Doubles __attribute__((vector_size(kDoubles * 8)));
typedef int64_t Longs __attribute__((vector_size(kDoubles * 8)));
typedef float NarrowU __attribute__((vector_size(kDoubles * 4), aligned(4), may_alias));

// The square of a float is exact as a double: whether multiply and add are fused makes no difference.
inline Doubles add_square(Doubles sum, Doubles v) {
#if defined(SIGNPOST_AVX512)
  const __m512d wide = reinterpret_cast<__m512d>(v);
  return reinterpret_cast<Doubles>(_mm512_fmadd_pd(wide, wide, reinterpret_cast<__m512d>(sum)));
#elif defined(SIGNPOST_AVX2)
  const __m256d wide = reinterpret_cast<__m256d>(v);
  return reinterpret_cast<Doubles>(_mm256_fmadd_pd(wide, wide, reinterpret_cast<__m256d>(sum)));
#else
  return sum + v * v;
#endif
}

inline Doubles magnitude(Doubles v) { return reinterpret_cast<Doubles>(reinterpret_cast<Longs>(v) & INT64_MAX); }

inline Doubles widen_at(const float* p) { return __builtin_convertvector(*reinterpret_cast<const NarrowU*>(p), Doubles); }

// kSumLanes sums, as many registers as it takes.
struct Sums {
  static constexpr int kRegisters = kSumLanes / kDoubles;
  Doubles lanes[kRegisters] = {};

  // The lanes, added by halves: lane l to lane l + width, width 8, 4, 2, 1.
  double total() const {
    double all[kSumLanes];
    std::memcpy(all, lanes, sizeof all);
    for (int width = kSumLanes / 2; width > 0; width /= 2)
      for (int l = 0; l < width; l++) all[l] += all[l + width];
    return all[0];
  }
};

// A bit for each of 32 values that is ≥ 0.
inline uint32_t signs_of(const float* p) {
#if defined(SIGNPOST_AVX512)
  const auto half = [](const float* at) { return static_cast<uint32_t>(_mm512_cmp_ps_mask(_mm512_loadu_ps(at), _mm512_setzero_ps(), _CMP_GE_OQ)); };
  return half(p) | half(p + 16) << 16;
#elif defined(SIGNPOST_AVX2)
  uint32_t word = 0;
  for (int q = 0; q < 4; q++)
    word |= static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(p + 8 * q), _mm256_setzero_ps(), _CMP_GE_OQ))) << 8 * q;
  return word;
#else
  uint32_t word = 0;
  for (int b = 0; b < 32; b++) word |= static_cast<uint32_t>(p[b] >= 0.0f) << b;
  return word;
#endif
}

// `body` for each 32 values; zeros, which add nothing to any sum, stand for those beyond the row's end.
template <typename F> inline void each_word(const float* left, int n, F body) {
  int i = 0;
  for (; i + 32 <= n; i += 32) body(left + i, i / 32);
  if (i == n) return;
  float padded[32] = {};
  std::memcpy(padded, left + i, (n - i) * sizeof(float));
  body(padded, i / 32);
}

RowSums pack_row(const float* left, int n, uint32_t* signs) {
  Sums absolute;
  Sums squared;
  each_word(left, n, [&](const float* p, int word) {
    signs[word] = signs_of(p);
    for (int begin = 0; begin < 32; begin += kSumLanes)
      for (int r = 0; r < Sums::kRegisters; r++) {
        const Doubles v = widen_at(p + begin + r * kDoubles);
        absolute.lanes[r] += magnitude(v);
        squared.lanes[r] = add_square(squared.lanes[r], v);
      }
  });
  if (n % 32 != 0) signs[n / 32] &= (1u << n % 32) - 1;
  return {absolute.total(), squared.total()};
}

void subtract_plane(float* left, int n, float scale) {
  for (int i = 0; i < n; i++) left[i] = left[i] >= 0.0f ? left[i] - scale : left[i] + scale;
}

double sum_squares(const float* left, int n) {
  Sums squared;
  each_word(left, n, [&](const float* p, int) {
    for (int begin = 0; begin < 32; begin += kSumLanes)
      for (int r = 0; r < Sums::kRegisters; r++) squared.lanes[r] = add_square(squared.lanes[r], widen_at(p + begin + r * kDoubles));
  });
  return squared.total();
}

} // namespace
} // namespace signpost
