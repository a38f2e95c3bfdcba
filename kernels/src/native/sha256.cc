// SHA-256 (FIPS 180-4) of parts of files, several at a time: a message's rounds wait for each other, and those of others go between them at little cost. With
// the SHA extensions of x86 two messages keep a core busy; without, a vector's lanes do (sha256_lanes.h).
#include "sha256.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <exception>
#include <fcntl.h>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <utility>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

#include "mapped_file.h"

namespace signpost {

namespace {

constexpr size_t kBlockBytes = 64;
constexpr size_t kChunkBytes = 64 * 1024;
// Not a power of two from one stream's buffer to the next: their lines would all have the same place in the first-level cache.
constexpr size_t kBufferBytes = kChunkBytes + 3 * kBlockBytes;

using State = std::array<uint32_t, 8>;
constexpr State kInitial = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

#if defined(__x86_64__)
constexpr size_t kExtensionLanes = 2;
alignas(16) constexpr uint32_t kRounds[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

// The next `blocks` blocks of kCount messages.
template <size_t kCount>
__attribute__((target("sha,avx"))) void compress(uint32_t* const* states, const uint8_t* const* data, size_t blocks) {
  const __m128i big_endian = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
  __m128i abef[kCount];
  __m128i cdgh[kCount];
  for (size_t m = 0; m < kCount; m++) {
    const uint32_t* s = states[m];
    abef[m] = _mm_set_epi32(s[0], s[1], s[4], s[5]);
    cdgh[m] = _mm_set_epi32(s[2], s[3], s[6], s[7]);
  }
  for (size_t block = 0; block < blocks; block++) {
    __m128i abef_before[kCount];
    __m128i cdgh_before[kCount];
    __m128i words[kCount][4];
    for (size_t m = 0; m < kCount; m++) {
      abef_before[m] = abef[m];
      cdgh_before[m] = cdgh[m];
    }
#pragma GCC unroll 16
    for (size_t g = 0; g < 16; g++) {
      const __m128i constants = _mm_load_si128(reinterpret_cast<const __m128i*>(kRounds) + g);
#pragma GCC unroll 2
      for (size_t m = 0; m < kCount; m++) {
        __m128i* w = words[m];
        if (g < 4) {
          w[g] = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(data[m] + block * kBlockBytes) + g), big_endian);
        } else {
          const __m128i seventh = _mm_alignr_epi8(w[(g + 3) % 4], w[(g + 2) % 4], 4);
          w[g % 4] = _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(w[g % 4], w[(g + 1) % 4]), seventh), w[(g + 3) % 4]);
        }
        const __m128i sum = _mm_add_epi32(w[g % 4], constants);
        cdgh[m] = _mm_sha256rnds2_epu32(cdgh[m], abef[m], sum);
        abef[m] = _mm_sha256rnds2_epu32(abef[m], cdgh[m], _mm_shuffle_epi32(sum, 0x0e));
      }
    }
    for (size_t m = 0; m < kCount; m++) {
      abef[m] = _mm_add_epi32(abef[m], abef_before[m]);
      cdgh[m] = _mm_add_epi32(cdgh[m], cdgh_before[m]);
    }
  }
  for (size_t m = 0; m < kCount; m++) {
    alignas(16) uint32_t feba[4];
    alignas(16) uint32_t hgdc[4];
    _mm_store_si128(reinterpret_cast<__m128i*>(feba), abef[m]);
    _mm_store_si128(reinterpret_cast<__m128i*>(hgdc), cdgh[m]);
    const State after = {feba[3], feba[2], hgdc[3], hgdc[2], feba[1], feba[0], hgdc[1], hgdc[0]};
    std::memcpy(states[m], after.data(), sizeof after);
  }
}

void compress_any(uint32_t* const* states, const uint8_t* const* data, int count, size_t blocks) {
  if (count == 1) compress<1>(states, data, blocks);
  else compress<kExtensionLanes>(states, data, blocks);
}
#endif

