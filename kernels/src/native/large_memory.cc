#include "large_memory.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "arguments.h"
#include "beside.h"
#include "memory.h"

namespace signpost {
namespace {

constexpr size_t kPageBytes = 4096;
constexpr size_t kPieceBytes = 1024 * 1024;

size_t size_of(Napi::Env env, const Napi::Value& value) {
  constexpr double kMostBytes = 1ull << 46;
  const double bytes = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : 0;
  require(env, bytes >= 1 && bytes <= kMostBytes && bytes == std::floor(bytes), "bytes must be a whole number from 1 to 64 TiB");
  return static_cast<size_t>(bytes);
}

std::unique_ptr<Memory> memory_of(Napi::Env env, size_t bytes) {
  try {
    return std::make_unique<Memory>(bytes);
  } catch (const std::bad_alloc&) {
    fail(env, "there is no memory for " + std::to_string(bytes) + " bytes");
  }
}

Napi::ArrayBuffer buffer_of(Napi::Env env, std::unique_ptr<Memory> memory) {
  char* data = memory->as<char>();
  const size_t bytes = memory->bytes();
  return Napi::ArrayBuffer::New(env, data, bytes, [owned = memory.release()](Napi::Env, void*) { delete owned; });
}

class Clearing : public Beside {
public:
  Clearing(Napi::Env env, std::unique_ptr<Memory> memory) : promise_(Napi::Promise::Deferred::New(env)), memory_(std::move(memory)) {}
  Napi::Promise promise() const { return promise_.Promise(); }

  void work(const Napi::ThreadSafeFunction&) override {
    give_way();
    char* data = memory_->as<char>();
    for (size_t piece = 0; piece < memory_->bytes() && !stopped(); piece += kPieceBytes)
      for (size_t at = piece; at < std::min(piece + kPieceBytes, memory_->bytes()); at += kPageBytes) data[at] = 0;
  }

  void finish(Napi::Env env) override { promise_.Resolve(buffer_of(env, std::move(memory_))); }

private:
  Napi::Promise::Deferred promise_;
  std::unique_ptr<Memory> memory_;
};

// bytes: an ArrayBuffer
Napi::Value large_memory(const Napi::CallbackInfo& info) { return buffer_of(info.Env(), memory_of(info.Env(), size_of(info.Env(), info[0]))); }

// bytes: a promise of an ArrayBuffer
Napi::Value cleared_memory(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto job = std::make_unique<Clearing>(env, memory_of(env, size_of(env, info[0])));
  const Napi::Promise promise = job->promise();
  Beside::start(env, "signpost-memory", std::move(job));
  return promise;
}

} // namespace

void define_large_memory(Napi::Env env, Napi::Object exports) {
  exports.Set("largeMemory", Napi::Function::New(env, large_memory));
  exports.Set("clearedMemory", Napi::Function::New(env, cleared_memory));
}

} // namespace signpost
