// Quantised weights, and their matmul in integers. Included by kernels.cc alone.
//
// A quantised matrix stands in tiles of kTileSigns outputs (zeros after the last): for each 32 columns the values of all outputs, four columns of one
// output after the other, so that one vector has four of each; then an F16 scale for each 32 columns and output. Q8 values are 128 more, Q4 values 8
// more than they mean, and never negative; of Q4 a byte's low half is of the group's first 16 columns, its high half of the other 16.
//
// Activations are rounded to 16 bits in the same groups (see `integers`). A group's products are added as integers, which no order changes; then
// groups are added in order as float32. So a row has the same bits alone and among others.
#pragma once
#include "elementwise.h"
#include "kernels.h"
#include "simd.h"

namespace signpost {
namespace {

// Of an activation: so many steps to each side, which two bytes hold as 256 · high + low.
constexpr float kActivationSteps = 32512.0f;
// A group of activations whose largest is less adds nothing that float32 sums of such weights would show.
constexpr float kLeastActivation = 1e-30f;
// Dwords of a group: four columns each.
constexpr int kGroupWords = kGroupColumns / 4;
// Vectors that hold a number of each output of a tile.
constexpr int kTileVectors = kTileSigns / kLanes;
constexpr int kNibbleZero = 8;

inline const float* activation_scales(const char* row, int groups) { return reinterpret_cast<const float*>(row + static_cast<size_t>(groups) * kGroupColumns * 2); }
inline const int32_t* activation_offsets(const char* row, int groups) { return reinterpret_cast<const int32_t*>(activation_scales(row, groups) + groups); }

// ---- activations ----

// Largest magnitude of 32 values; what is not a number is larger than any.
inline float largest_of(const float* x) {
  uint32_t most = 0;
#if defined(SIGNPOST_AVX512)
  const __m512i a = _mm512_and_si512(_mm512_loadu_si512(x), _mm512_set1_epi32(0x7fffffff));
  const __m512i b = _mm512_and_si512(_mm512_loadu_si512(x + 16), _mm512_set1_epi32(0x7fffffff));
  most = _mm512_reduce_max_epu32(_mm512_max_epu32(a, b));
#else
  for (int i = 0; i < kGroupColumns; i++) {
    uint32_t bits;
    std::memcpy(&bits, x + i, 4);
    bits &= 0x7fffffff;
    most = bits > most ? bits : most;
  }
#endif
  float value;
  std::memcpy(&value, &most, 4);
  return value;
}

// 32 values as whole numbers of steps, as the kernels below take them; gives their sum.
inline int32_t round_group(char* out, const float* x, float inverse) {
#if defined(SIGNPOST_VNNI)
  // First the high bytes of all, then the low ones.
  __m512i total = _mm512_setzero_si512();
  for (int half = 0; half < 2; half++) {
    const __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + half * 16), _mm512_set1_ps(inverse)));
    const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(q, _mm512_set1_epi32(128)), 8);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + half * 16), _mm512_cvtepi32_epi8(high));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + kGroupColumns + half * 16), _mm512_cvtepi32_epi8(q));
    total = _mm512_add_epi32(total, q);
  }
  return _mm512_reduce_add_epi32(total);
#else
  int16_t* values = reinterpret_cast<int16_t*>(out);
  int32_t total = 0;
  for (int i = 0; i < kGroupColumns; i++) {
    // To the nearest, ties to even, by adding and taking away 1.5 · 2^23.
    const float steps = (x[i] * inverse + 12582912.0f) - 12582912.0f;
    values[i] = static_cast<int16_t>(static_cast<int32_t>(steps));
    total += values[i];
  }
  return total;
#endif
}

// A row of float32 activations (zeros to the next multiple of 32) as integers: the values of each group, then a scale, then an offset for each
// group: what must be added to its products because its weights are `zero` more than they mean.
void integers(char* out, const float* x, int in, int zero) {
  const int groups = groups_of(in);
  float* scales = const_cast<float*>(activation_scales(out, groups));
  int32_t* offsets = const_cast<int32_t*>(activation_offsets(out, groups));
  for (int g = 0; g < groups; g++) {
    const float most = largest_of(x + g * kGroupColumns);
    // What is infinite or not a number makes the scale so, and with it every sum.
    const bool counts = most >= kLeastActivation && most <= 3.4e38f;
    scales[g] = most >= kLeastActivation || !(most <= 3.4e38f) ? most / kActivationSteps : 0.0f;
    const int32_t sum = counts ? round_group(out + static_cast<size_t>(g) * kGroupColumns * 2, x + g * kGroupColumns, kActivationSteps / most) : 0;
    if (!counts) std::memset(out + static_cast<size_t>(g) * kGroupColumns * 2, 0, kGroupColumns * 2);
    offsets[g] = -zero * sum;
  }
}

