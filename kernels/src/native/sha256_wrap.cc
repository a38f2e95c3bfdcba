// SHA-256 of files for JavaScript: in a thread of its own, of which nothing is left behind when the process ends.
#include "sha256_wrap.h"

#include <exception>
#include <memory>
#include <thread>
#include <utility>

#include "arguments.h"
#include "pool.h"
#include "sha256.h"

namespace signpost {
namespace {

struct HashJob {
  explicit HashJob(Napi::Env env) : promise(Napi::Promise::Deferred::New(env)) {}
  std::vector<FileRange> ranges;
  Sha256Unit unit{};
  Napi::Promise::Deferred promise;
  std::vector<std::string> digests;
  std::string failure;
};

void settle(Napi::Env env, HashJob& job) {
  if (!job.failure.empty()) return job.promise.Reject(Napi::Error::New(env, job.failure).Value());
  Napi::Array digests = Napi::Array::New(env, job.digests.size());
  for (size_t i = 0; i < job.digests.size(); i++) digests.Set(static_cast<uint32_t>(i), Napi::String::New(env, job.digests[i]));
  job.promise.Resolve(digests);
}

// Of the SHA extensions where there are some and no instruction set is asked for, else of its vectors; without lanes where OpenSSL's code is the better one.
Sha256Unit unit_for(Napi::Env env, const Napi::Value& instruction_set) {
  const Sha256Unit extensions = sha256_extensions();
  if (!instruction_set.IsString() && extensions.lanes > 0) return extensions;
  const KernelTable& table = instruction_set.IsString() ? table_named(env, instruction_set.As<Napi::String>().Utf8Value()) : default_table(env);
  if (table.sha256 == nullptr) return {0, nullptr};
  return {static_cast<size_t>(table.lanes), table.sha256};
}

// paths, offsets, lengths, instruction set (or undefined): a promise of hex digests
Napi::Value sha256_ranges_of(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  require(env, info[0].IsArray(), "paths must be an array");
  const Napi::Array paths = info[0].As<Napi::Array>();
  const double* offsets = elements<double>(env, info[1], paths.Length(), "offsets");
  const double* lengths = elements<double>(env, info[2], paths.Length(), "lengths");
  auto job = std::make_unique<HashJob>(env);
  job->unit = unit_for(env, info[3]);
  require(env, job->unit.lanes > 0, "this instruction set has no SHA-256");
  for (uint32_t i = 0; i < paths.Length(); i++) {
    const Napi::Value path = paths.Get(i);
    require(env, path.IsString(), "a path is expected");
    const double offset = offsets[i];
    const double length = lengths[i];
    require(env, offset >= 0 && length >= 0 && offset + length <= 9007199254740991.0, "offsets and lengths must be whole numbers from 0");
    job->ranges.push_back({path.As<Napi::String>().Utf8Value(), static_cast<uint64_t>(offset), static_cast<uint64_t>(length)});
  }
  const Napi::Promise promise = job->promise.Promise();
  auto done = Napi::ThreadSafeFunction::New(env, Napi::Function(), "signpost-sha256", 0, 1);
  std::thread([done, job = std::move(job)]() mutable {
    try {
      job->digests = sha256_ranges(job->ranges, job->unit, available_threads());
    } catch (const std::exception& error) {
      job->failure = error.what();
    }
    // Refused only when the environment is gone, and with it whoever waited.
    if (done.BlockingCall(job.get(), [](Napi::Env env, Napi::Function, HashJob* finished) { settle(env, *std::unique_ptr<HashJob>(finished)); }) == napi_ok)
      job.release();
    done.Release();
  }).detach();
  return promise;
}

} // namespace

void define_sha256(Napi::Env env, Napi::Object exports) {
  if (unit_for(env, env.Undefined()).lanes > 0) exports.Set("sha256Ranges", Napi::Function::New(env, sha256_ranges_of));
}

} // namespace signpost
