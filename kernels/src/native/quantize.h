// Quantising a row of weights; see weights.h for how it is laid out. Included by kernels.cc alone.
//
// Plain code: every instruction set, and the reference device's TypeScript, makes the same bytes.
#pragma once
#include "elementwise.h"
#include "kernels.h"
#include "weights.h"

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

// The scale is chosen so that the value furthest from zero is kept: as ±127, or as −8.
inline void quantize_group(char* values, uint16_t* scale, Dtype format, const float* w) {
  float furthest = 0;
  for (int i = 0; i < kGroupColumns; i++)
    if ((w[i] < 0 ? -w[i] : w[i]) > (furthest < 0 ? -furthest : furthest)) furthest = w[i];
  const bool is_bytes = format == Dtype::Q8;
  *scale = f32_to_f16(is_bytes ? (furthest < 0 ? -furthest : furthest) / 127.0f : furthest / -8.0f);
  const float width = f16_to_f32(*scale);
  const float inverse = width == 0 ? 0 : 1.0f / width;
  if (is_bytes) {
    for (int i = 0; i < kGroupColumns; i++) values[i] = static_cast<char>(clamp(round_even(w[i] * inverse), -127, 127));
    return;
  }
  constexpr int kHalf = kGroupColumns / 2;
  for (int i = 0; i < kHalf; i++) {
    const int low = clamp(round_even(w[i] * inverse), -kNibbleZero, 7) + kNibbleZero;
    const int high = clamp(round_even(w[i + kHalf] * inverse), -kNibbleZero, 7) + kNibbleZero;
    values[i] = static_cast<char>(low | (high << 4));
  }
}

void quantize(void* row, Dtype format, const void* data, Dtype dtype, int n) {
  const int groups = (n + kGroupColumns - 1) / kGroupColumns;
  char* values = static_cast<char*>(row);
  const int group_bytes = format == Dtype::Q8 ? Bytes::kGroupBytes : Nibbles::kGroupBytes;
  uint16_t* scales = reinterpret_cast<uint16_t*>(values + static_cast<size_t>(groups) * group_bytes);
  for (int g = 0; g < groups; g++) {
    float w[kGroupColumns] = {};
    const int count = n - g * kGroupColumns < kGroupColumns ? n - g * kGroupColumns : kGroupColumns;
    for (int i = 0; i < count; i++) w[i] = value_at(data, dtype, g * kGroupColumns + i);
    quantize_group(values + static_cast<size_t>(g) * group_bytes, scales + g, format, w);
  }
}

} // namespace
} // namespace signpost
