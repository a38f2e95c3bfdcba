// SHA-256 (FIPS 180-4) of as many messages as a vector has lanes, a lane each: one message's rounds wait for each other, those of different ones don't.
// For machines without the SHA extensions. Included by kernels.cc alone.
#pragma once
#include "simd.h"

namespace signpost {
namespace {

#if defined(SIGNPOST_AVX512) || defined(SIGNPOST_AVX2)

alignas(64) constexpr uint32_t kShaRounds[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

template <int n> inline Words rotated(Words x) { return (x >> n) | (x << (32 - n)); }

// A big-endian word at base + offset of each lane.
inline Words gather_words(const uint8_t* base, Words offsets) {
#if defined(SIGNPOST_AVX512)
  const __m512i swap = _mm512_broadcast_i32x4(_mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3));
  return reinterpret_cast<Words>(_mm512_shuffle_epi8(_mm512_i32gather_epi32(reinterpret_cast<__m512i>(offsets), base, 1), swap));
#else
  const __m256i swap = _mm256_broadcastsi128_si256(_mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3));
  return reinterpret_cast<Words>(
      _mm256_shuffle_epi8(_mm256_i32gather_epi32(reinterpret_cast<const int*>(base), reinterpret_cast<__m256i>(offsets), 1), swap));
#endif
}

// The next `blocks` blocks of `count` messages. Their data may be 2 GiB apart at most.
void sha256(uint32_t* const* states, const uint8_t* const* data, int count, size_t blocks) {
  Words offsets;
  Words state[8];
  for (int lane = 0; lane < kLanes; lane++) {
    // Lanes that nobody needs compute what another does.
    const int message = lane < count ? lane : 0;
    offsets[lane] = static_cast<uint32_t>(data[message] - data[0]);
    for (int i = 0; i < 8; i++) state[i][lane] = states[message][i];
  }
  for (size_t block = 0; block < blocks; block++) {
    const uint8_t* at = data[0] + 64 * block;
    Words a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
    Words words[16];
#pragma GCC unroll 64
    for (int round = 0; round < 64; round++) {
      Words& word = words[round % 16];
      if (round < 16) {
        word = gather_words(at + 4 * round, offsets);
      } else {
        const Words w1 = words[(round + 1) % 16], w14 = words[(round + 14) % 16];
        word += (rotated<7>(w1) ^ rotated<18>(w1) ^ (w1 >> 3)) + words[(round + 9) % 16] + (rotated<17>(w14) ^ rotated<19>(w14) ^ (w14 >> 10));
      }
      const Words first = h + (rotated<6>(e) ^ rotated<11>(e) ^ rotated<25>(e)) + (g ^ (e & (f ^ g))) + word + kShaRounds[round];
      const Words second = (rotated<2>(a) ^ rotated<13>(a) ^ rotated<22>(a)) + ((a & b) | (c & (a | b)));
      h = g;
      g = f;
      f = e;
      e = d + first;
      d = c;
      c = b;
      b = a;
      a = first + second;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
    state[5] += f;
    state[6] += g;
    state[7] += h;
  }
  for (int lane = 0; lane < count; lane++)
    for (int i = 0; i < 8; i++) states[lane][i] = state[i][lane];
}

#else

// OpenSSL's code is the better one.
constexpr decltype(KernelTable::sha256) sha256 = nullptr;

#endif

} // namespace
} // namespace signpost