// ---- weights ----

struct Bytes {
  static constexpr Dtype kDtype = Dtype::Q8;
  static constexpr int kZero = 128;
  static constexpr int kGroupBytes = kGroupColumns * kTileSigns;
  // Where the value of an output's column stands in its group, and whether in a byte's high half.
  static constexpr int byte_of(int o, int c) { return c / 4 * 4 * kTileSigns + o * 4 + c % 4; }
  static constexpr bool is_high(int) { return false; }
  static constexpr int value(uint8_t byte, bool) { return byte; }
  // Four columns of all outputs: dwords 16 k … of a group.
#if defined(SIGNPOST_AVX512)
  static __m512i load_word(const char* group, int k) { return _mm512_loadu_si512(group + k * 64); }
#endif
};

struct Nibbles {
  static constexpr Dtype kDtype = Dtype::Q4;
  static constexpr int kZero = kNibbleZero;
  static constexpr int kGroupBytes = kGroupColumns * kTileSigns / 2;
  static constexpr int kHalf = kGroupColumns / 2;
  static constexpr int byte_of(int o, int c) { return Bytes::byte_of(o, c % kHalf); }
  static constexpr bool is_high(int c) { return c >= kHalf; }
  static constexpr int value(uint8_t byte, bool high) { return high ? byte >> 4 : byte & 15; }
#if defined(SIGNPOST_AVX512)
  static __m512i load_word(const char* group, int k) {
    const __m512i both = _mm512_loadu_si512(group + k % 4 * 64);
    return _mm512_and_si512(k < 4 ? both : _mm512_srli_epi16(both, 4), _mm512_set1_epi8(15));
  }
#endif
};

// The scales of a group's outputs.
inline void tile_scales(Vec scales[kTileVectors], const char* halves) {
  const uint16_t* from = reinterpret_cast<const uint16_t*>(halves);
#if defined(SIGNPOST_AVX512)
  scales[0] = reinterpret_cast<Vec>(_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
#elif defined(SIGNPOST_AVX2)
  for (int v = 0; v < kTileVectors; v++) scales[v] = reinterpret_cast<Vec>(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + v * kLanes))));
#else
  for (int o = 0; o < kTileSigns; o++) scales[o / kLanes][o % kLanes] = f16_to_f32(from[o]);
#endif
}

// ---- products of one group of a row, for all outputs of a tile ----

#if defined(SIGNPOST_VNNI)
template <typename F> struct Products {
  __m512i weights[kGroupWords];
  explicit Products(const char* group) {
    for (int k = 0; k < kGroupWords; k++) weights[k] = F::load_word(group, k);
  }
  void of(Ints totals[kTileVectors], const char* values, int32_t offset) const {
    const int32_t* words = reinterpret_cast<const int32_t*>(values);
    __m512i high = _mm512_setzero_si512();
    __m512i low = _mm512_set1_epi32(offset);
    for (int k = 0; k < kGroupWords; k++) {
      high = _mm512_dpbusd_epi32(high, weights[k], _mm512_set1_epi32(words[k]));
      low = _mm512_dpbusd_epi32(low, weights[k], _mm512_set1_epi32(words[kGroupWords + k]));
    }
    totals[0] = reinterpret_cast<Ints>(_mm512_add_epi32(_mm512_slli_epi32(high, 8), low));
  }
};
#else
template <typename F> struct Products {
  // As 16-bit values, four columns of each output together.
  alignas(64) int16_t weights[kGroupWords][kTileSigns * 4];
  explicit Products(const char* group) {
    for (int k = 0; k < kGroupWords; k++) {
      const uint8_t* bytes = reinterpret_cast<const uint8_t*>(group) + F::byte_of(0, k * 4);
      for (int i = 0; i < kTileSigns * 4; i++) weights[k][i] = static_cast<int16_t>(F::value(bytes[i], F::is_high(k * 4)));
    }
  }
  void of(Ints totals[kTileVectors], const char* values, int32_t offset) const {
#if defined(SIGNPOST_AVX2) || defined(SIGNPOST_AVX512)
    __m256i sums[kTileSigns / 4] = {}; // two of each output
    for (int k = 0; k < kGroupWords; k++) {
      int64_t four;
      std::memcpy(&four, values + k * 8, 8);
      const __m256i x = _mm256_set1_epi64x(four);
      for (int s = 0; s < kTileSigns / 4; s++)
        sums[s] = _mm256_add_epi32(sums[s], _mm256_madd_epi16(_mm256_load_si256(reinterpret_cast<const __m256i*>(weights[k] + s * 16)), x));
    }
    alignas(64) int32_t all[kTileSigns];
    for (int s = 0; s < kTileSigns / 4; s += 2) {
      const __m256i pairs = _mm256_permute4x64_epi64(_mm256_hadd_epi32(sums[s], sums[s + 1]), 0xd8);
      _mm256_store_si256(reinterpret_cast<__m256i*>(all + s * 4), _mm256_add_epi32(pairs, _mm256_set1_epi32(offset)));
    }
#elif defined(SIGNPOST_NEON)
    int32x4_t sums[kTileSigns];
    for (int o = 0; o < kTileSigns; o++) sums[o] = vdupq_n_s32(0);
    for (int k = 0; k < kGroupWords; k++) {
      const int16x4_t x = vld1_s16(reinterpret_cast<const int16_t*>(values) + k * 4);
      for (int o = 0; o < kTileSigns; o++) sums[o] = vmlal_s16(sums[o], vld1_s16(weights[k] + o * 4), x);
    }
    int32_t all[kTileSigns];
    for (int o = 0; o < kTileSigns; o++) all[o] = vaddvq_s32(sums[o]) + offset;
#else
    const int16_t* x = reinterpret_cast<const int16_t*>(values);
    int32_t all[kTileSigns];
    for (int o = 0; o < kTileSigns; o++) all[o] = offset;
    for (int k = 0; k < kGroupWords; k++)
      for (int i = 0; i < kTileSigns * 4; i++) all[i / 4] += weights[k][i] * x[k * 4 + i % 4];
#endif
    std::memcpy(totals, all, sizeof all);
  }
};
#endif

