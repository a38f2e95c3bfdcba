// Rows of weights that are stored as they are, as vectors of float32. Included by kernels.cc alone.
#pragma once
#include "elementwise.h"
#include "integers.h"
#include "kernels.h"
#include "simd.h"

namespace signpost {
namespace {

// Each format: vector `v` of a row's weights.

struct Brains {
  using Element = uint16_t;
  static constexpr bool kIsNone = false;
  static constexpr int kVectorBytes = kLanes * 2;
  static Vec at(const char* row, int v) {
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
  static constexpr bool kIsNone = false;
  static constexpr int kVectorBytes = kLanes * 4;
  static Vec at(const char* row, int v) { return load(reinterpret_cast<const float*>(row) + v * kLanes); }
};

// The last n < kLanes elements of a row, zeros after them; reads nothing beyond.
template <typename F> inline Vec load_tail(const char* row, int v, int n) {
  typename F::Element padded[kLanes] = {};
  std::memcpy(padded, row + static_cast<size_t>(v) * F::kVectorBytes, n * sizeof(typename F::Element));
  return F::at(reinterpret_cast<const char*>(padded), 0);
}

// `vectors` vectors from `first` on as float32, zeros after the last column; fetches what stands `ahead` bytes further.
template <typename F> inline void widen_row(float* out, const char* row, int in, int first, int vectors, size_t ahead) {
  const int whole = in / kLanes;
  const int last = first + vectors < whole ? first + vectors : whole;
  for (int v = first; v < last; v++) {
    if (ahead != 0 && v * F::kVectorBytes % 64 == 0) __builtin_prefetch(row + static_cast<size_t>(v) * F::kVectorBytes + ahead, 0, 2);
    store(out + (v - first) * kLanes, F::at(row, v));
  }
  if (last < first + vectors) store(out + (last - first) * kLanes, load_tail<F>(row, last, in - last * kLanes));
}

// A whole row of n values.
template <typename F> inline void widen_whole(float* out, const char* row, int n) {
  const int whole = n / kLanes;
  widen_row<F>(out, row, n, 0, whole, 0);
  if (n % kLanes == 0) return;
  float last[kLanes];
  widen_row<F>(last, row, n, whole, 1, 0);
  std::memcpy(out + whole * kLanes, last, n % kLanes * sizeof(float));
}

// Row j of a matrix of n columns, or a vector of n values (j = 0).
void widen(float* out, const void* data, Dtype dtype, size_t j, int n) {
  const char* matrix = static_cast<const char*>(data);
  switch (dtype) {
    case Dtype::BF16: return widen_whole<Brains>(out, matrix + j * row_bytes(dtype, n), n);
    case Dtype::F32: return widen_whole<Floats>(out, matrix + j * row_bytes(dtype, n), n);
    case Dtype::Q8: return widen_output<Bytes>(out, matrix, j, n);
    case Dtype::Q4: return widen_output<Nibbles>(out, matrix, j, n);
    default:
      for (int i = 0; i < n; i++) out[i] = value_at(matrix + j * row_bytes(dtype, n), dtype, i);
  }
}

} // namespace
} // namespace signpost
