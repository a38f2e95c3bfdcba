// The compute kernels, compiled once for every instruction set (see binding.gyp).
//
// Every sum has one order: lane l of the only accumulator takes elements l, l + lanes, … of the row, the lanes are added pairwise, then the
// tail, element by element. It does not depend on how many rows or outputs are computed together, so a row's result is the same in any batch.
#include "kernels.h"

#include <cstring>

#if defined(SIGNPOST_AVX512)
#include <immintrin.h>
#define TABLE kAvx512
#define TABLE_NAME "avx512"
#elif defined(SIGNPOST_AVX2)
#include <immintrin.h>
#define TABLE kAvx2
#define TABLE_NAME "avx2"
#elif defined(SIGNPOST_NEON)
#define TABLE kNeon
#define TABLE_NAME "neon"
#else
#define TABLE kPortable
#define TABLE_NAME "portable"
#endif

namespace signpost {
namespace {

#if defined(SIGNPOST_AVX512)
constexpr int kLanes = 16;
constexpr int kTileOutputs = 4;
#elif defined(SIGNPOST_AVX2)
constexpr int kLanes = 8;
constexpr int kTileOutputs = 2;
#else
constexpr int kLanes = 4;
constexpr int kTileOutputs = 2;
#endif
constexpr int kTileRows = 4;
// One row alone needs more outputs at once to hide the latency of multiply-add.
constexpr int kSingleRowOutputs = 8;

typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef float VecU __attribute__((vector_size(kLanes * 4), aligned(4)));
typedef uint32_t Words __attribute__((vector_size(kLanes * 4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef uint16_t Halves __attribute__((vector_size(kLanes * 2), aligned(2)));

inline Vec load(const float* p) { return *reinterpret_cast<const VecU*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<VecU*>(p) = v; }
inline Vec splat(float value) { return Vec{} + value; }

// One rounding where the set has fused multiply-add, as the compiler does it for vectors.
inline float madd(float a, float b, float c) {
#if defined(SIGNPOST_AVX512) || defined(SIGNPOST_AVX2) || defined(SIGNPOST_NEON)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

inline Vec load_weights(const float* p) { return load(p); }
inline Vec load_weights(const uint16_t* p) {
  const Words wide = __builtin_convertvector(*reinterpret_cast<const Halves*>(p), Words);
  return reinterpret_cast<Vec>(wide << 16);
}

inline float weight_at(const float* p) { return *p; }
inline float weight_at(const uint16_t* p) {
  const uint32_t word = static_cast<uint32_t>(*p) << 16;
  float value;
  std::memcpy(&value, &word, 4);
  return value;
}

inline float reduce(Vec v) {
  float lanes[kLanes];
  std::memcpy(lanes, &v, sizeof lanes);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; i++) lanes[i] += lanes[i + width];
  return lanes[0];
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

// ---- base matmul ----

template <int kOutputs, int kRows, typename W>
inline void dense_tile(const DenseJob& job, const W* w, int j, int first) {
  const int whole = job.in / kLanes * kLanes;
  const float* x[kRows];
  int row[kRows];
  for (int r = 0; r < kRows; r++) {
    row[r] = job.rows == nullptr ? first + r : job.rows[first + r];
    x[r] = job.x + static_cast<size_t>(row[r]) * job.x_stride;
  }
  const W* rows[kOutputs];
  for (int o = 0; o < kOutputs; o++) rows[o] = w + static_cast<size_t>(j + o) * job.in;
  Vec sums[kOutputs][kRows] = {};
  for (int i = 0; i < whole; i += kLanes) {
    Vec values[kRows];
    for (int r = 0; r < kRows; r++) values[r] = load(x[r] + i);
    for (int o = 0; o < kOutputs; o++) {
      const Vec weights = load_weights(rows[o] + i);
      for (int r = 0; r < kRows; r++) sums[o][r] += weights * values[r];
    }
  }
  for (int o = 0; o < kOutputs; o++) {
    for (int r = 0; r < kRows; r++) {
      float sum = reduce(sums[o][r]);
      for (int i = whole; i < job.in; i++) sum = madd(weight_at(rows[o] + i), x[r][i], sum);
      float* y = job.y + static_cast<size_t>(row[r]) * job.y_stride + j + o;
      *y = job.weights == nullptr ? sum : madd(job.weights[first + r], sum, *y);
    }
  }
}

template <int kOutputs, typename W>
inline void dense_rows(const DenseJob& job, const W* w, int j) {
  int r = 0;
  for (; r + kTileRows <= job.count; r += kTileRows) dense_tile<kOutputs, kTileRows>(job, w, j, r);
  switch (job.count - r) {
    case 3: dense_tile<kOutputs, 3>(job, w, j, r); break;
    case 2: dense_tile<kOutputs, 2>(job, w, j, r); break;
    case 1: dense_tile<kOutputs, 1>(job, w, j, r); break;
    default: break;
  }
}

template <typename W>
void dense_of(const DenseJob& job, const W* w, int begin, int end) {
  int j = begin;
  if (job.count == 1)
    for (; j + kSingleRowOutputs <= end; j += kSingleRowOutputs) dense_tile<kSingleRowOutputs, 1>(job, w, j, 0);
  for (; j + kTileOutputs <= end; j += kTileOutputs) dense_rows<kTileOutputs>(job, w, j);
  for (; j < end; j++) dense_rows<1>(job, w, j);
}

void dense(const DenseJob& job, int begin, int end) {
  if (job.dtype == Dtype::BF16) dense_of(job, static_cast<const uint16_t*>(job.w), begin, end);
  else dense_of(job, static_cast<const float*>(job.w), begin, end);
}

// ---- 1-bit planes ----

constexpr int kParts = 32 / kLanes; // vectors to a sign word

#if defined(SIGNPOST_AVX512)
// A set bit is a mask bit: one masked add for 16 signs.
inline Vec add_where(Vec sum, uint32_t word, int part, Vec x) {
  return reinterpret_cast<Vec>(_mm512_mask_add_ps(reinterpret_cast<__m512>(sum), static_cast<__mmask16>(word >> (part * 16)),
                                                  reinterpret_cast<__m512>(sum), reinterpret_cast<__m512>(x)));
}
#else
inline Words lane_bits() {
  Words bits;
  for (int l = 0; l < kLanes; l++) bits[l] = 1u << l;
  return bits;
}
inline Vec add_where(Vec sum, uint32_t word, int part, Vec x) {
  const Words bits = lane_bits();
  const Words set = (Words{} + (word >> (part * kLanes))) & bits;
  const Ints mask = set == bits;
  return sum + reinterpret_cast<Vec>(reinterpret_cast<Ints>(x) & mask);
}
#endif

template <int kOutputs, int kRows>
inline void sign_tile(const SignJob& job, int j, int first) {
  const int words = (job.in + 31) / 32;
  const float* x[kRows];
  for (int r = 0; r < kRows; r++) x[r] = job.x + static_cast<size_t>(job.rows[first + r]) * job.x_stride;
  const uint32_t* signs[kOutputs];
  for (int o = 0; o < kOutputs; o++) signs[o] = job.plane->signs + static_cast<size_t>(j + o) * words;
  Vec sums[kOutputs][kRows] = {};
  for (int word = 0; word < words; word++) {
    for (int part = 0; part < kParts; part++) {
      Vec values[kRows];
      for (int r = 0; r < kRows; r++) values[r] = load(x[r] + word * 32 + part * kLanes);
      for (int o = 0; o < kOutputs; o++)
        for (int r = 0; r < kRows; r++) sums[o][r] = add_where(sums[o][r], signs[o][word], part, values[r]);
    }
  }
  for (int o = 0; o < kOutputs; o++) {
    const float scale = job.plane->row_scale[(j + o) * job.plane->row_scale_step];
    for (int r = 0; r < kRows; r++) {
      const int row = job.rows[first + r];
      float* y = job.y + static_cast<size_t>(row) * job.y_stride + j + o;
      const float signed_sum = 2.0f * reduce(sums[o][r]) - job.sums[row];
      *y = madd(job.weights[first + r] * scale, signed_sum, *y);
    }
  }
}

template <int kOutputs>
inline void sign_rows(const SignJob& job, int j) {
  int r = 0;
  for (; r + kTileRows <= job.count; r += kTileRows) sign_tile<kOutputs, kTileRows>(job, j, r);
  switch (job.count - r) {
    case 3: sign_tile<kOutputs, 3>(job, j, r); break;
    case 2: sign_tile<kOutputs, 2>(job, j, r); break;
    case 1: sign_tile<kOutputs, 1>(job, j, r); break;
    default: break;
  }
}

void sign(const SignJob& job, int begin, int end) {
  int j = begin;
  if (job.count == 1)
    for (; j + kSingleRowOutputs <= end; j += kSingleRowOutputs) sign_tile<kSingleRowOutputs, 1>(job, j, 0);
  for (; j + kTileOutputs <= end; j += kTileOutputs) sign_rows<kTileOutputs>(job, j);
  for (; j < end; j++) sign_rows<1>(job, j);
}

// ---- elementwise ----

// exp for x ≤ 88, by Cephes' expf polynomial: relative error below 2e-7; smaller arguments than −87 give 0.
inline Vec vector_exp(Vec x) {
  const Ints tiny = x < splat(-87.0f);
  x = tiny ? splat(0.0f) : x;
  const Vec scaled = x * splat(1.44269504088896341f);
  // Rounds to the nearest integer by adding and taking away 1.5 · 2^23.
  const Vec magic = splat(12582912.0f);
  const Vec n = (scaled + magic) - magic;
  Vec r = x - n * splat(0.693359375f);
  r = r - n * splat(-2.12194440e-4f);
  Vec p = splat(1.9875691500e-4f);
  p = p * r + splat(1.3981999507e-3f);
  p = p * r + splat(8.3334519073e-3f);
  p = p * r + splat(4.1665795894e-2f);
  p = p * r + splat(1.6666665459e-1f);
  p = p * r + splat(5.0000001201e-1f);
  const Vec e = p * r * r + r + splat(1.0f);
  const Ints power = (__builtin_convertvector(n, Ints) + 127) << 23;
  const Vec result = e * reinterpret_cast<Vec>(power);
  return tiny ? splat(0.0f) : result;
}

inline float scalar_exp(float x) { return vector_exp(splat(x))[0]; }

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

float sum_squares(const float* x, int n) {
  Vec total = {};
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) total += load(x + i) * load(x + i);
  float result = reduce(total);
  for (; i < n; i++) result = madd(x[i], x[i], result);
  return result;
}

void scale_by(float* out, const float* x, const float* w, float factor, int n) {
  for (int i = 0; i < n; i++) out[i] = x[i] * factor * w[i];
}

void multiply(float* out, const float* x, const float* w, int n) {
  for (int i = 0; i < n; i++) out[i] = x[i] * w[i];
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

void widen(float* out, const void* data, Dtype dtype, int n) {
  for (int i = 0; i < n; i++) out[i] = value_at(data, dtype, i);
}

void difference(float* out, const void* base, Dtype base_dtype, const void* tuned, Dtype tuned_dtype, int n) {
  if (base_dtype == Dtype::BF16 && tuned_dtype == Dtype::BF16) {
    const uint16_t* b = static_cast<const uint16_t*>(base);
    const uint16_t* t = static_cast<const uint16_t*>(tuned);
    for (int i = 0; i < n; i++) out[i] = weight_at(t + i) - weight_at(b + i);
    return;
  }
  for (int i = 0; i < n; i++) out[i] = value_at(tuned, tuned_dtype, i) - value_at(base, base_dtype, i);
}

// ---- attention ----

inline float dot(const float* a, const float* b, int n) {
  Vec total = {};
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) total += load(a + i) * load(b + i);
  float result = reduce(total);
  for (; i < n; i++) result = madd(a[i], b[i], result);
  return result;
}

inline void add_scaled(float* out, const float* x, float factor, int n) {
  const Vec factors = splat(factor);
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, load(out + i) + factors * load(x + i));
  for (; i < n; i++) out[i] = madd(factor, x[i], out[i]);
}

void attention(const AttentionJob& job, int row, int kv_head, int position, const int* blocks, float* scores) {
  const int group = job.heads / job.kv_heads;
  const int first = job.window > 0 && position + 1 > job.window ? position + 1 - job.window : 0;
  const int count = position + 1 - first;
  const int dim = job.head_dim;
  const float* q = job.q + static_cast<size_t>(row) * job.q_stride + static_cast<size_t>(kv_head) * group * dim;
  float* out = job.out + static_cast<size_t>(row) * job.out_stride + static_cast<size_t>(kv_head) * group * dim;
  const auto at = [&](int t) {
    const size_t block = static_cast<size_t>(blocks[t / job.block_tokens]);
    return ((block * job.kv_heads + kv_head) * job.block_tokens + t % job.block_tokens) * dim;
  };
  for (int t = 0; t < count; t++) {
    const float* key = job.keys + at(first + t);
    for (int h = 0; h < group; h++) scores[h * count + t] = dot(q + h * dim, key, dim) * job.scale;
  }
  for (int h = 0; h < group; h++) {
    float* s = scores + h * count;
    float top = s[0];
    for (int t = 1; t < count; t++) top = s[t] > top ? s[t] : top;
    int t = 0;
    for (; t + kLanes <= count; t += kLanes) store(s + t, vector_exp(load(s + t) - splat(top)));
    for (; t < count; t++) s[t] = scalar_exp(s[t] - top);
    const float inverse = 1.0f / sum(s, count);
    for (t = 0; t < count; t++) s[t] *= inverse;
  }
  for (int i = 0; i < group * dim; i++) out[i] = 0.0f;
  for (int t = 0; t < count; t++) {
    const float* value = job.values + at(first + t);
    for (int h = 0; h < group; h++) add_scaled(out + h * dim, value, scores[h * count + t], dim);
  }
}

} // namespace

extern const KernelTable TABLE;
const KernelTable TABLE = {TABLE_NAME, dense,    sign,     attention, sum,    sum_squares, scale_by,
                           multiply,   add,      swiglu,   rotate,    widen,  difference};

} // namespace signpost
