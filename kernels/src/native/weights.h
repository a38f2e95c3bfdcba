// Rows of weights as vectors of float32, in each format a matrix may have. Included by kernels.cc alone.
//
// A quantised row is its values (Q8: int8; Q4: for each 32 columns 16 bytes, column i in the low half of byte i % 16, or the high half from column
// 16 on, 8 more than its value), then an F16 scale for each 32 columns; then up to 14 bytes of nothing. A weight is scale · value, which
// float32 holds exactly.
#pragma once
#include "elementwise.h"
#include "kernels.h"
#include "simd.h"

namespace signpost {
namespace {

constexpr int kGroupColumns = 32;
constexpr int kNibbleZero = 8;

// Each format: the weights of `row`, vector `v`; `scales` are those of the row's groups as float32.

struct Brains {
  using Element = uint16_t;
  static constexpr bool kScaled = false;
  static constexpr int kVectorBytes = kLanes * 2;
  static Vec at(const char* row, const float*, int v) {
    const uint16_t* p = reinterpret_cast<const uint16_t*>(row) + v * kLanes;
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
};

struct Floats {
  using Element = float;
  static constexpr bool kScaled = false;
  static constexpr int kVectorBytes = kLanes * 4;
  static Vec at(const char* row, const float*, int v) { return load(reinterpret_cast<const float*>(row) + v * kLanes); }
};

struct Bytes {
  using Element = int8_t;
  static constexpr bool kScaled = true;
  static constexpr int kVectorBytes = kLanes;
  static constexpr int kGroupBytes = kGroupColumns;
  static Vec at(const char* row, const float* scales, int v) {
    const char* p = row + v * kLanes;
#if defined(SIGNPOST_AVX512)
    const Vec values = reinterpret_cast<Vec>(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))));
#elif defined(SIGNPOST_AVX2)
    const Vec values = reinterpret_cast<Vec>(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))));
#else
    typedef int8_t Eighths __attribute__((vector_size(kLanes), aligned(1), may_alias));
    const Vec values = __builtin_convertvector(*reinterpret_cast<const Eighths*>(p), Vec);
#endif
    return splat(scales[v * kLanes / kGroupColumns]) * values;
  }
};

struct Nibbles {
  using Element = uint8_t;
  static constexpr bool kScaled = true;
  static constexpr int kVectorBytes = kLanes / 2;
  static constexpr int kGroupBytes = kGroupColumns / 2;
  static Vec at(const char* row, const float* scales, int v) {
    constexpr int kHalf = kGroupColumns / 2;
    const int group = v * kLanes / kGroupColumns;
    const bool is_high = v * kLanes % kGroupColumns >= kHalf;
    const char* p = row + group * kGroupBytes + v * kLanes % kHalf;
#if defined(SIGNPOST_AVX512)
    // Sixteen values, already scaled, from which the low four bits choose.
    const __m512 values = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    const __m512 scaled = _mm512_mul_ps(_mm512_set1_ps(scales[group]), values);
    const __m512i both = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return reinterpret_cast<Vec>(_mm512_permutexvar_ps(is_high ? _mm512_srli_epi32(both, 4) : both, scaled));
#else
#if defined(SIGNPOST_AVX2)
    const Ints both = reinterpret_cast<Ints>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
    typedef uint8_t Eighths __attribute__((vector_size(kLanes), aligned(1), may_alias));
    const Ints both = __builtin_convertvector(*reinterpret_cast<const Eighths*>(p), Ints);
#endif
    const Ints values = ((is_high ? both >> 4 : both) & 15) - kNibbleZero;
    return splat(scales[group]) * __builtin_convertvector(values, Vec);
#endif
  }
};

