// Vectors of one instruction set, chosen by the macro that binding.gyp defines. Included by kernels.cc alone.
//
// The compiler may not contract a · b + c on its own (-ffp-contract=off): where a multiply-add is meant it is written `fma`, so that two
// paths that write the same operations give the same bits.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(SIGNPOST_AVX512) || defined(SIGNPOST_AVX2)
#include <immintrin.h>
#elif defined(SIGNPOST_NEON)
#include <arm_neon.h>
#endif

namespace signpost {
namespace {

#if defined(SIGNPOST_AVX512)
constexpr int kLanes = 16;
#elif defined(SIGNPOST_AVX2)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef float VecU __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef uint32_t Words __attribute__((vector_size(kLanes * 4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef uint16_t Halves __attribute__((vector_size(kLanes * 2), aligned(2), may_alias));

inline Vec load(const float* p) { return *reinterpret_cast<const VecU*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<VecU*>(p) = v; }
inline Vec splat(float value) { return Vec{} + value; }

inline Vec fma(Vec a, Vec b, Vec c) {
#if defined(SIGNPOST_AVX512)
  return reinterpret_cast<Vec>(_mm512_fmadd_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), reinterpret_cast<__m512>(c)));
#elif defined(SIGNPOST_AVX2)
  return reinterpret_cast<Vec>(_mm256_fmadd_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b), reinterpret_cast<__m256>(c)));
#elif defined(SIGNPOST_NEON)
  return reinterpret_cast<Vec>(vfmaq_f32(reinterpret_cast<float32x4_t>(c), reinterpret_cast<float32x4_t>(a), reinterpret_cast<float32x4_t>(b)));
#else
  return a * b + c;
#endif
}

inline float fma(float a, float b, float c) {
#if defined(SIGNPOST_AVX512) || defined(SIGNPOST_AVX2) || defined(SIGNPOST_NEON)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

// The lanes, added by halves: lane l to lane l + width, width 8, 4, 2, 1.
inline float reduce(Vec v) {
#if defined(SIGNPOST_AVX512) || defined(SIGNPOST_AVX2)
#if defined(SIGNPOST_AVX512)
  const __m512 all = reinterpret_cast<__m512>(v);
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
#else
  const __m256 eight = reinterpret_cast<__m256>(v);
#endif
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
#else
  return (v[0] + v[2]) + (v[1] + v[3]);
#endif
}

// ---- weights ----

inline Vec load_weights(const float* p) { return load(p); }
inline Vec load_weights(const uint16_t* p) {
  // GCC's own widening of a whole vector takes four instructions where these take one.
#if defined(SIGNPOST_AVX512)
  const Words wide = reinterpret_cast<Words>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
#elif defined(SIGNPOST_AVX2)
  const Words wide = reinterpret_cast<Words>(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#else
  const Words wide = __builtin_convertvector(*reinterpret_cast<const Halves*>(p), Words);
#endif
  return reinterpret_cast<Vec>(wide << 16);
}

// The last n < kLanes elements of a row, zeros after them; reads nothing beyond.
template <typename W> inline Vec load_weights_tail(const W* p, int n) {
  W padded[kLanes] = {};
  for (int i = 0; i < n; i++) padded[i] = p[i];
  return load_weights(padded);
}

inline float weight_at(const float* p) { return *p; }
inline float weight_at(const uint16_t* p) {
  const uint32_t word = static_cast<uint32_t>(*p) << 16;
  float value;
  std::memcpy(&value, &word, 4);
  return value;
}

// ---- sign bits ----

// kLanes sign bits of a row, those of columns v · kLanes and on. (All supported machines are little-endian.)
inline uint32_t sign_bits(const uint32_t* signs, int v) {
#if defined(SIGNPOST_AVX512)
  return _load_mask16(reinterpret_cast<__mmask16*>(const_cast<uint32_t*>(signs)) + v);
#elif defined(SIGNPOST_AVX2)
  return reinterpret_cast<const uint8_t*>(signs)[v];
#else
  return (signs[v / 8] >> (v % 8 * 4)) & 15;
#endif
}

#if !defined(SIGNPOST_AVX512)
// All ones in the lanes whose bit is set: a load is cheaper than spreading bits over lanes.
struct LaneMasks {
  alignas(kLanes * 4) uint32_t masks[1 << kLanes][kLanes];
  constexpr LaneMasks() : masks() {
    for (int bits = 0; bits < 1 << kLanes; bits++)
      for (int lane = 0; lane < kLanes; lane++) masks[bits][lane] = (bits >> lane) & 1 ? 0xffffffffu : 0u;
  }
};
constexpr LaneMasks kLaneMasks;
#endif

// v + x where the lane's bit is set, v elsewhere.
inline Vec add_where(Vec v, uint32_t bits, Vec x) {
#if defined(SIGNPOST_AVX512)
  // GCC 12 copies v before the intrinsic's masked add.
  __asm__("vaddps %2, %0, %0%{%1%}" : "+v"(v) : "Yk"(static_cast<__mmask16>(bits)), "v"(x));
  return v;
#else
  Ints mask;
  std::memcpy(&mask, kLaneMasks.masks[bits], sizeof mask);
  return v + reinterpret_cast<Vec>(reinterpret_cast<Ints>(x) & mask);
#endif
}

} // namespace
} // namespace signpost
