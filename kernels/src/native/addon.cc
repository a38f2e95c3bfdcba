// The addon: instruction sets, threads, mapped files, sign packing. The device is in device_wrap.cc.
#include <napi.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include "arguments.h"
#include "calibrate_wrap.h"
#include "device_wrap.h"
#include "group_pack.h"
#include "large_memory.h"
#include "mapped_file.h"
#include "merge_wrap.h"
#include "pool.h"
#include "sha256_wrap.h"
#include "sign_pack.h"

namespace signpost {
namespace {

// Instruction sets this machine can run, best first.
std::vector<const KernelTable*> usable_tables() {
  std::vector<const KernelTable*> tables;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (avx512 && __builtin_cpu_supports("avx512vnni")) tables.push_back(&kAvx512Vnni);
  if (avx512) tables.push_back(&kAvx512);
  if (avx2) tables.push_back(&kAvx2);
#elif defined(__aarch64__)
  tables.push_back(&kNeon);
#endif
  tables.push_back(&kPortable);
  return tables;
}

} // namespace

// By name; the best one for an empty name.
const KernelTable& table_named(Napi::Env env, const std::string& wanted) {
  const auto tables = usable_tables();
  if (wanted.empty()) return *tables.front();
  std::string names;
  for (const KernelTable* table : tables) {
    if (wanted == table->name) return *table;
    names += std::string(names.empty() ? "" : ", ") + table->name;
  }
  fail(env, "there is no instruction set \"" + wanted + "\" here; this machine has: " + names);
}

const KernelTable& default_table(Napi::Env env) {
  const char* wanted = std::getenv("SIGNPOST_ISA");
  return table_named(env, wanted == nullptr ? "" : wanted);
}

namespace {

// A multiple of every page size there is.
constexpr double kMapGranule = 65536;
// More than this V8 puts into no array buffer.
constexpr double kMostMappedBytes = 4294967295.0;

// path, offset, length: bytes of a file, mapped read-only, as an ArrayBuffer that unmaps when it is collected.
Napi::Value map_file(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  require(env, info[0].IsString(), "a path is expected");
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  const auto failed = [&](const char* what, int reason) -> Napi::Error {
    Napi::Error error = Napi::Error::New(env, path + " can't be " + what + ": " + std::strerror(reason));
    error.Set("errno", Napi::Number::New(env, -reason)); // negative, as Node's own errors have it
    error.Set("code", Napi::String::New(env, reason == ENOENT ? "ENOENT" : reason == EACCES ? "EACCES" : reason == EISDIR ? "EISDIR" : "EIO"));
    return error;
  };
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) throw failed("opened", errno);
  struct stat status;
  const int unreadable = fstat(file, &status) != 0 ? errno : S_ISDIR(status.st_mode) ? EISDIR : S_ISREG(status.st_mode) ? 0 : ENODEV;
  if (unreadable != 0) {
    close(file);
    throw failed("read as a file", unreadable);
  }
  const double file_size = static_cast<double>(status.st_size);
  const double offset = info[1].IsNumber() ? info[1].As<Napi::Number>().DoubleValue() : -1;
  const double length = info[2].IsNumber() ? info[2].As<Napi::Number>().DoubleValue() : -1;
  if (!(offset >= 0 && length >= 0 && offset + length <= file_size && length <= kMostMappedBytes && std::fmod(offset, kMapGranule) == 0)) {
    close(file);
    fail(env, path + ": a part to map must lie in the file, begin at a multiple of 65536 and have less than 4 GiB");
  }
  const size_t size = static_cast<size_t>(length);
  if (size == 0) {
    close(file);
    return Napi::ArrayBuffer::New(env, 0);
  }
  void* data = mmap(nullptr, size, PROT_READ, MAP_SHARED, file, static_cast<off_t>(offset));
  const int unmapped = errno;
  close(file);
  if (data == MAP_FAILED) throw failed("mapped", unmapped);
  return Napi::ArrayBuffer::New(env, data, size, [size](Napi::Env, void* mapped) { munmap(mapped, size); });
}

// Lets go of the pages of a mapped file that hold the given bytes; they, and what else lies in them, are read again when they are touched.
Napi::Value release_mapped(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto bytes = view<uint8_t>(env, info[0], "data");
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = reinterpret_cast<uintptr_t>(bytes.data) / page * page;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(bytes.data) + bytes.length + page - 1) / page * page;
  if (bytes.length > 0) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
  return env.Undefined();
}

// paths: see read_ahead
Napi::Value read_files_ahead(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  require(env, info[0].IsArray(), "paths must be an array");
  const Napi::Array list = info[0].As<Napi::Array>();
  std::vector<std::string> paths;
  for (uint32_t i = 0; i < list.Length(); i++) {
    const Napi::Value path = list.Get(i);
    require(env, path.IsString(), "a path is expected");
    paths.push_back(path.As<Napi::String>().Utf8Value());
  }
  read_ahead(std::move(paths));
  return env.Undefined();
}

