// A draw from softmax without its sum: the largest of scores to which Gumbel noise is added (the Gumbel-max trick). Included by kernels.cc alone.
//
// Noise is a function of key, counter and token (Philox4x32-10: Salmon et al. 2011, SC'11), one block for four tokens: who computes it, and in what
// order, makes no difference. engine/src/device/webgpu/shaders/gumbel.wgsl computes the same.
#pragma once
#include <cmath>
#include <cstdint>

#include "kernels.h"

namespace signpost {
namespace {

// Blocks of noise that are computed side by side, and their tokens.
constexpr int kBlocks = 16;
constexpr int kBlockTokens = 4 * kBlocks;

// Of blocks `first` …: words[w][b] is word w of block b.
inline void philox(uint32_t words[4][kBlocks], int first, const GumbelKey& key) {
  for (int b = 0; b < kBlocks; b++) {
    words[0][b] = key.place;
    words[1][b] = key.choice;
    words[2][b] = first + b;
    words[3][b] = 0;
  }
  uint32_t key0 = key.key0;
  uint32_t key1 = key.key1;
  for (int round = 0; round < 10; round++) {
    for (int b = 0; b < kBlocks; b++) {
      const uint64_t high = uint64_t{0xd2511f53} * words[0][b];
      const uint64_t low = uint64_t{0xcd9e8d57} * words[2][b];
      words[0][b] = static_cast<uint32_t>(low >> 32) ^ words[1][b] ^ key0;
      words[2][b] = static_cast<uint32_t>(high >> 32) ^ words[3][b] ^ key1;
      words[1][b] = static_cast<uint32_t>(low);
      words[3][b] = static_cast<uint32_t>(high);
    }
    key0 += 0x9e3779b9;
    key1 += 0xbb67ae85;
  }
}

// −ln(−ln u) with u = 1 − (word + ½) / 2^32: a small word is a large value.
inline double gumbel_of(uint32_t word) { return -std::log(-std::log1p(-(word + 0.5) / 4294967296.0)); }

// No less than gumbel_of: −ln u ≥ 1 − u, whose binary logarithm the leading zeros bound.
inline double gumbel_bound(uint32_t word) { return 0.6931471805599454 * (word == 0 ? 33 : 1 + __builtin_clz(word)); }

constexpr double kMostGumbel = 22.88;

// Index of the largest (x_i − top) / temperature + noise of what is above the cut, or at it and up to index `cut_index`; the first of equals. `best` is one that
// is in, best of all the largest.
int gumbel_argmax(const float* x, int n, int best, double temperature, double cut, int cut_index, const GumbelKey& key) {
  const double top = x[best];
  const auto is_in = [&](int i) { return x[i] > cut || (x[i] == cut && i <= cut_index); };
  const auto score_of = [&](int i) { return (x[i] - top) / temperature; };
  uint32_t words[4][kBlocks];
  philox(words, best / 4, key);
  int chosen = best;
  double highest = gumbel_of(words[best % 4][0]);
  for (int begin = 0; begin < n; begin += kBlockTokens) {
    const int end = n - begin < kBlockTokens ? n : begin + kBlockTokens;
    // Logits that even the most noise leaves behind.
    const double least = top + (highest - kMostGumbel) * temperature;
    bool is_needed = false;
    for (int i = begin; i < end; i++) is_needed |= (x[i] >= cut) & (x[i] >= least);
    if (!is_needed) continue;
    philox(words, begin / 4, key);
    for (int i = begin; i < end; i++) {
      const uint32_t word = words[i % 4][(i - begin) / 4];
      if (!is_in(i) || score_of(i) + gumbel_bound(word) < highest) continue;
      const double score = score_of(i) + gumbel_of(word);
      if (score > highest || (score == highest && i < chosen)) {
        highest = score;
        chosen = i;
      }
    }
  }
  return chosen;
}

} // namespace
} // namespace signpost
