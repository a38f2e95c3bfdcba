#include "pool.h"

#include <algorithm>
#include <cstdlib>
#include <dlfcn.h>
#include <stdexcept>
#include <string>
#include <system_error>
#if defined(__linux__)
#include <sched.h>
#endif

#if defined(__x86_64__)
#include <immintrin.h>
#define RELAX() _mm_pause()
#elif defined(__aarch64__)
#define RELAX() asm volatile("yield")
#else
#define RELAX() ((void)0)
#endif

namespace signpost {
namespace {
// Ops of one step follow each other within microseconds; a worker that sleeps between them wakes too late to help.
constexpr int kSpins = 4000;
constexpr int kMaxThreads = 256;
// What fits any server's second-level cache beside what it holds, and is more than a core fetches in a pause between matrices.
constexpr size_t kMostFetched = 512 * 1024;
constexpr size_t kFetchBytes = 1024;

// An owner takes this share of what is left of its part at a time; the rest may be taken from it meanwhile.
constexpr int kPiecesOfRest = 2;

constexpr uint64_t range(int begin, int end) { return static_cast<uint64_t>(begin) << 32 | static_cast<uint32_t>(end); }
constexpr int begin_of(uint64_t left) { return static_cast<int>(left >> 32); }
constexpr int end_of(uint64_t left) { return static_cast<int>(left & 0xffffffff); }

// Node unloads an addon when the last worker thread that loaded it ends; our threads would be left without code.
void keep_loaded() {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&keep_loaded), &info) != 0) dlopen(info.dli_fname, RTLD_NOW | RTLD_NODELETE);
}
} // namespace

int available_threads() {
  if (const char* text = std::getenv("SIGNPOST_THREADS"); text != nullptr && *text != '\0') {
    char* end = nullptr;
    const long wanted = std::strtol(text, &end, 10);
    if (*end != '\0' || wanted < 1 || wanted > kMaxThreads)
      throw std::invalid_argument("SIGNPOST_THREADS is \"" + std::string(text) + "\"; expected a whole number from 1 to " + std::to_string(kMaxThreads));
    return static_cast<int>(wanted);
  }
  int available = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) available = CPU_COUNT(&allowed);
#endif
  return std::clamp(available, 1, kMaxThreads);
}

Pool& Pool::instance() {
  static Pool* pool = new Pool();
  return *pool;
}

Pool::Pool() : parts_(new Part[kMaxThreads]) {
  const int wanted = available_threads();
  keep_loaded();
  try {
    resize(wanted);
  } catch (const std::system_error&) {
    // Fewer threads than cores still compute; `threads()` says how many.
  }
}

void Pool::resize(int threads) {
  std::lock_guard<std::mutex> only(callers_);
  const size_t wanted = static_cast<size_t>(threads - 1);
  kept_.store(static_cast<int>(wanted));
  if (workers_.size() > wanted) {
    wake_workers();
    while (workers_.size() > wanted) {
      workers_.back().join();
      workers_.pop_back();
    }
  }
  threads_.store(static_cast<int>(workers_.size()) + 1, std::memory_order_relaxed);
  while (workers_.size() < wanted) {
    const int index = static_cast<int>(workers_.size());
    const uint64_t seen = generation_.load();
    workers_.emplace_back([this, index, seen] { work(index, seen); });
    threads_.store(index + 2, std::memory_order_relaxed);
  }
}

size_t Upcoming::bytes() const {
  size_t sum = 0;
  for (const Span& span : spans) sum += span.bytes;
  return sum;
}

Upcoming Upcoming::from(size_t skipped) const {
  Upcoming left = *this;
  for (Span& span : left.spans) {
    const size_t off = std::min(skipped, span.bytes);
    span.data += off;
    span.bytes -= off;
    skipped -= off;
  }
  return left;
}

void Upcoming::keep(size_t most) {
  for (Span& span : spans) {
    span.bytes = std::min(span.bytes, most);
    most -= span.bytes;
  }
}

void Pool::run(int count, int grain, Body body, void* context, const Upcoming* upcoming) {
  if (count <= 0) return;
  if (count <= grain || threads() == 1) return body(context, 0, count);
  std::lock_guard<std::mutex> only(callers_);
  count_ = count;
  grain_ = grain;
  body_ = body;
  context_ = context;
  if (upcoming != nullptr) {
    upcoming_ = *upcoming;
    upcoming_id_++;
  }
  const int units = (count + grain - 1) / grain;
  for (int thread = 0, of = threads(); thread < of; thread++) {
    const auto first = [&](int t) { return static_cast<int>(std::min<int64_t>(count, static_cast<int64_t>(units) * t / of * grain)); };
    parts_[thread].left.store(range(first(thread), first(thread + 1)), std::memory_order_relaxed);
  }
  open();
  take_pieces(0);
  close();
}

