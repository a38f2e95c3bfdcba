// SHA-256 of parts of files, faster than one message at a time allows.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace signpost {

// Whether this machine has instructions for it; without them OpenSSL's code is the better one.
bool has_sha256_instructions();

struct FileRange {
  std::string path;
  uint64_t offset;
  uint64_t bytes;
};

// Lower-case hex digests. Throws std::runtime_error with the path when one can't be read to its end.
std::vector<std::string> sha256_ranges(const std::vector<FileRange>& ranges);

} // namespace signpost
