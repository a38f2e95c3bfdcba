// SHA-256 of files for JavaScript: in a thread of its own, of which nothing is left behind when the process ends.
#include "sha256_wrap.h"

#include <algorithm>
#include <exception>
#include <memory>
#include <utility>

#include "arguments.h"
#include "beside.h"
#include "pool.h"
#include "sha256.h"

namespace signpost {
namespace {

class Hashing : public Beside {
public:
  Hashing(Napi::Env env, const Sha256Unit& unit, std::vector<FileRange> ranges, int threads) : promise_(Napi::Promise::Deferred::New(env)), unit_(unit), ranges_(std::move(ranges)), threads_(threads) {}
  Napi::Promise promise() const { return promise_.Promise(); }

  void work(const Napi::ThreadSafeFunction&) override {
    try {
      digests_ = sha256_ranges(ranges_, unit_, threads_, stopped());
    } catch (const std::exception& error) {
      failure_ = error.what();
    }
  }

  void finish(Napi::Env env) override {
    if (!failure_.empty()) return promise_.Reject(Napi::Error::New(env, failure_).Value());
    Napi::Array digests = Napi::Array::New(env, digests_.size());
    for (size_t i = 0; i < digests_.size(); i++) digests.Set(static_cast<uint32_t>(i), Napi::String::New(env, digests_[i]));
    promise_.Resolve(digests);
  }

private:
  Napi::Promise::Deferred promise_;
  Sha256Unit unit_;
  std::vector<FileRange> ranges_;
  int threads_;
  std::vector<std::string> digests_;
  std::string failure_;
};

// Of the SHA extensions where there are some and no instruction set is asked for, else of its vectors; without lanes where OpenSSL's code is the better one.
Sha256Unit unit_for(Napi::Env env, const Napi::Value& instruction_set) {
  const Sha256Unit extensions = sha256_extensions();
  if (!instruction_set.IsString() && extensions.lanes > 0) return extensions;
  const KernelTable& table = instruction_set.IsString() ? table_named(env, instruction_set.As<Napi::String>().Utf8Value()) : default_table(env);
  if (table.sha256 == nullptr) return {0, nullptr};
  return {static_cast<size_t>(table.lanes), table.sha256};
}

// paths, offsets, lengths, cores to leave to others, instruction set (or undefined): a promise of hex digests
Napi::Value sha256_ranges_of(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  require(env, info[0].IsArray(), "paths must be an array");
  const Napi::Array paths = info[0].As<Napi::Array>();
  const double* offsets = elements<double>(env, info[1], paths.Length(), "offsets");
  const double* lengths = elements<double>(env, info[2], paths.Length(), "lengths");
  const int left = integer(env, info[3], 0, 1 << 16, "cores");
  const Sha256Unit unit = unit_for(env, info[4]);
  require(env, unit.lanes > 0, "this instruction set has no SHA-256");
  std::vector<FileRange> ranges;
  for (uint32_t i = 0; i < paths.Length(); i++) {
    const Napi::Value path = paths.Get(i);
    require(env, path.IsString(), "a path is expected");
    const double offset = offsets[i];
    const double length = lengths[i];
    require(env, offset >= 0 && length >= 0 && offset + length <= 9007199254740991.0, "offsets and lengths must be whole numbers from 0");
    ranges.push_back({path.As<Napi::String>().Utf8Value(), static_cast<uint64_t>(offset), static_cast<uint64_t>(length)});
  }
  auto job = std::make_unique<Hashing>(env, unit, std::move(ranges), std::max(1, available_threads() - left));
  const Napi::Promise promise = job->promise();
  Beside::start(env, "signpost-sha256", std::move(job));
  return promise;
}

} // namespace

void define_sha256(Napi::Env env, Napi::Object exports) {
  if (unit_for(env, env.Undefined()).lanes > 0) exports.Set("sha256Ranges", Napi::Function::New(env, sha256_ranges_of));
}

} // namespace signpost
