#include "pool.h"

#include <algorithm>
#include <cstdlib>

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
// Pieces for each thread: few enough to be cheap, enough to even out a thread that was interrupted.
constexpr int kPiecesPerThread = 4;

int default_threads() {
  const char* text = std::getenv("SIGNPOST_THREADS");
  const int wanted = text == nullptr ? 0 : std::atoi(text);
  const int available = static_cast<int>(std::thread::hardware_concurrency());
  return std::clamp(wanted > 0 ? wanted : available, 1, 256);
}
} // namespace

Pool& Pool::instance() {
  static Pool* pool = new Pool();
  return *pool;
}

Pool::Pool() : threads_(1) { resize(default_threads()); }

void Pool::resize(int threads) {
  std::lock_guard<std::mutex> only(callers_);
  threads_ = threads;
  while (static_cast<int>(workers_.size()) < threads - 1) {
    const int index = static_cast<int>(workers_.size());
    const uint64_t seen = generation_.load();
    workers_.emplace_back([this, index, seen] { work(index, seen); });
    workers_.back().detach();
  }
}

void Pool::run(int count, int grain, Body body, void* context) {
  if (count <= 0) return;
  std::unique_lock<std::mutex> only(callers_);
  const int pieces = std::min(threads_ * kPiecesPerThread, std::max(1, count / std::max(1, grain)));
  if (threads_ == 1 || pieces == 1) {
    only.unlock();
    body(context, 0, count);
    return;
  }
  count_ = count;
  // A multiple of 8 keeps the kernels' tiles whole.
  piece_ = ((count + pieces - 1) / pieces + 7) / 8 * 8;
  if (piece_ > count) piece_ = count;
  body_ = body;
  context_ = context;
  next_.store(0, std::memory_order_relaxed);
  // Every worker answers, also those that a smaller setting leaves without work: none can be late for the next loop.
  busy_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  {
    std::lock_guard<std::mutex> lock(sleep_);
    generation_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  take_pieces();
  while (busy_.load(std::memory_order_acquire) != 0) RELAX();
}

void Pool::take_pieces() {
  for (;;) {
    const int begin = next_.fetch_add(piece_, std::memory_order_relaxed);
    if (begin >= count_) return;
    body_(context_, begin, std::min(count_, begin + piece_));
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
      wake_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != seen; });
    }
    seen = generation_.load(std::memory_order_acquire);
    if (index < threads_ - 1) take_pieces();
    busy_.fetch_sub(1, std::memory_order_release);
  }
}

} // namespace signpost
