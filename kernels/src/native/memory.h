// Memory that begins at a cache line, on huge pages where it is large: fewer of the processor's page look-ups miss.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>

#include "slabs.h"

namespace signpost {

class Memory {
public:
  Memory() = default;
  // Not zeroed. Throws std::bad_alloc.
  explicit Memory(size_t bytes) : bytes_(bytes) {
    if (bytes >= kLarge) {
      data_ = Slabs::instance().take(bytes);
      return;
    }
    data_ = std::aligned_alloc(Slabs::kLine, Slabs::whole(bytes));
    if (data_ == nullptr) throw std::bad_alloc();
  }
  Memory(Memory&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Memory& operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Memory() {
    if (bytes_ >= kLarge) Slabs::instance().give(data_, bytes_);
    else std::free(data_);
  }

  size_t bytes() const { return bytes_; }
  template <typename T> T* as() const { return static_cast<T*>(data_); }

private:
  static constexpr size_t kLarge = 16 * 1024;

  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// Zeros that cost no memory until they are written to; they begin at a cache line. On pages of the usual size: a huge one may take milliseconds to be cleared, and a step
// that begins one in every layer would wait for all of them.
class Zeros {
public:
  // Throws std::bad_alloc.
  explicit Zeros(size_t bytes) : memory_(std::calloc(bytes + Slabs::kLine, 1), std::free) {
    if (memory_ == nullptr) throw std::bad_alloc();
  }

  template <typename T> T* as() const { return reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(memory_.get()) + Slabs::kLine - 1) / Slabs::kLine * Slabs::kLine); }

private:
  std::unique_ptr<void, void (*)(void*)> memory_;
};

} // namespace signpost
