// The calibration kernels for JavaScript: checks every argument, then calls them.
#include "calibrate_wrap.h"

#include "arguments.h"
#include "calibrate.h"

namespace signpost {
namespace {

constexpr int kMostColumns = 1 << 20;

// moment (m, n), x (rows, m), y (rows, n), m, n
Napi::Value add_moment_of(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int m = integer(env, info[3], 1, kMostColumns, "m");
  const int n = integer(env, info[4], 1, kMostColumns, "n");
  double* moment = elements<double>(env, info[0], area(m, n), "moment");
  const auto x = view<float>(env, info[1], "x");
  const size_t rows = x.length / m;
  require(env, rows * m == x.length && rows <= (1u << 30), "x must be rows of m");
  const float* y = elements<float>(env, info[2], rows * n, "y");
  add_moment(default_table(env), moment, x.data, y, static_cast<int>(rows), m, n);
  return env.Undefined();
}

// moment (n, n), n
Napi::Value factor_moment_of(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int n = integer(env, info[1], 1, kMostColumns, "n");
  return Napi::Number::New(env, factor_moment(default_table(env), elements<double>(env, info[0], area(n, n), "moment"), n));
}

// target (out, n), factor (n, n), scale (out), signs (out, ceil(n / 32)), out, n
Napi::Value choose_signs_of(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  FeedbackJob job = {};
  job.out = integer(env, info[4], 1, 1 << 30, "out");
  job.n = integer(env, info[5], 1, kMostColumns, "n");
  job.target = elements<float>(env, info[0], area(job.out, job.n), "target");
  job.factor = elements<double>(env, info[1], area(job.n, job.n), "factor");
  job.scale = elements<float>(env, info[2], static_cast<size_t>(job.out), "scale");
  job.signs = elements<uint32_t>(env, info[3], sign_words(job.out, job.n), "signs");
  choose_signs(default_table(env), job);
  return env.Undefined();
}

// target (out, n), signs (out, ceil(n / 32)), moment (n, n), out, n, signTarget (out), signSign (out), targetTarget (out) or undefined
Napi::Value weighted_products_of(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  ProductsJob job = {};
  job.out = integer(env, info[3], 1, 1 << 30, "out");
  job.n = integer(env, info[4], 1, kMostColumns, "n");
  job.target = elements<float>(env, info[0], area(job.out, job.n), "target");
  job.signs = elements<uint32_t>(env, info[1], sign_words(job.out, job.n), "signs");
  job.moment = elements<double>(env, info[2], area(job.n, job.n), "moment");
  const auto sums = [&](int at, const char* what) { return elements<double>(env, info[at], static_cast<size_t>(job.out), what); };
  job.sign_target = sums(5, "signTarget");
  job.sign_sign = sums(6, "signSign");
  if (!info[7].IsUndefined()) job.target_target = sums(7, "targetTarget");
  weighted_products(default_table(env), job);
  return env.Undefined();
}

// target (out, n), signs (out, ceil(n / 32)), scale (out), moment (n, n), out, n, sweeps
Napi::Value refine_signs_of(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  RefineJob job = {};
  job.out = integer(env, info[4], 1, 1 << 30, "out");
  job.n = integer(env, info[5], 1, kMostColumns, "n");
  job.sweeps = integer(env, info[6], 0, 1 << 20, "sweeps");
  job.target = elements<float>(env, info[0], area(job.out, job.n), "target");
  job.signs = elements<uint32_t>(env, info[1], sign_words(job.out, job.n), "signs");
  job.scale = elements<float>(env, info[2], static_cast<size_t>(job.out), "scale");
  job.moment = elements<double>(env, info[3], area(job.n, job.n), "moment");
  refine_signs(default_table(env), job);
  return env.Undefined();
}

// target (out, n), weights (out, n), cross (n, n), factor (n, n), drift (out, n) or undefined, out, n
Napi::Value correct_targets_of(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CorrectionJob job = {};
  job.out = integer(env, info[5], 1, 1 << 30, "out");
  job.n = integer(env, info[6], 1, kMostColumns, "n");
  job.target = elements<float>(env, info[0], area(job.out, job.n), "target");
  job.weights = elements<float>(env, info[1], area(job.out, job.n), "weights");
  job.cross = elements<double>(env, info[2], area(job.n, job.n), "cross");
  job.factor = elements<double>(env, info[3], area(job.n, job.n), "factor");
  if (!info[4].IsUndefined()) job.drift = elements<double>(env, info[4], area(job.out, job.n), "drift");
  correct_targets(default_table(env), job);
  return env.Undefined();
}

} // namespace

void define_calibration(Napi::Env env, Napi::Object exports) {
  exports.Set("addMoment", Napi::Function::New(env, add_moment_of));
  exports.Set("factorMoment", Napi::Function::New(env, factor_moment_of));
  exports.Set("chooseSigns", Napi::Function::New(env, choose_signs_of));
  exports.Set("refineSigns", Napi::Function::New(env, refine_signs_of));
  exports.Set("correctTargets", Napi::Function::New(env, correct_targets_of));
  exports.Set("weightedProducts", Napi::Function::New(env, weighted_products_of));
}

} // namespace signpost