// Sixteen scales at a time; `scales` has room for them.
inline void widen_scales(float* scales, const char* halves, int count) {
  for (int at = 0; at < count; at += 16) {
    const uint16_t* from = reinterpret_cast<const uint16_t*>(halves) + at;
#if defined(SIGNPOST_AVX512)
    _mm512_storeu_ps(scales + at, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
#elif defined(SIGNPOST_AVX2)
    for (int i = 0; i < 16; i += 8) _mm256_storeu_ps(scales + at + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
#else
    for (int i = at; i < at + 16 && i < count; i++) scales[i] = f16_to_f32(from[i - at]);
#endif
  }
}

// A row's columns are taken by chunks of whole groups, their scales widened first.
constexpr int kChunkGroups = 256;
constexpr int kChunkVectors = kChunkGroups * kGroupColumns / kLanes;

// The last n < kLanes elements of a row that has no groups, zeros after them; reads nothing beyond.
template <typename F> inline Vec load_tail(const char* row, int v, int n) {
  typename F::Element padded[kLanes] = {};
  std::memcpy(padded, row + static_cast<size_t>(v) * F::kVectorBytes, n * sizeof(typename F::Element));
  return F::at(reinterpret_cast<const char*>(padded), nullptr, 0);
}

// Vectors of a row that may be loaded whole: those of groups end in zeros.
template <typename F> inline int whole_vectors(int in) { return F::kScaled ? (in + kLanes - 1) / kLanes : in / kLanes; }

// Where the scales of a row begin.
template <typename F> inline const char* scales_of(const char* row, int in) {
  if constexpr (F::kScaled) return row + static_cast<size_t>((in + kGroupColumns - 1) / kGroupColumns) * F::kGroupBytes;
  else return nullptr;
}

// `vectors` vectors from `first` on as float32, zeros after the last column; fetches what stands `ahead` bytes further.
template <typename F> inline void widen_row(float* out, const char* row, int in, int first, int vectors, size_t ahead) {
  const int whole = whole_vectors<F>(in);
  const int last = first + vectors < whole ? first + vectors : whole;
  float scales[kChunkGroups];
  for (int v = first; v < last;) {
    const int end = !F::kScaled || last - v < kChunkVectors ? last : v + kChunkVectors;
    const int group = v * kLanes / kGroupColumns;
    const int begin = F::kScaled ? group * kGroupColumns / kLanes : v;
    const char* chunk = row + static_cast<size_t>(begin) * F::kVectorBytes;
    if constexpr (F::kScaled) widen_scales(scales, scales_of<F>(row, in) + group * 2, (end * kLanes + kGroupColumns - 1) / kGroupColumns - group);
    for (; v < end; v++) {
      if ((v - begin) * F::kVectorBytes % 64 == 0) __builtin_prefetch(chunk + (v - begin) * F::kVectorBytes + ahead, 0, 2);
      store(out + (v - first) * kLanes, F::at(chunk, scales, v - begin));
    }
  }
  if (last < first + vectors) store(out + (last - first) * kLanes, load_tail<F>(row, last, in - last * kLanes));
}

// A whole row of n values, whatever its format.
template <typename F> inline void widen_whole(float* out, const char* row, int n) {
  const int whole = n / kLanes;
  widen_row<F>(out, row, n, 0, whole, 0);
  if (n % kLanes == 0) return;
  float last[kLanes];
  widen_row<F>(last, row, n, whole, 1, 0);
  std::memcpy(out + whole * kLanes, last, n % kLanes * sizeof(float));
}

void widen(float* out, const void* data, Dtype dtype, int n) {
  const char* row = static_cast<const char*>(data);
  switch (dtype) {
    case Dtype::BF16: return widen_whole<Brains>(out, row, n);
    case Dtype::F32: return widen_whole<Floats>(out, row, n);
    case Dtype::Q8: return widen_whole<Bytes>(out, row, n);
    case Dtype::Q4: return widen_whole<Nibbles>(out, row, n);
    default:
      for (int i = 0; i < n; i++) out[i] = value_at(data, dtype, i);
  }
}

} // namespace
} // namespace signpost
