// The merge kernels for JavaScript: checks every argument, then calls them.
#include "merge_wrap.h"

#include <vector>

#include "arguments.h"
#include "merge.h"

namespace signpost {
namespace {

constexpr int kMost = 1 << 30;

// out (n), base, base dtype, tuned, tuned dtype
Napi::Value subtract_of(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto out = view<float>(env, info[0], "out");
  require(env, out.length <= kMost, "out is too long");
  const auto source = [&](int at, const char* what, Dtype& dtype) {
    const auto bytes = view<uint8_t>(env, info[at], what);
    dtype = static_cast<Dtype>(integer(env, info[at + 1], 0, 2, "dtype"));
    const size_t size = dtype == Dtype::F32 ? 4 : 2;
    require(env, bytes.length == out.length * size, std::string(what) + " doesn't fit out");
    require(env, reinterpret_cast<uintptr_t>(bytes.data) % size == 0, std::string(what) + " is not aligned to its elements");
    return static_cast<const void*>(bytes.data);
  };
  Dtype base_dtype;
  Dtype tuned_dtype;
  const void* base = source(1, "base", base_dtype);
  const void* tuned = source(3, "tuned", tuned_dtype);
  subtract(default_table(env), out.data, base, base_dtype, tuned, tuned_dtype, static_cast<int>(out.length));
  return env.Undefined();
}

// counts (65536), values (n), upper
Napi::Value count_magnitudes_of(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  uint32_t* counts = elements<uint32_t>(env, info[0], 1 << 16, "counts");
  const auto values = view<float>(env, info[1], "values");
  require(env, values.length <= kMost, "values is too long");
  count_magnitudes(counts, values.data, static_cast<int>(values.length), integer(env, info[2], -1, 0x7fff, "upper"));
  return env.Undefined();
}

// out (n), values [(n)], weights (terms), normalize
Napi::Value elect_and_merge_of(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto out = view<float>(env, info[0], "out");
  require(env, out.length <= kMost, "out is too long");
  const auto weights = view<float>(env, info[2], "weights");
  require(env, info[1].IsArray(), "values must be an array of typed arrays");
  const Napi::Array arrays = info[1].As<Napi::Array>();
  require(env, arrays.Length() == weights.length, "values and weights differ in number");
  std::vector<const float*> values;
  for (uint32_t t = 0; t < arrays.Length(); t++) values.push_back(elements<float>(env, arrays.Get(t), out.length, "values"));
  elect_and_merge({out.data, values.data(), weights.data, static_cast<int>(values.size()), static_cast<int>(out.length), info[3].ToBoolean()});
  return env.Undefined();
}

} // namespace

void define_merge(Napi::Env env, Napi::Object exports) {
  exports.Set("subtract", Napi::Function::New(env, subtract_of));
  exports.Set("countMagnitudes", Napi::Function::New(env, count_magnitudes_of));
  exports.Set("electAndMerge", Napi::Function::New(env, elect_and_merge_of));
}

} // namespace signpost
