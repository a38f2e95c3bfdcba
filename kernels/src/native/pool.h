// A pool of threads that share one loop at a time.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace signpost {

// SIGNPOST_THREADS, else the cores this process may run on. Throws std::invalid_argument when that is not a number of threads.
int available_threads();

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
  template <typename F> void each(int count, int grain, F&& body) {
    run(count, grain, [](void* context, int begin, int end) { (*static_cast<F*>(context))(begin, end); }, &body);
  }

private:
  static constexpr int kClosed = 1 << 30;

  Pool();
  void run(int count, int grain, Body body, void* context);
  void work(int index, uint64_t seen);
  void take_pieces();
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
  alignas(64) std::atomic<int> next_{0};
  // Workers in the loop under way, and `kClosed` where none may enter. The caller waits for those inside alone: a worker that the system gives no
  // core misses the loop instead of holding it up.
  alignas(64) std::atomic<int> inside_{kClosed};
  std::atomic<int> kept_{0}; // workers that stay
  // Of the loop under way; written while nobody is inside.
  alignas(64) int count_ = 0;
  int grain_ = 1;
  Body body_ = nullptr;
  void* context_ = nullptr;
};

} // namespace signpost
