// Vectors of one instruction set, chosen by the macro that binding.gyp defines. Included by kernels.cc alone.
//
// The compiler may not contract a · b + c on its own (-ffp-contract=off): where a multiply-add is meant it is written `fma`, so that two
// paths that write the same operations give the same bits.
#pragma once
#include <cstddef>
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

// What is fetched ahead of use: far enough for memory, near enough for the second-level cache.
constexpr size_t kAheadBytes = 32 * 1024;
// What is fetched far ahead waits in the second-level cache; from this distance on it is fetched into the first. Without, a core takes a tenth less from
// memory than it reads when it computes nothing.
constexpr size_t kNearBytes = 512;

// Brings memory into the second-level cache.
inline void fetch(const void* data, size_t bytes) {
  for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch(static_cast<const char*>(data) + at, 0, 2);
}

typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef float VecU __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef uint32_t Words __attribute__((vector_size(kLanes * 4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef uint16_t Halves __attribute__((vector_size(kLanes * 2), aligned(2), may_alias));

inline Vec load(const float* p) { return *reinterpret_cast<const VecU*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<VecU*>(p) = v; }
// What is taken off is what the compiler leaves out: −0 + 0 would be something else.
inline Vec splat(float value) { return value - Vec{}; }

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

#if defined(SIGNPOST_AVX512)
inline Vec load_halves(const uint16_t* p) {
  return reinterpret_cast<Vec>(_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
}
#elif defined(SIGNPOST_AVX2)
inline Vec load_halves(const uint16_t* p) { return reinterpret_cast<Vec>(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))); }
#elif defined(SIGNPOST_NEON)
inline Vec load_halves(const uint16_t* p) { return reinterpret_cast<Vec>(vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)))); }
#endif

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

// `reduce` of four vectors.
inline void reduce4(const Vec v[4], float out[4]) {
#if defined(SIGNPOST_AVX512)
  const auto of = [](Vec one) { return reinterpret_cast<__m512>(one); };
  const auto halves = [](__m512 a, __m512 b) { return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee)); };
  const __m512 ab = halves(of(v[0]), of(v[1]));
  const __m512 cd = halves(of(v[2]), of(v[3]));
  // Four lanes of each, then two, then one.
  const __m512 four = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
  const __m512 two = _mm512_add_ps(four, _mm512_permute_ps(four, 0x4e));
  const __m512 one = _mm512_add_ps(two, _mm512_permute_ps(two, 0xb1));
  const __m512i firsts = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  _mm_storeu_ps(out, _mm512_castps512_ps128(_mm512_permutexvar_ps(firsts, one)));
#else
  for (int i = 0; i < 4; i++) out[i] = reduce(v[i]);
#endif
}

// ---- sign bits: a vector of words, one of each output ----

#if defined(SIGNPOST_AVX512)
using SignWords = __m512i;
inline SignWords load_sign_words(const uint32_t* p) { return _mm512_loadu_si512(p); }
inline SignWords upper_half(SignWords bits) { return _mm512_srli_epi32(bits, 16); }
#elif defined(SIGNPOST_AVX2)
using SignWords = __m256i;
inline SignWords load_sign_words(const uint32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline SignWords upper_half(SignWords bits) { return _mm256_srli_epi32(bits, 16); }
#else
using SignWords = Words;
inline SignWords load_sign_words(const uint32_t* p) {
  SignWords bits;
  std::memcpy(&bits, p, sizeof bits);
  return bits;
}
inline SignWords upper_half(SignWords bits) { return bits >> 16; }
#endif

// table[bits kNibble · 4 … + 3] of each word, kNibble below 4.
template <int kNibble> inline Vec look_up_sum(const float* table, SignWords bits) {
#if defined(SIGNPOST_AVX512)
  // The permutation takes the low four bits. A product's upper half is a shift that leaves the shuffle units, of which there are few, alone.
  const __m512i index = kNibble == 0 ? bits : _mm512_mulhi_epu16(bits, _mm512_set1_epi16(static_cast<short>(1 << (16 - 4 * kNibble))));
  return reinterpret_cast<Vec>(_mm512_permutexvar_ps(index, _mm512_loadu_ps(table)));
#elif defined(SIGNPOST_AVX2)
  // The permutation takes the low three bits, the blend the topmost.
  const __m256i index = _mm256_srli_epi32(bits, 4 * kNibble);
  const __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), index);
  const __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), index);
  return reinterpret_cast<Vec>(_mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(bits, 28 - 4 * kNibble))));
#else
  Vec sums;
  for (int lane = 0; lane < kLanes; lane++) sums[lane] = table[(bits[lane] >> (4 * kNibble)) & 15];
  return sums;
#endif
}

} // namespace
} // namespace signpost
