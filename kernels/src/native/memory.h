// Memory that begins at a cache line, on huge pages where it is large: fewer of the processor's page look-ups miss.
#pragma once
#include <cstddef>
#include <cstdlib>
#include <new>
#include <utility>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace signpost {

class Memory {
public:
  Memory() = default;
  // Not zeroed. Throws std::bad_alloc.
  explicit Memory(size_t bytes) : bytes_(bytes) {
    constexpr size_t kHugePage = 2 * 1024 * 1024;
    const size_t unit = bytes >= 2 * kHugePage ? kHugePage : 64;
    data_ = std::aligned_alloc(unit, (bytes + unit - 1) / unit * unit);
    if (data_ == nullptr) throw std::bad_alloc();
#if defined(__linux__)
    if (unit == kHugePage) madvise(data_, bytes, MADV_HUGEPAGE);
#endif
  }
  Memory(Memory&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Memory& operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Memory() { std::free(data_); }

  size_t bytes() const { return bytes_; }
  template <typename T> T* as() const { return static_cast<T*>(data_); }

private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

} // namespace signpost
