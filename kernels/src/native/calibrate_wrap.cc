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
  const auto moment = view<float>(env, info[0], "moment");
  const auto x = view<float>(env, info[1], "x");
  const auto y = view<float>(env, info[2], "y");
  require(env, moment.length == area(m, n), "the moment doesn't fit m and n");
  const size_t rows = x.length / m;
  require(env, rows * m == x.length && rows * n == y.length && rows <= (1u << 30), "x and y must be the same number of rows, of m and of n");
  add_moment(default_table(env), moment.data, x.data, y.data, static_cast<int>(rows), m, n);
  return env.Undefined();
}

// moment (n, n), n
Napi::Value factor_moment_of(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int n = integer(env, info[1], 1, kMostColumns, "n");
  const auto moment = view<float>(env, info[0], "moment");
  require(env, moment.length == area(n, n), "the moment doesn't fit n");
  return Napi::Number::New(env, factor_moment(default_table(env), moment.data, n));
}

// target (out, n), factor (n, n), scale (out), signs (out, ceil(n / 32)), out, n
Napi::Value choose_signs_of(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  FeedbackJob job = {};
  job.out = integer(env, info[4], 1, 1 << 30, "out");
  job.n = integer(env, info[5], 1, kMostColumns, "n");
  const auto target = view<float>(env, info[0], "target");
  const auto factor = view<float>(env, info[1], "factor");
  const auto scale = view<float>(env, info[2], "scale");
  const auto signs = view<uint32_t>(env, info[3], "signs");
  require(env, target.length == area(job.out, job.n) && factor.length == area(job.n, job.n), "target or factor doesn't fit out and n");
  require(env, scale.length == static_cast<size_t>(job.out) && signs.length == sign_words(job.out, job.n), "scale or signs doesn't fit out and n");
  job.target = target.data;
  job.factor = factor.data;
  job.scale = scale.data;
  job.signs = signs.data;
  choose_signs(default_table(env), job);
  return env.Undefined();
}

// target (out, n), signs (out, ceil(n / 32)), moment (n, n), out, n, signTarget (out), signSign (out)
Napi::Value weighted_products_of(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  ProductsJob job = {};
  job.out = integer(env, info[3], 1, 1 << 30, "out");
  job.n = integer(env, info[4], 1, kMostColumns, "n");
  const auto target = view<float>(env, info[0], "target");
  const auto signs = view<uint32_t>(env, info[1], "signs");
  const auto moment = view<float>(env, info[2], "moment");
  require(env, target.length == area(job.out, job.n) && signs.length == sign_words(job.out, job.n), "target or signs doesn't fit out and n");
  require(env, moment.length == area(job.n, job.n), "the moment doesn't fit n");
  const auto sums = [&](int at, const char* what) {
    const auto values = view<double>(env, info[at], what);
    require(env, values.length == static_cast<size_t>(job.out), std::string(what) + " doesn't fit out");
    return values.data;
  };
  job.target = target.data;
  job.signs = signs.data;
  job.moment = moment.data;
  job.sign_target = sums(5, "signTarget");
  job.sign_sign = sums(6, "signSign");
  weighted_products(default_table(env), job);
  return env.Undefined();
}

// target (out, n), moment (n, n), out, n, targetTarget (out)
Napi::Value weighted_squares_of(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  ProductsJob job = {};
  job.out = integer(env, info[2], 1, 1 << 30, "out");
  job.n = integer(env, info[3], 1, kMostColumns, "n");
  const auto target = view<float>(env, info[0], "target");
  const auto moment = view<float>(env, info[1], "moment");
  const auto squares = view<double>(env, info[4], "squares");
  require(env, target.length == area(job.out, job.n) && moment.length == area(job.n, job.n), "target or moment doesn't fit out and n");
  require(env, squares.length == static_cast<size_t>(job.out), "squares doesn't fit out");
  job.target = target.data;
  job.moment = moment.data;
  job.target_target = squares.data;
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
  const auto target = view<float>(env, info[0], "target");
  const auto signs = view<uint32_t>(env, info[1], "signs");
  const auto scale = view<float>(env, info[2], "scale");
  const auto moment = view<float>(env, info[3], "moment");
  require(env, target.length == area(job.out, job.n) && signs.length == sign_words(job.out, job.n), "target or signs doesn't fit out and n");
  require(env, scale.length == static_cast<size_t>(job.out) && moment.length == area(job.n, job.n), "scale or moment doesn't fit out and n");
  job.target = target.data;
  job.signs = signs.data;
  job.scale = scale.data;
  job.moment = moment.data;
  refine_signs(default_table(env), job);
  return env.Undefined();
}

// target (out, n), weights (out, n), cross (n, n), factor (n, n), drift (out, n) or undefined, out, n
Napi::Value correct_targets_of(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CorrectionJob job = {};
  job.out = integer(env, info[5], 1, 1 << 30, "out");
  job.n = integer(env, info[6], 1, kMostColumns, "n");
  const auto target = view<float>(env, info[0], "target");
  const auto weights = view<float>(env, info[1], "weights");
  const auto cross = view<float>(env, info[2], "cross");
  const auto factor = view<float>(env, info[3], "factor");
  require(env, target.length == area(job.out, job.n) && weights.length == target.length, "target or weights doesn't fit out and n");
  require(env, cross.length == area(job.n, job.n) && factor.length == cross.length, "cross or factor doesn't fit n");
  job.target = target.data;
  job.weights = weights.data;
  job.cross = cross.data;
  job.factor = factor.data;
  if (!info[4].IsUndefined()) {
    const auto drift = view<float>(env, info[4], "drift");
    require(env, drift.length == area(job.out, job.n), "drift doesn't fit out and n");
    job.drift = drift.data;
  }
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
  exports.Set("weightedSquares", Napi::Function::New(env, weighted_squares_of));
}

} // namespace signpost
