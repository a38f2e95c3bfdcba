#include "settle.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "beside.h"

namespace signpost {
namespace {

constexpr size_t kPieceBytes = 1024 * 1024;

struct Copy {
  int param;
  Memory memory;
};

class Settling : public Beside {
public:
  Settling(Napi::Object owner, std::vector<Unsettled> list, std::shared_ptr<std::atomic<bool>> closed, std::function<void(int, Memory)> settled)
      : promise_(Napi::Promise::Deferred::New(owner.Env())), owner_(Napi::Persistent(owner)), list_(std::move(list)), closed_(std::move(closed)), settled_(std::move(settled)) {}
  Napi::Promise promise() const { return promise_.Promise(); }

  void work(const Napi::ThreadSafeFunction& environment) override {
    give_way();
    for (Unsettled& next : list_) {
      Memory memory;
      try {
        memory = Memory(next.bytes);
      } catch (const std::bad_alloc&) {
        left_ += static_cast<double>(next.bytes);
        continue;
      }
      if (!copy(memory.as<char>(), next)) return;
      if (!next.file->is_unchanged()) {
        failure_ = next.file->path() + " was written to while it was in use: what is computed from it is no longer what was checked";
        return;
      }
      auto copied = std::make_unique<Copy>(Copy{next.param, std::move(memory)});
      const auto take = [this](Napi::Env, Napi::Function, Copy* given) {
        const std::unique_ptr<Copy> own(given);
        if (!*closed_) settled_(own->param, std::move(own->memory));
      };
      if (environment.BlockingCall(copied.get(), take) != napi_ok) return;
      copied.release();
      next.file->release(next.offset, next.bytes);
      next.file = nullptr;
    }
  }

  void finish(Napi::Env env) override {
    if (!failure_.empty()) promise_.Reject(Napi::Error::New(env, failure_).Value());
    else promise_.Resolve(Napi::Number::New(env, left_));
  }

private:
  // False when it was stopped.
  bool copy(char* to, const Unsettled& from) const {
    for (size_t at = 0; at < from.bytes; at += kPieceBytes) {
      if (*closed_ || stopped()) return false;
      std::memcpy(to + at, from.file->at(from.offset + at), std::min(kPieceBytes, from.bytes - at));
    }
    return true;
  }

  Napi::Promise::Deferred promise_;
  Napi::ObjectReference owner_;
  std::vector<Unsettled> list_;
  std::shared_ptr<std::atomic<bool>> closed_;
  std::function<void(int, Memory)> settled_;
  double left_ = 0;
  std::string failure_;
};

} // namespace

Napi::Promise settle_all(Napi::Object owner, std::vector<Unsettled> list, std::shared_ptr<std::atomic<bool>> closed, std::function<void(int, Memory)> settled) {
  auto job = std::make_unique<Settling>(owner, std::move(list), std::move(closed), std::move(settled));
  const Napi::Promise promise = job->promise();
  Beside::start(owner.Env(), "signpost-settle", std::move(job));
  return promise;
}

} // namespace signpost
