// A pool of threads that share one loop at a time.
#pragma once
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace signpost {

// SIGNPOST_THREADS, else the cores this process may run on. Throws std::invalid_argument when that is not a number of threads.
int available_threads();

// Memory that the next loop's body reads in order, evenly over its count: threads that are done with this loop fetch the beginnings of their parts of it.
// It need not exist any more: nothing but the cache is touched.
struct Upcoming {
  struct Span {
    const char* data = nullptr;
    size_t bytes = 0;
  };
  static constexpr int kMostSpans = 4;
  std::array<Span, kMostSpans> spans;

  // What is left when so many bytes of the beginning are taken off.
  Upcoming from(size_t skipped) const;
  // Leaves the first so many.
  void keep(size_t most);
  size_t bytes() const;
};

class Pool {
public:
  // Does begin … end of a loop. Runs on any thread; must not throw.
  using Body = void (*)(void* context, int begin, int end);

  // The process's pool. Never destroyed, and its code never unloaded: its threads sleep in it when the process, or the Node worker that
  // loaded the addon, ends.
  // Throws std::invalid_argument when SIGNPOST_THREADS is not a number of threads.
  static Pool& instance();

  int threads() const { return threads_.load(std::memory_order_relaxed); }
  // Threads that take part from the next loop on, the caller included. Throws std::system_error when the system gives no more.
  void resize(int threads);

  // Runs body over 0 … count in pieces that are multiples of `grain`; returns when all are done. One loop at a time, callers queue.
  template <typename F> void each(int count, int grain, F&& body, const Upcoming* upcoming = nullptr) {
    run(count, grain, [](void* context, int begin, int end) { (*static_cast<F*>(context))(begin, end); }, &body, upcoming);
  }

private:
  static constexpr int kClosed = 1 << 30;

  Pool();
  void run(int count, int grain, Body body, void* context, const Upcoming* upcoming);
  void work(int index, uint64_t seen);
  void take_pieces(int thread);
  // Until all of it is fetched or the next loop begins.
  void fetch(Upcoming& upcoming, uint64_t seen) const;
  bool steal(int thread);
  void wake_workers();
  void open();
  void close();

  std::mutex callers_;
  std::mutex sleep_;
  std::condition_variable wake_;
  std::vector<std::thread> workers_;
  std::atomic<int> threads_{1};
  std::atomic<int> sleepers_{0}; // workers in `wake_`, or about to be
  // A line each: they are written from all sides.
  alignas(64) std::atomic<uint64_t> generation_{0};
  // What is left of each thread's part of the loop: the first in the upper half, the end in the lower. A part is contiguous, so that what is fetched ahead
  // of its use is used by who fetched it.
  struct alignas(64) Part {
    std::atomic<uint64_t> left{0};
  };
  std::unique_ptr<Part[]> parts_;
  // Workers in the loop under way, and `kClosed` where none may enter. The caller waits for those inside alone: a worker that the system gives no
  // core misses the loop instead of holding it up.
  alignas(64) std::atomic<int> inside_{kClosed};
  std::atomic<int> kept_{0}; // workers that stay
  // Of the loop under way; written while nobody is inside.
  alignas(64) int count_ = 0;
  int grain_ = 1;
  Body body_ = nullptr;
  void* context_ = nullptr;
  Upcoming upcoming_;
  uint64_t upcoming_id_ = 0;
};

} // namespace signpost
