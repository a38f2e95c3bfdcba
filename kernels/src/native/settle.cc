#include "settle.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <string>
#include <thread>
#include <utility>
#if defined(__linux__)
#include <sys/resource.h>
#endif

namespace signpost {
namespace {

constexpr size_t kPieceBytes = 1024 * 1024;

struct Job {
  Job(Napi::Object owner, std::vector<Unsettled> params, std::shared_ptr<std::atomic<bool>> stop, std::function<void(int, Memory)> take)
      : promise(Napi::Promise::Deferred::New(owner.Env())), kept(Napi::Persistent(owner)), list(std::move(params)), stopped(std::move(stop)), settled(std::move(take)) {}
  Napi::Promise::Deferred promise;
  Napi::ObjectReference kept;
  std::vector<Unsettled> list;
  std::shared_ptr<std::atomic<bool>> stopped;
  std::function<void(int, Memory)> settled;
  double left = 0;
  std::string failure;
};

struct Copy {
  int param;
  Memory memory;
};

// Below everything that computes: on a busy machine it takes what is left over, a few percent of a core at least.
void give_way() {
#if defined(__linux__)
  setpriority(PRIO_PROCESS, 0, 19);
#endif
}

// False when it was stopped.
bool copy(char* to, const Unsettled& from, const std::atomic<bool>& stopped) {
  for (size_t at = 0; at < from.bytes; at += kPieceBytes) {
    if (stopped) return false;
    std::memcpy(to + at, from.file->at(from.offset + at), std::min(kPieceBytes, from.bytes - at));
  }
  return true;
}

void work(Job& job, Napi::ThreadSafeFunction& environment) {
  give_way();
  for (Unsettled& next : job.list) {
    Memory memory;
    try {
      memory = Memory(next.bytes);
    } catch (const std::bad_alloc&) {
      job.left += static_cast<double>(next.bytes);
      continue;
    }
    if (!copy(memory.as<char>(), next, *job.stopped)) return;
    if (!next.file->is_unchanged()) {
      job.failure = next.file->path() + " was written to while it was in use: what is computed from it is no longer what was checked";
      return;
    }
    auto copied = std::make_unique<Copy>(Copy{next.param, std::move(memory)});
    const auto take = [&job](Napi::Env, Napi::Function, Copy* given) {
      const std::unique_ptr<Copy> own(given);
      if (!*job.stopped) job.settled(own->param, std::move(own->memory));
    };
    // Refused only when the environment is gone.
    if (environment.BlockingCall(copied.get(), take) != napi_ok) return;
    copied.release();
    next.file->release(next.offset, next.bytes);
    next.file = nullptr;
  }
}

void finish(Napi::Env env, Job& job) {
  if (!job.failure.empty()) job.promise.Reject(Napi::Error::New(env, job.failure).Value());
  else job.promise.Resolve(Napi::Number::New(env, job.left));
}

} // namespace

Napi::Promise settle_all(Napi::Object owner, std::vector<Unsettled> list, std::shared_ptr<std::atomic<bool>> stopped, std::function<void(int, Memory)> settled) {
  auto job = std::make_unique<Job>(owner, std::move(list), std::move(stopped), std::move(settled));
  const Napi::Promise promise = job->promise.Promise();
  auto environment = Napi::ThreadSafeFunction::New(owner.Env(), Napi::Function(), "signpost-settle", 0, 1);
  std::thread([environment, job = std::move(job)]() mutable {
    work(*job, environment);
    Job* done = job.release();
    environment.BlockingCall(done, [](Napi::Env env, Napi::Function, Job* finished) { finish(env, *std::unique_ptr<Job>(finished)); });
    environment.Release();
  }).detach();
  return promise;
}

} // namespace signpost