// base, base dtype, tuned, tuned dtype, out, in, per row, signs[], row scales[], absolute (planes, out), squared (planes + 1, out): see SignPackJob
Napi::Value sign_pack_matrix(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  SignPackJob job = {};
  const auto source = [&](int at, const char* what, Dtype& dtype) {
    const auto bytes = view<uint8_t>(env, info[at], what);
    dtype = static_cast<Dtype>(integer(env, info[at + 1], 0, 2, "dtype"));
    const size_t size = dtype == Dtype::F32 ? 4 : 2;
    require(env, bytes.length == static_cast<size_t>(job.out) * job.in * size, std::string(what) + " doesn't fit the shape");
    require(env, reinterpret_cast<uintptr_t>(bytes.data) % size == 0, std::string(what) + " is not aligned to its elements");
    return static_cast<const void*>(bytes.data);
  };
  job.out = integer(env, info[4], 1, 1 << 30, "out");
  job.in = integer(env, info[5], 1, 1 << 30, "in");
  job.base = source(0, "base", job.base_dtype);
  job.tuned = source(2, "tuned", job.tuned_dtype);
  job.per_row = info[6].ToBoolean();
  require(env, info[7].IsArray() && info[8].IsArray(), "signs and row scales must be arrays of typed arrays");
  const Napi::Array sign_arrays = info[7].As<Napi::Array>();
  const Napi::Array scale_arrays = info[8].As<Napi::Array>();
  job.planes = static_cast<int>(sign_arrays.Length());
  require(env, scale_arrays.Length() == sign_arrays.Length(), "signs and scales differ in number");
  std::vector<uint32_t*> signs;
  std::vector<float*> scales;
  for (int p = 0; p < job.planes; p++) {
    signs.push_back(elements<uint32_t>(env, sign_arrays.Get(p), sign_words(job.out, job.in), "signs"));
    scales.push_back(elements<float>(env, scale_arrays.Get(p), job.per_row ? job.out : 1, "row scale"));
  }
  job.signs = signs.data();
  job.row_scales = scales.data();
  job.absolute = elements<double>(env, info[9], area(job.planes, job.out), "absolute");
  job.squared = elements<double>(env, info[10], area(job.planes + 1, job.out), "squared");
  sign_pack(default_table(env), job);
  return env.Undefined();
}

// values (out · groups · 32 or 16), scales (out · groups), format (3 Q8, 4 Q4), data, dtype, in: see GroupPackJob
Napi::Value group_pack_matrix(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  GroupPackJob job = {};
  job.format = static_cast<Dtype>(integer(env, info[2], static_cast<int>(Dtype::Q8), static_cast<int>(Dtype::Q4), "format"));
  const auto bytes = view<uint8_t>(env, info[3], "data");
  job.dtype = static_cast<Dtype>(integer(env, info[4], 0, 2, "dtype"));
  job.in = integer(env, info[5], 1, 1 << 30, "in");
  const size_t size = job.dtype == Dtype::F32 ? 4 : 2;
  const size_t rows = bytes.length / size / job.in;
  require(env, rows * job.in * size == bytes.length && rows < (1u << 30), "data is no whole number of rows");
  require(env, reinterpret_cast<uintptr_t>(bytes.data) % size == 0, "data is not aligned to its elements");
  job.data = bytes.data;
  job.out = static_cast<int>(rows);
  const size_t groups = rows * groups_of(job.in);
  job.values = elements<uint8_t>(env, info[0], groups * kGroupColumns / (job.format == Dtype::Q8 ? 1 : 2), "values");
  job.scales = elements<uint16_t>(env, info[1], groups, "scales");
  group_pack(default_table(env), job);
  return env.Undefined();
}

// logits, top, temperature, cut logit, cut index, weights or undefined: their sum
Napi::Value softmax_weights(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto logits = view<float>(env, info[0], "logits");
  require(env, logits.length < (1u << 30), "there are too many logits");
  double numbers[3];
  for (int i = 0; i < 3; i++) {
    require(env, info[i + 1].IsNumber(), "top, temperature and cut must be numbers");
    numbers[i] = info[i + 1].As<Napi::Number>().DoubleValue();
  }
  const int cut_index = integer(env, info[4], 0, 1 << 30, "cut index");
  double* weights = nullptr;
  if (!info[5].IsUndefined()) {
    const auto out = view<double>(env, info[5], "weights");
    require(env, out.length >= logits.length, "there are fewer weights than logits");
    weights = out.data;
  }
  static const KernelTable& kernels = default_table(env);
  return Napi::Number::New(env, kernels.exponentials(weights, logits.data, static_cast<int>(logits.length), numbers[0], numbers[1], numbers[2], cut_index));
}

