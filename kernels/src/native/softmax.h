// What softmax weighs a vocabulary's tokens with. Included by kernels.cc alone.
//
// In float64, as JavaScript would: a draw at the edge of two tokens must not depend on how well an exponential was rounded.
#pragma once
#include "kernels.h"
#include "planes.h"

namespace signpost {
namespace {

inline Doubles splat_double(double value) { return value - Doubles{}; }

inline Doubles fma(Doubles a, Doubles b, Doubles c) {
#if defined(SIGNPOST_AVX512)
  return reinterpret_cast<Doubles>(_mm512_fmadd_pd(reinterpret_cast<__m512d>(a), reinterpret_cast<__m512d>(b), reinterpret_cast<__m512d>(c)));
#elif defined(SIGNPOST_AVX2)
  return reinterpret_cast<Doubles>(_mm256_fmadd_pd(reinterpret_cast<__m256d>(a), reinterpret_cast<__m256d>(b), reinterpret_cast<__m256d>(c)));
#else
  return a * b + c;
#endif
}

// exp for x ≤ 0: relative error below 1e-15; arguments below −700 give 0.
inline Doubles vector_exp(Doubles x) {
  const Longs tiny = x < splat_double(-700.0);
  x = tiny ? splat_double(0.0) : x;
  // Rounds to the nearest integer, which then stands in the lowest bits, by adding 1.5 · 2^52.
  const Doubles magic = splat_double(6755399441055744.0);
  const Doubles shifted = fma(x, splat_double(1.4426950408889634), magic);
  const Doubles n = shifted - magic;
  Doubles r = fma(n, splat_double(-6.93147180369123816490e-1), x);
  r = fma(n, splat_double(-1.90821492927058770002e-10), r);
  // Taylor's series, |r| ≤ ln 2 / 2.
  constexpr double kFactors[] = {1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1.0, 1.0};
  Doubles p = splat_double(kFactors[0]);
  for (int k = 1; k < 14; k++) p = fma(p, r, splat_double(kFactors[k]));
  const Doubles power = reinterpret_cast<Doubles>((reinterpret_cast<Longs>(shifted) + 1023) << 52);
  return tiny ? splat_double(0.0) : p * power;
}

// exp((x_i − top) / temperature) of what is above the cut, or at it and up to index `cut_index`; 0 of the rest. Gives the sum: lane l of kSumLanes adds
// elements l, l + kSumLanes …, then the lanes are added by halves. `out` may be null.
double exponentials(double* out, const float* x, int n, double top, double temperature, double cut, int cut_index) {
  Sums sums;
  for (int begin = 0; begin < n; begin += kSumLanes) {
    float padded[kSumLanes];
    double weights[kSumLanes];
    const int count = n - begin < kSumLanes ? n - begin : kSumLanes;
    const float* from = x + begin;
    if (count < kSumLanes) {
      for (int i = 0; i < kSumLanes; i++) padded[i] = i < count ? from[i] : 0.0f;
      from = padded;
    }
    for (int v = 0; v < Sums::kRegisters; v++) {
      const Doubles value = widen_at(from + v * kDoubles);
      Longs index;
      for (int l = 0; l < kDoubles; l++) index[l] = begin + v * kDoubles + l;
      const Longs out_of_it = (value < splat_double(cut)) | ((value == splat_double(cut)) & (index > cut_index)) | (index >= n);
      const Doubles weight = out_of_it ? splat_double(0.0) : vector_exp((value - splat_double(top)) / splat_double(temperature));
      sums.lanes[v] += weight;
      std::memcpy(weights + v * kDoubles, &weight, sizeof weight);
    }
    if (out != nullptr) std::memcpy(out + begin, weights, count * sizeof(double));
  }
  return sums.total();
}

// How far below the top one a token lies, in sixteenths of a temperature, up to so many.
constexpr int kEdgeSteps = 512;
constexpr double kStepsPerTemperature = 16.0;

int gather_edge(int* ids, double* before, const float* x, const double* weights, int n, double top, double temperature, double target) {
  const double scale = kStepsPerTemperature / temperature;
  const auto step_of = [&](int i) {
    const double steps = (top - static_cast<double>(x[i])) * scale;
    return steps < kEdgeSteps - 1 ? static_cast<int>(steps) : kEdgeSteps - 1;
  };
  // Neighbours often lie in one step: two sums of each, so that an addition needn't wait for the one before.
  double sums[2][kEdgeSteps] = {};
  for (int i = 0; i < n; i++)
    if (weights[i] > 0) sums[i % 2][step_of(i)] += weights[i];
  int edge = 0;
  *before = 0;
  while (edge < kEdgeSteps - 1 && *before + (sums[0][edge] + sums[1][edge]) < target) {
    *before += sums[0][edge] + sums[1][edge];
    edge++;
  }
  int count = 0;
  for (int i = 0; i < n; i++) {
    if (weights[i] > 0 && step_of(i) == edge) ids[count++] = i;
  }
  return count;
}

} // namespace
} // namespace signpost
