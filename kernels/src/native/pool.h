// A pool of threads that share one loop at a time.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace signpost {

class Pool {
public:
  using Body = void (*)(void* context, int begin, int end);

  // The process's pool. Never destroyed: its threads sleep in it when the process ends.
  static Pool& instance();

  int threads() const { return threads_; }
  // Threads that take part from the next loop on, the caller included.
  void resize(int threads);

  // Runs body over 0 … count in pieces of about `grain` or more; returns when all are done. One loop at a time, callers queue.
  void run(int count, int grain, Body body, void* context);

  template <typename F> void each(int count, int grain, F&& body) {
    run(count, grain, [](void* context, int begin, int end) { (*static_cast<F*>(context))(begin, end); }, &body);
  }

private:
  Pool();
  void work(int index, uint64_t seen);
  void take_pieces();

  std::mutex callers_;
  std::mutex sleep_;
  std::condition_variable wake_;
  std::vector<std::thread> workers_;
  int threads_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<int> next_{0};
  std::atomic<int> busy_{0};
  int count_ = 0;
  int piece_ = 1;
  Body body_ = nullptr;
  void* context_ = nullptr;
};

} // namespace signpost