// logits, weights, top, temperature, target, ids: count and what is before, as [number, number]
Napi::Value softmax_edge(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto logits = view<float>(env, info[0], "logits");
  const auto weights = view<double>(env, info[1], "weights");
  const auto ids = view<int32_t>(env, info[5], "ids");
  require(env, logits.length < (1u << 30) && weights.length >= logits.length && ids.length >= logits.length, "there are fewer weights or ids than logits");
  double numbers[3];
  for (int i = 0; i < 3; i++) {
    require(env, info[i + 2].IsNumber(), "top, temperature and target must be numbers");
    numbers[i] = info[i + 2].As<Napi::Number>().DoubleValue();
  }
  static const KernelTable& kernels = default_table(env);
  double before = 0;
  const int count = kernels.gather_edge(ids.data, &before, logits.data, weights.data, static_cast<int>(logits.length), numbers[0], numbers[1], numbers[2]);
  Napi::Array result = Napi::Array::New(env, 2);
  result.Set(uint32_t{0}, Napi::Number::New(env, count));
  result.Set(uint32_t{1}, Napi::Number::New(env, before));
  return result;
}

// logits, best, temperature, cut logit, cut index, key (low, high, choice, place): the id drawn
Napi::Value gumbel_argmax(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto logits = view<float>(env, info[0], "logits");
  require(env, logits.length > 0 && logits.length < (1u << 30), "there must be logits, and not too many");
  const int count = static_cast<int>(logits.length);
  const int best = integer(env, info[1], 0, count - 1, "best");
  require(env, info[2].IsNumber() && info[3].IsNumber(), "temperature and cut must be numbers");
  const double temperature = info[2].As<Napi::Number>().DoubleValue();
  const double cut = info[3].As<Napi::Number>().DoubleValue();
  const int cut_index = integer(env, info[4], 0, 1 << 30, "cut index");
  const uint32_t* key = elements<uint32_t>(env, info[5], 4, "key");
  static const KernelTable& kernels = default_table(env);
  return Napi::Number::New(env, kernels.gumbel_argmax(logits.data, count, best, temperature, cut, cut_index, {key[0], key[1], key[2], key[3]}));
}

// The sum of a buffer's 64-bit words, read by all threads.
Napi::Value sum_words(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto bytes = view<uint8_t>(env, info[0], "data");
  require(env, reinterpret_cast<uintptr_t>(bytes.data) % 8 == 0 && bytes.length % 8 == 0, "data is not made of aligned 64-bit words");
  const KernelTable& kernels = default_table(env);
  const uint64_t* words = reinterpret_cast<const uint64_t*>(bytes.data);
  constexpr size_t kPieceWords = 32 * 1024;
  const size_t count = bytes.length / 8;
  std::atomic<uint64_t> total{0};
  Pool::instance().each(static_cast<int>((count + kPieceWords - 1) / kPieceWords), 1, [&](int begin, int end) {
    const size_t from = begin * kPieceWords;
    const size_t to = std::min(count, end * kPieceWords);
    total.fetch_add(kernels.sum_words(words + from, to - from), std::memory_order_relaxed);
  });
  return Napi::BigInt::New(env, total.load());
}

// bytes: an ArrayBuffer of ones in memory as the device's weights have it.
Napi::Value set_threads(const Napi::CallbackInfo& info) {
  Pool::instance().resize(integer(info.Env(), info[0], 1, 256, "threads"));
  return info.Env().Undefined();
}

Napi::Value get_threads(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), Pool::instance().threads()); }

// Names of what this machine can run, the one in use first.
Napi::Value instruction_sets(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Array names = Napi::Array::New(env);
  const KernelTable& used = default_table(env);
  names.Set(uint32_t{0}, Napi::String::New(env, used.name));
  for (const KernelTable* table : usable_tables())
    if (table != &used) names.Set(names.Length(), Napi::String::New(env, table->name));
  return names;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  define_calibration(env, exports);
  define_merge(env, exports);
  define_sha256(env, exports);
  exports.Set("NativeDevice", define_device(env));
  exports.Set("mapFile", Napi::Function::New(env, map_file));
  exports.Set("readAhead", Napi::Function::New(env, read_files_ahead));
  exports.Set("releaseMapped", Napi::Function::New(env, release_mapped));
  exports.Set("groupPack", Napi::Function::New(env, group_pack_matrix));
  exports.Set("signPack", Napi::Function::New(env, sign_pack_matrix));
  exports.Set("softmaxWeights", Napi::Function::New(env, softmax_weights));
  exports.Set("softmaxEdge", Napi::Function::New(env, softmax_edge));
  exports.Set("gumbelArgmax", Napi::Function::New(env, gumbel_argmax));
  exports.Set("sumWords", Napi::Function::New(env, sum_words));
  define_large_memory(env, exports);
  exports.Set("setThreads", Napi::Function::New(env, set_threads));
  exports.Set("threads", Napi::Function::New(env, get_threads));
  exports.Set("instructionSets", Napi::Function::New(env, instruction_sets));
  return exports;
}

} // namespace

NODE_API_MODULE(kernels, init)

} // namespace signpost
