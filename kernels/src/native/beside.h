// Work in a thread beside JavaScript's, which ends before its environment does.
#pragma once
#include <napi.h>

#include <atomic>
#include <memory>

namespace signpost {

class Beside {
public:
  virtual ~Beside() = default;
  // On its own thread. What it posts to `environment` runs on JavaScript's, in turn, unless that is gone by then. Must not throw.
  virtual void work(const Napi::ThreadSafeFunction& environment) = 0;
  // On JavaScript's thread, once the work is done; not when it was stopped because the environment ends.
  virtual void finish(Napi::Env env) = 0;

  void stop() { stopped_ = true; }

  // An environment that ends stops it, and waits for its thread: what the thread uses is the environment's.
  static void start(Napi::Env env, const char* name, std::unique_ptr<Beside> job);

protected:
  // For `work` of which nobody waits: its thread is below everything that computes, and has on a busy machine what is left over, a few percent of a core at least.
  static void give_way();
  const std::atomic<bool>& stopped() const { return stopped_; }

private:
  std::atomic<bool> stopped_{false};
};

} // namespace signpost
