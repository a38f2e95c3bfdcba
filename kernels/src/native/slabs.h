// Large memory, carved from slabs that stand on huge pages: a matrix of a few megabytes alone would have its last part, or all of it, on small ones.
#pragma once
#include <cstddef>
#include <map>
#include <mutex>

namespace signpost {

class Slabs {
public:
  // The process's. Never destroyed: threads may outlive everything else.
  static Slabs& instance();

  // Begins at a cache line, not zeroed. Throws std::bad_alloc.
  void* take(size_t bytes);
  // What `take` gave for so many bytes.
  void give(void* data, size_t bytes);

  static constexpr size_t kLine = 64;
  // In whole lines.
  static size_t whole(size_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

private:
  struct Range {
    size_t bytes;
    char* slab;
  };

  std::mutex mutex_;
  std::map<char*, Range> free_;   // by address; neighbours of one slab are one
  std::map<char*, size_t> slabs_; // bytes
};

} // namespace signpost
