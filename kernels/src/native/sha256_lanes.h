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

#if defined(SIGNPOST_AVX512)

template <int n> inline Words rotated(Words x) { return reinterpret_cast<Words>(_mm512_ror_epi32(reinterpret_cast<__m512i>(x), n)); }
// Any function of three bits in one instruction; its truth table is the constant.
template <int table> inline Words of_three(Words a, Words b, Words c) {
  return reinterpret_cast<Words>(_mm512_ternarylogic_epi32(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b), reinterpret_cast<__m512i>(c), table));
}
inline Words parity(Words a, Words b, Words c) { return of_three<0x96>(a, b, c); }
inline Words choice(Words a, Words b, Words c) { return of_three<0xca>(a, b, c); }
inline Words majority(Words a, Words b, Words c) { return of_three<0xe8>(a, b, c); }

// The big-endian words of a block of each lane, all lanes' first in words[0]: rows are read and transposed, which takes a quarter of a gather's time.
inline void load_words(Words* words, const uint8_t* const* data, size_t at) {
  const __m512i swap = _mm512_broadcast_i32x4(_mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3));
  __m512i fours[16]; // [4 g + c]: columns c, c + 4, c + 8, c + 12 of lanes 4 g … 4 g + 3
#pragma GCC unroll 4
  for (int g = 0; g < 4; g++) {
    const uint8_t* const* own = data + 4 * g;
    const __m512i r0 = _mm512_loadu_si512(own[0] + at), r1 = _mm512_loadu_si512(own[1] + at);
    const __m512i r2 = _mm512_loadu_si512(own[2] + at), r3 = _mm512_loadu_si512(own[3] + at);
    const __m512i low01 = _mm512_unpacklo_epi32(r0, r1), high01 = _mm512_unpackhi_epi32(r0, r1);
    const __m512i low23 = _mm512_unpacklo_epi32(r2, r3), high23 = _mm512_unpackhi_epi32(r2, r3);
    fours[4 * g] = _mm512_unpacklo_epi64(low01, low23);
    fours[4 * g + 1] = _mm512_unpackhi_epi64(low01, low23);
    fours[4 * g + 2] = _mm512_unpacklo_epi64(high01, high23);
    fours[4 * g + 3] = _mm512_unpackhi_epi64(high01, high23);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; c++) {
    const __m512i even0 = _mm512_shuffle_i32x4(fours[c], fours[4 + c], 0x88), odd0 = _mm512_shuffle_i32x4(fours[c], fours[4 + c], 0xdd);
    const __m512i even1 = _mm512_shuffle_i32x4(fours[8 + c], fours[12 + c], 0x88), odd1 = _mm512_shuffle_i32x4(fours[8 + c], fours[12 + c], 0xdd);
    words[c] = reinterpret_cast<Words>(_mm512_shuffle_epi8(_mm512_shuffle_i32x4(even0, even1, 0x88), swap));
    words[4 + c] = reinterpret_cast<Words>(_mm512_shuffle_epi8(_mm512_shuffle_i32x4(odd0, odd1, 0x88), swap));
    words[8 + c] = reinterpret_cast<Words>(_mm512_shuffle_epi8(_mm512_shuffle_i32x4(even0, even1, 0xdd), swap));
    words[12 + c] = reinterpret_cast<Words>(_mm512_shuffle_epi8(_mm512_shuffle_i32x4(odd0, odd1, 0xdd), swap));
  }
}

#else

template <int n> inline Words rotated(Words x) { return (x >> n) | (x << (32 - n)); }
inline Words parity(Words a, Words b, Words c) { return a ^ b ^ c; }
inline Words choice(Words a, Words b, Words c) { return c ^ (a & (b ^ c)); }
inline Words majority(Words a, Words b, Words c) { return (a & b) | (c & (a | b)); }

// The big-endian words of a block of each lane, all lanes' first in words[0]: rows are read and transposed, which takes less than a gather.
inline void load_words(Words* words, const uint8_t* const* data, size_t at) {
  const __m256i swap = _mm256_broadcastsi128_si256(_mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3));
#pragma GCC unroll 2
  for (int half = 0; half < 2; half++) {
    __m256i fours[8]; // [4 g + c]: columns c and c + 4 of lanes 4 g … 4 g + 3
#pragma GCC unroll 2
    for (int g = 0; g < 2; g++) {
      const auto row = [&](int r) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data[4 * g + r] + at + 32 * half)); };
      const __m256i r0 = row(0), r1 = row(1), r2 = row(2), r3 = row(3);
      const __m256i low01 = _mm256_unpacklo_epi32(r0, r1), high01 = _mm256_unpackhi_epi32(r0, r1);
      const __m256i low23 = _mm256_unpacklo_epi32(r2, r3), high23 = _mm256_unpackhi_epi32(r2, r3);
      fours[4 * g] = _mm256_unpacklo_epi64(low01, low23);
      fours[4 * g + 1] = _mm256_unpackhi_epi64(low01, low23);
      fours[4 * g + 2] = _mm256_unpacklo_epi64(high01, high23);
      fours[4 * g + 3] = _mm256_unpackhi_epi64(high01, high23);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
      words[8 * half + c] = reinterpret_cast<Words>(_mm256_shuffle_epi8(_mm256_permute2x128_si256(fours[c], fours[4 + c], 0x20), swap));
      words[8 * half + 4 + c] = reinterpret_cast<Words>(_mm256_shuffle_epi8(_mm256_permute2x128_si256(fours[c], fours[4 + c], 0x31), swap));
    }
  }
}

#endif

// The next `blocks` blocks of `count` messages.
void sha256(uint32_t* const* states, const uint8_t* const* data, int count, size_t blocks) {
  const uint8_t* rows[kLanes];
  Words state[8];
  for (int lane = 0; lane < kLanes; lane++) {
    // Lanes that nobody needs compute what another does.
    const int message = lane < count ? lane : 0;
    rows[lane] = data[message];
    for (int i = 0; i < 8; i++) state[i][lane] = states[message][i];
  }
  for (size_t block = 0; block < blocks; block++) {
    Words a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
    Words words[16];
    load_words(words, rows, 64 * block);
#pragma GCC unroll 64
    for (int round = 0; round < 64; round++) {
      Words& word = words[round % 16];
      if (round >= 16) {
        const Words w1 = words[(round + 1) % 16], w14 = words[(round + 14) % 16];
        word += parity(rotated<7>(w1), rotated<18>(w1), w1 >> 3) + words[(round + 9) % 16] + parity(rotated<17>(w14), rotated<19>(w14), w14 >> 10);
      }
      const Words first = h + parity(rotated<6>(e), rotated<11>(e), rotated<25>(e)) + choice(e, f, g) + word + kShaRounds[round];
      const Words second = parity(rotated<2>(a), rotated<13>(a), rotated<22>(a)) + majority(a, b, c);
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
