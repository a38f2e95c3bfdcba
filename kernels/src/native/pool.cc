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

Pool::Pool() {
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

void Pool::run(int count, int grain, Body body, void* context) {
  if (count <= 0) return;
  if (count <= grain || threads() == 1) return body(context, 0, count);
  std::lock_guard<std::mutex> only(callers_);
  count_ = count;
  grain_ = grain;
  body_ = body;
  context_ = context;
  next_.store(0, std::memory_order_relaxed);
  open();
  take_pieces();
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

void Pool::take_pieces() {
  // A fair half of what is left: large pieces at first, small ones at the end, where threads wait for each other.
  const int shares = 2 * threads();
  int begin = next_.load(std::memory_order_relaxed);
  while (begin < count_) {
    const int left = count_ - begin;
    const int wanted = std::max(grain_, left / shares / grain_ * grain_);
    const int piece = std::min(wanted, left);
    if (!next_.compare_exchange_weak(begin, begin + piece, std::memory_order_relaxed)) continue;
    body_(context_, begin, begin + piece);
    begin = next_.load(std::memory_order_relaxed);
  }
}

void Pool::work(int index, uint64_t seen) {
  for (;;) {
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
    if ((inside_.fetch_add(1, std::memory_order_acquire) & kClosed) == 0) take_pieces();
    inside_.fetch_sub(1, std::memory_order_release);
  }
}

} // namespace signpost
