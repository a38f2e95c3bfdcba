// Quantising a row of weights; see integers.h for how it is laid out. Included by kernels.cc alone.
//
// Plain code: every instruction set, and the reference device's TypeScript, makes the same bytes.
#pragma once
#include "elementwise.h"
#include "kernels.h"
#include "integers.h"

namespace signpost {
namespace {

// To the nearest, ties to even; a scale is never negative zero, infinite or NaN.
inline uint16_t f32_to_f16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude < 0x38800000) {
    // Below 2^-14 halves are 2^-24 apart: adding 0.5 leaves float32 a last place of just that.
    const float shifted = (value < 0 ? -value : value) + 0.5f;
    std::memcpy(&bits, &shifted, 4);
    return sign | static_cast<uint16_t>(bits - 0x3f000000);
  }
  const uint32_t rounded = (magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  return sign | static_cast<uint16_t>(rounded < 0x7bff ? rounded : 0x7bff);
}

// To the nearest integer, ties to even, for |x| < 2^22.
inline float round_even(float x) { return (x + 12582912.0f) - 12582912.0f; }
// Also of NaN, for which it is `low`.
inline int clamp(float x, int low, int high) { return !(x >= static_cast<float>(low)) ? low : x > static_cast<float>(high) ? high : static_cast<int>(x); }

// 32 values w as whole numbers of steps that are never negative. The scale is chosen so that the value furthest from zero is kept: as ±127, or as −8.
template <typename F> inline void quantize_group(uint8_t* values, uint16_t* scale, const float* w) {
  constexpr bool kIsBytes = F::kDtype == Dtype::Q8;
  constexpr int kLeast = kIsBytes ? -127 : -8;
  constexpr int kMost = kIsBytes ? 127 : 7;
  float furthest = 0;
  for (int i = 0; i < kGroupColumns; i++)
    if ((w[i] < 0 ? -w[i] : w[i]) > (furthest < 0 ? -furthest : furthest)) furthest = w[i];
  *scale = f32_to_f16(kIsBytes ? (furthest < 0 ? -furthest : furthest) / 127.0f : furthest / -8.0f);
  const float width = f16_to_f32(*scale);
  const float inverse = width == 0 ? 0 : 1.0f / width;
  for (int i = 0; i < kGroupColumns; i++) values[i] = static_cast<uint8_t>(clamp(round_even(w[i] * inverse), kLeast, kMost) + F::kZero);
}

// The group-th 32 columns of n values, zeros after the last.
inline void widen_group(float* w, const void* data, Dtype dtype, int group, int n) {
  const int first = group * kGroupColumns;
  for (int i = 0; i < kGroupColumns; i++) w[i] = first + i < n ? value_at(data, dtype, first + i) : 0;
}

template <typename F> inline void quantize_row(char* matrix, size_t j, const void* data, Dtype dtype, int n) {
  const int groups = groups_of(n);
  char* tile = matrix + j / kTileSigns * tile_bytes(F::kDtype, n);
  const int o = static_cast<int>(j % kTileSigns);
  uint16_t* scales = reinterpret_cast<uint16_t*>(tile + static_cast<size_t>(groups) * F::kGroupBytes);
  for (int g = 0; g < groups; g++) {
    float w[kGroupColumns] = {};
    if (data != nullptr) widen_group(w, data, dtype, g, n);
    uint8_t values[kGroupColumns];
    quantize_group<F>(values, scales + g * kTileSigns + o, w);
    char* group = tile + static_cast<size_t>(g) * F::kGroupBytes;
    // A byte's low half is written before its high one.
    for (int c = 0; c < kGroupColumns; c++) {
      char& byte = group[F::byte_of(o, c)];
      byte = static_cast<char>(F::is_high(c) ? byte | values[c] << 4 : values[c]);
    }
  }
}

void quantize(void* matrix, Dtype format, size_t j, const void* data, Dtype dtype, int n) {
  char* tiles = static_cast<char*>(matrix);
  if (format == Dtype::Q8) quantize_row<Bytes>(tiles, j, data, dtype, n);
  else quantize_row<Nibbles>(tiles, j, data, dtype, n);
}

template <typename F> inline void pack_groups_of(uint8_t* values, uint16_t* scales, const void* data, Dtype dtype, int n) {
  for (int g = 0; g < groups_of(n); g++) {
    float w[kGroupColumns];
    widen_group(w, data, dtype, g, n);
    uint8_t steps[kGroupColumns];
    quantize_group<F>(steps, scales + g, w);
    if constexpr (F::kDtype == Dtype::Q8) {
      // As signed bytes.
      for (int i = 0; i < kGroupColumns; i++) values[g * kGroupColumns + i] = static_cast<uint8_t>(steps[i] - F::kZero);
    } else {
      for (int i = 0; i < kGroupColumns / 2; i++) values[g * kGroupColumns / 2 + i] = static_cast<uint8_t>(steps[2 * i] | steps[2 * i + 1] << 4);
    }
  }
}

// A row of n values, as GroupPackJob has it.
void pack_groups(uint8_t* values, uint16_t* scales, Dtype format, const void* data, Dtype dtype, int n) {
  if (format == Dtype::Q8) pack_groups_of<Bytes>(values, scales, data, dtype, n);
  else pack_groups_of<Nibbles>(values, scales, data, dtype, n);
}

} // namespace
} // namespace signpost
