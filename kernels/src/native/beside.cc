#include "beside.h"

#include <thread>
#include <utility>
#if defined(__linux__)
#include <sys/resource.h>
#endif

namespace signpost {
namespace {

struct Running {
  std::unique_ptr<Beside> job;
  Napi::ThreadSafeFunction environment;
  std::thread thread;
};

void end_with_environment(void* data) {
  const std::unique_ptr<Running> running(static_cast<Running*>(data));
  running->job->stop();
  running->thread.join();
}

void finished(Napi::Env env, Napi::Function, Running* done) {
  const std::unique_ptr<Running> running(done);
  napi_remove_env_cleanup_hook(env, end_with_environment, done);
  running->thread.join();
  running->job->finish(env);
}

} // namespace

void Beside::give_way() {
#if defined(__linux__)
  setpriority(PRIO_PROCESS, 0, 19);
#endif
}

void Beside::start(Napi::Env env, const char* name, std::unique_ptr<Beside> job) {
  auto running = std::make_unique<Running>();
  running->job = std::move(job);
  running->environment = Napi::ThreadSafeFunction::New(env, Napi::Function(), name, 0, 1);
  Running* const own = running.get();
  own->thread = std::thread([own] {
    own->job->work(own->environment);
    // A copy: once it is called, `own` may be gone.
    Napi::ThreadSafeFunction environment = own->environment;
    environment.BlockingCall(own, finished);
    environment.Release();
  });
  // `finished` is called in a later turn. Hooks run last first: the function's own, after which nobody may call it, comes after this one.
  napi_add_env_cleanup_hook(env, end_with_environment, running.release());
}

} // namespace signpost