void Pool::wake_workers() {
  // In one order with what a worker does before it sleeps: it sees the new generation, or is seen here.
  generation_.fetch_add(1, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) == 0) return;
  { std::lock_guard<std::mutex> lock(sleep_); } // Who is about to sleep does so, or has looked again.
  wake_.notify_all();
}

void Pool::open() {
  inside_.fetch_and(~kClosed, std::memory_order_release);
  wake_workers();
}

void Pool::close() {
  inside_.fetch_or(kClosed, std::memory_order_acquire);
  for (int spins = 0; inside_.load(std::memory_order_acquire) != kClosed; spins++) {
    // With more threads than cores the one waited for may need this core.
    if (spins < kSpins) RELAX();
    else std::this_thread::yield();
  }
}

void Pool::take_pieces(int thread) {
  std::atomic<uint64_t>& own = parts_[thread].left;
  do {
    uint64_t left = own.load(std::memory_order_relaxed);
    while (begin_of(left) < end_of(left)) {
      // Large pieces at first, small ones at the end, where threads wait for each other.
      const int begin = begin_of(left);
      const int rest = end_of(left) - begin;
      const int end = begin + std::min(std::max(grain_, rest / kPiecesOfRest / grain_ * grain_), rest);
      if (!own.compare_exchange_weak(left, range(end, end_of(left)), std::memory_order_relaxed)) continue;
      body_(context_, begin, end);
      left = own.load(std::memory_order_relaxed);
    }
  } while (steal(thread));
}

bool Pool::steal(int thread) {
  for (;;) {
    int from = -1;
    uint64_t most = 0;
    for (int other = 0; other < threads(); other++) {
      const uint64_t left = parts_[other].left.load(std::memory_order_relaxed);
      if (end_of(left) - begin_of(left) <= end_of(most) - begin_of(most)) continue;
      from = other;
      most = left;
    }
    if (from < 0) return false;
    const int begin = begin_of(most);
    const int end = end_of(most);
    const int middle = begin + (end - begin) / 2 / grain_ * grain_;
    if (!parts_[from].left.compare_exchange_weak(most, range(begin, middle), std::memory_order_relaxed)) continue;
    parts_[thread].left.store(range(middle, end), std::memory_order_relaxed);
    return true;
  }
}

void Pool::fetch(Upcoming& upcoming, uint64_t seen) const {
  for (Upcoming::Span& span : upcoming.spans)
    for (; span.bytes > 0; span.data += kFetchBytes, span.bytes -= std::min(span.bytes, kFetchBytes)) {
      if (generation_.load(std::memory_order_relaxed) != seen) return;
      for (size_t at = 0; at < kFetchBytes; at += 64) __builtin_prefetch(span.data + at, 0, 2);
    }
}

void Pool::work(int index, uint64_t seen) {
  const int thread = index + 1;
  Upcoming upcoming;
  uint64_t upcoming_id = 0;
  for (;;) {
    fetch(upcoming, seen);
    int spins = 0;
    while (generation_.load(std::memory_order_acquire) == seen) {
      if (++spins < kSpins) {
        RELAX();
        continue;
      }
      std::unique_lock<std::mutex> lock(sleep_);
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
      wake_.wait(lock, [&] { return generation_.load(std::memory_order_seq_cst) != seen; });
      sleepers_.fetch_sub(1, std::memory_order_relaxed);
    }
    seen = generation_.load(std::memory_order_acquire);
    if (index >= kept_.load()) return;
    // Who comes late may meet a later loop, and helps there.
    if ((inside_.fetch_add(1, std::memory_order_acquire) & kClosed) == 0) {
      take_pieces(thread);
      if (upcoming_id != upcoming_id_) {
        upcoming_id = upcoming_id_;
        const size_t all = upcoming_.bytes();
        upcoming = upcoming_.from(all / threads() * thread);
        upcoming.keep(kMostFetched);
      }
    }
    inside_.fetch_sub(1, std::memory_order_release);
  }
}

} // namespace signpost