// One range as it is read and hashed.
class Stream {
public:
  Stream(uint8_t* buffer, uint64_t ahead) : buffer_(buffer), ahead_(ahead) {}
  Stream(Stream&& other) noexcept : buffer_(other.buffer_), ahead_(other.ahead_), file_(std::exchange(other.file_, -1)) {}
  ~Stream() { finish(); }

  bool is_open() const { return file_ >= 0; }
  size_t blocks() const { return (filled_ - used_) / kBlockBytes; }
  const uint8_t* data() const { return buffer_ + used_; }
  uint32_t* state() { return state_.data(); }
  size_t range() const { return range_; }
  void advance(size_t blocks) { used_ += blocks * kBlockBytes; }

  void start(size_t range, const FileRange& part) {
    file_ = open(part.path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file_ < 0) throw std::runtime_error(part.path + " can't be opened: " + std::strerror(errno));
#if defined(POSIX_FADV_RANDOM)
    // What is read ahead is told: the system's own guess, megabytes for each stream, would be what everybody else waits behind.
    posix_fadvise(file_, 0, 0, POSIX_FADV_RANDOM);
#endif
    range_ = range;
    part_ = &part;
    done_ = asked_ = 0;
    filled_ = used_ = 0;
    state_ = kInitial;
  }

  // Reads on where all whole blocks are used up. False when there are no more: `digest` is then due.
  bool fill() {
    if (blocks() > 0) return true;
    if (done_ == part_->bytes) return false;
    used_ = 0;
    ask();
    filled_ = static_cast<size_t>(std::min<uint64_t>(kChunkBytes, part_->bytes - done_));
    for (size_t have = 0; have < filled_;) {
      const ssize_t read = pread(file_, buffer_ + have, filled_ - have, static_cast<off_t>(part_->offset + done_ + have));
      if (read < 0 && errno == EINTR) continue;
      if (read < 0) throw std::runtime_error(part_->path + " can't be read: " + std::strerror(errno));
      if (read == 0) throw std::runtime_error(part_->path + " was cut short while it was read");
      have += static_cast<size_t>(read);
    }
    done_ += filled_;
    return blocks() > 0 || fill();
  }

  std::string digest(const Sha256Unit& unit) {
    // A one bit, zeros, and the length in bits, big-endian: to the end of a block.
    const size_t rest = filled_ - used_;
    uint8_t tail[2 * kBlockBytes] = {};
    std::memcpy(tail, data(), rest);
    tail[rest] = 0x80;
    const size_t size = rest + 9 > kBlockBytes ? 2 * kBlockBytes : kBlockBytes;
    for (int byte = 0; byte < 8; byte++) tail[size - 1 - byte] = static_cast<uint8_t>((part_->bytes * 8) >> (8 * byte));
    const uint8_t* start = tail;
    uint32_t* own = state();
    unit.compress(&own, &start, 1, size / kBlockBytes);
    finish();
    std::string hex;
    for (const uint32_t word : state_)
      for (int shift = 28; shift >= 0; shift -= 4) hex += "0123456789abcdef"[(word >> shift) & 15];
    return hex;
  }

private:
  void finish() {
    if (file_ >= 0) close(file_);
    file_ = -1;
  }

  // Has the system read on, half of what may be under way at a time.
  void ask() {
    const uint64_t until = std::min(part_->bytes, done_ + ahead_);
    if (until == asked_ || (until < part_->bytes && until - asked_ < ahead_ / 2)) return;
    will_need(file_, static_cast<off_t>(part_->offset + asked_), static_cast<off_t>(until - asked_));
    asked_ = until;
  }

  uint8_t* buffer_; // (kChunkBytes)
  uint64_t ahead_;  // bytes of the range that may be under way
  int file_ = -1;
  size_t range_ = 0;
  const FileRange* part_ = nullptr;
  uint64_t done_ = 0;  // bytes of the range that have been read
  uint64_t asked_ = 0; // and that the system was asked for
  size_t filled_ = 0; // bytes in the buffer
  size_t used_ = 0;   // those of them that are hashed
  State state_ = kInitial;
};

