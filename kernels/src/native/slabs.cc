#include "slabs.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <new>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace signpost {
namespace {
constexpr size_t kHugePage = 2 * 1024 * 1024;
constexpr size_t kSlabBytes = 16 * kHugePage;

// Pages that aren't written to cost nothing. Throws std::bad_alloc.
char* new_slab(size_t bytes) {
  void* data = std::aligned_alloc(kHugePage, bytes);
  if (data == nullptr) throw std::bad_alloc();
#if defined(__linux__)
  madvise(data, bytes, MADV_HUGEPAGE);
#endif
  return static_cast<char*>(data);
}
} // namespace

Slabs& Slabs::instance() {
  static Slabs* slabs = new Slabs();
  return *slabs;
}

void* Slabs::take(size_t wanted) {
  const size_t bytes = whole(wanted);
  std::lock_guard<std::mutex> only(mutex_);
  // The smallest that is large enough: an expert's planes go where the last one's were.
  auto best = free_.end();
  for (auto range = free_.begin(); range != free_.end(); ++range)
    if (range->second.bytes >= bytes && (best == free_.end() || range->second.bytes < best->second.bytes)) best = range;
  if (best == free_.end()) {
    const size_t size = (std::max(bytes, kSlabBytes) + kHugePage - 1) / kHugePage * kHugePage;
    char* slab = new_slab(size);
    slabs_.emplace(slab, size);
    best = free_.emplace(slab, Range{size, slab}).first;
  }
  char* data = best->first;
  const Range range = best->second;
  free_.erase(best);
  if (range.bytes > bytes) free_.emplace(data + bytes, Range{range.bytes - bytes, range.slab});
  return data;
}

void Slabs::give(void* data, size_t given) {
  std::lock_guard<std::mutex> only(mutex_);
  char* begin = static_cast<char*>(data);
  const auto after = free_.upper_bound(begin);
  const auto slab = std::prev(slabs_.upper_bound(begin));
  auto range = free_.emplace_hint(after, begin, Range{whole(given), slab->first});
  if (after != free_.end() && after->second.slab == slab->first && begin + range->second.bytes == after->first) {
    range->second.bytes += after->second.bytes;
    free_.erase(after);
  }
  if (range != free_.begin()) {
    const auto before = std::prev(range);
    if (before->second.slab == slab->first && before->first + before->second.bytes == begin) {
      before->second.bytes += range->second.bytes;
      free_.erase(range);
      range = before;
    }
  }
  if (range->second.bytes < slab->second) return;
  std::free(slab->first);
  slabs_.erase(slab);
  free_.erase(range);
}

} // namespace signpost
