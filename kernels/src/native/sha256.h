// SHA-256 of parts of files, faster than one message at a time allows.
#pragma once
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

namespace signpost {

// Computes several messages at once: the state (8) of each of up to `lanes` after its next `blocks` blocks.
struct Sha256Unit {
  size_t lanes;
  void (*compress)(uint32_t* const* states, const uint8_t* const* data, int count, size_t blocks);
};

// By the SHA extensions of x86; no lanes where this machine has none.
Sha256Unit sha256_extensions();

struct FileRange {
  std::string path;
  uint64_t offset;
  uint64_t bytes;
};

// Lower-case hex digests, by so many threads at most; not all of them once `stopped`. Throws std::runtime_error with the path when one can't be read to its end.
std::vector<std::string> sha256_ranges(const std::vector<FileRange>& ranges, const Sha256Unit& unit, int threads, const std::atomic<bool>& stopped);

} // namespace signpost