// ---- a tile of outputs ----

// Outputs of a tile for kRows rows, into `sums`. What stands `ahead` bytes further is fetched.
template <typename F, int kRows> inline void integer_tile(const char* tile, int groups, const char* const* x, size_t ahead, Vec (*sums)[kTileVectors]) {
  const char* halves = tile + static_cast<size_t>(groups) * F::kGroupBytes;
  const float* scales[kRows];
  const int32_t* offsets[kRows];
  Vec totals[kRows][kTileVectors];
  for (int r = 0; r < kRows; r++) {
    scales[r] = activation_scales(x[r], groups);
    offsets[r] = activation_offsets(x[r], groups);
    for (int v = 0; v < kTileVectors; v++) totals[r][v] = Vec{};
  }
  for (int g = 0; g < groups; g++) {
    const char* group = tile + static_cast<size_t>(g) * F::kGroupBytes;
    if (ahead != 0)
      for (int at = 0; at < F::kGroupBytes; at += 64) {
        __builtin_prefetch(group + ahead + at, 0, 2);
        __builtin_prefetch(group + kNearBytes + at, 0, 3);
      }
    if (ahead != 0 && g % 2 == 0) __builtin_prefetch(halves + ahead + g * kTileSigns * 2, 0, 2);
    const Products<F> products(group);
    Vec weight_scales[kTileVectors];
    tile_scales(weight_scales, halves + g * kTileSigns * 2);
    for (int r = 0; r < kRows; r++) {
      Ints whole[kTileVectors];
      products.of(whole, x[r] + static_cast<size_t>(g) * kGroupColumns * 2, offsets[r][g]);
      for (int v = 0; v < kTileVectors; v++)
        totals[r][v] = fma(__builtin_convertvector(whole[v], Vec), weight_scales[v] * splat(scales[r][g]), totals[r][v]);
    }
  }
  for (int r = 0; r < kRows; r++)
    for (int v = 0; v < kTileVectors; v++) sums[r][v] = totals[r][v];
}

// ---- one row of a matrix ----

// Row j of a quantised matrix of n columns as float32: scale · value, which float32 holds exactly.
template <typename F> inline void widen_output(float* out, const char* matrix, size_t j, int n) {
  const int groups = groups_of(n);
  const char* tile = matrix + j / kTileSigns * tile_bytes(F::kDtype, n);
  const int o = static_cast<int>(j % kTileSigns);
  const uint16_t* scales = reinterpret_cast<const uint16_t*>(tile + static_cast<size_t>(groups) * F::kGroupBytes);
  for (int g = 0; g < groups; g++) {
    const float scale = f16_to_f32(scales[g * kTileSigns + o]);
    for (int c = 0; c < kGroupColumns && g * kGroupColumns + c < n; c++) {
      const uint8_t byte = static_cast<uint8_t>(tile[static_cast<size_t>(g) * F::kGroupBytes + F::byte_of(o, c)]);
      out[g * kGroupColumns + c] = scale * static_cast<float>(F::value(byte, F::is_high(c)) - F::kZero);
    }
  }
}

} // namespace
} // namespace signpost