// Ranges that threads take one after the other.
struct Queue {
  const std::vector<FileRange>& ranges;
  const Sha256Unit& unit;
  const std::atomic<bool>& stopped;
  std::vector<size_t> order;
  std::atomic<size_t> next{0};
  std::vector<std::string> digests;
  std::mutex failing;
  std::exception_ptr failure;
};

void hash_some(Queue& queue) {
  const Sha256Unit& unit = queue.unit;
  std::vector<uint8_t> buffers(unit.lanes * kBufferBytes);
  std::vector<Stream> streams;
  for (size_t lane = 0; lane < unit.lanes; lane++) streams.emplace_back(buffers.data() + lane * kBufferBytes, static_cast<uint64_t>(kAheadBytes) / unit.lanes);
  std::vector<uint32_t*> states(unit.lanes);
  std::vector<const uint8_t*> data(unit.lanes);
  std::vector<Stream*> ready(unit.lanes);
  for (;;) {
    size_t count = 0;
    size_t blocks = kChunkBytes;
    for (Stream& stream : streams) {
      for (;;) {
        if (!stream.is_open()) {
          const size_t next = queue.next.fetch_add(1);
          if (next >= queue.order.size()) break;
          stream.start(queue.order[next], queue.ranges[queue.order[next]]);
        }
        if (stream.fill()) break;
        queue.digests[stream.range()] = stream.digest(unit);
      }
      if (!stream.is_open()) continue;
      states[count] = stream.state();
      data[count] = stream.data();
      blocks = std::min(blocks, stream.blocks());
      ready[count++] = &stream;
    }
    if (count == 0 || queue.stopped) return;
    unit.compress(states.data(), data.data(), static_cast<int>(count), blocks);
    for (size_t s = 0; s < count; s++) ready[s]->advance(blocks);
  }
}

// Ends all of them when one can't go on.
void hash_or_fail(Queue& queue) {
  try {
    hash_some(queue);
  } catch (...) {
    const std::lock_guard<std::mutex> only(queue.failing);
    if (queue.failure == nullptr) queue.failure = std::current_exception();
    queue.next = queue.order.size();
  }
}

} // namespace

Sha256Unit sha256_extensions() {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__builtin_cpu_supports("avx") && __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & bit_SHA) != 0) return {kExtensionLanes, compress_any};
#endif
  return {0, nullptr};
}

std::vector<std::string> sha256_ranges(const std::vector<FileRange>& ranges, const Sha256Unit& unit, int threads, const std::atomic<bool>& stopped) {
  Queue queue{ranges, unit, stopped, std::vector<size_t>(ranges.size()), {0}, std::vector<std::string>(ranges.size()), {}, nullptr};
  // In their order, since others read the file beside this; but the longest first: one that began last would be hashed alone.
  std::vector<size_t>& order = queue.order;
  std::iota(order.begin(), order.end(), size_t{0});
  const uint64_t total = std::accumulate(ranges.begin(), ranges.end(), uint64_t{0}, [](uint64_t sum, const FileRange& range) { return sum + range.bytes; });
  std::stable_partition(order.begin(), order.end(), [&](size_t i) { return ranges[i].bytes > total / (2 * unit.lanes); });
  // Lanes that have nothing to do cost as much as those that have: no more threads than have all of theirs filled until the longest range is done.
  uint64_t longest = 1;
  for (const FileRange& range : ranges) longest = std::max(longest, range.bytes);
  const size_t useful = std::clamp<size_t>((total / longest + unit.lanes / 2) / unit.lanes, 1, static_cast<size_t>(threads));
  std::vector<std::thread> others;
  try {
    while (others.size() + 1 < useful) others.emplace_back([&queue] { hash_or_fail(queue); });
  } catch (const std::system_error&) {
    // Fewer threads do it, too.
  }
  hash_or_fail(queue);
  for (std::thread& other : others) other.join();
  if (queue.failure != nullptr) std::rethrow_exception(queue.failure);
  return std::move(queue.digests);
}

} // namespace signpost
