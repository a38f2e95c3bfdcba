// The face to JavaScript: checks every argument, then calls the device or the packer. Errors are thrown with what was wrong.
#include <napi.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <limits>
#include <memory>
#include <string>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device.h"
#include "pool.h"
#include "sign_pack.h"

namespace signpost {
namespace {

[[noreturn]] void fail(Napi::Env env, const std::string& message) { throw Napi::RangeError::New(env, message); }

void require(Napi::Env env, bool condition, const std::string& message) {
  if (!condition) fail(env, message);
}

int integer(Napi::Env env, Napi::Value value, int low, int high, const char* what) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1e300;
  require(env, number >= low && number <= high && number == static_cast<int>(number),
          std::string(what) + " must be an integer from " + std::to_string(low) + " to " + std::to_string(high));
  return static_cast<int>(number);
}

template <typename T> struct View {
  T* data;
  size_t length;
};

template <typename T> constexpr napi_typedarray_type type_of();
template <> constexpr napi_typedarray_type type_of<float>() { return napi_float32_array; }
template <> constexpr napi_typedarray_type type_of<int32_t>() { return napi_int32_array; }
template <> constexpr napi_typedarray_type type_of<uint32_t>() { return napi_uint32_array; }
template <> constexpr napi_typedarray_type type_of<uint16_t>() { return napi_uint16_array; }
template <> constexpr napi_typedarray_type type_of<uint8_t>() { return napi_uint8_array; }

template <typename T> View<T> view(Napi::Env env, napi_value value, const char* what) {
  bool is_array = false;
  napi_is_typedarray(env, value, &is_array);
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  if (is_array) napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr);
  require(env, is_array && type == type_of<T>(), std::string(what) + " is not the typed array expected");
  return {static_cast<T*>(data), length};
}

// Instruction sets this machine can run, best first.
std::vector<const KernelTable*> usable_tables() {
  std::vector<const KernelTable*> tables;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
    tables.push_back(&kAvx512);
  if (avx2) tables.push_back(&kAvx2);
#elif defined(__aarch64__)
  tables.push_back(&kNeon);
#endif
  tables.push_back(&kPortable);
  return tables;
}

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

// The one in use: SIGNPOST_ISA, else the best.
const KernelTable& detect(Napi::Env env) {
  const char* wanted = std::getenv("SIGNPOST_ISA");
  return table_named(env, wanted == nullptr ? "" : wanted);
}

class DeviceWrap : public Napi::ObjectWrap<DeviceWrap> {
public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "NativeDevice",
                       {InstanceMethod<&DeviceWrap::load_param>("loadParam"), InstanceMethod<&DeviceWrap::add_plane>("addPlane"),
                        InstanceMethod<&DeviceWrap::set_exact>("setExact"), InstanceMethod<&DeviceWrap::clear_param>("clearParam"),
                        InstanceMethod<&DeviceWrap::begin>("begin"), InstanceMethod<&DeviceWrap::embed>("embed"),
                        InstanceMethod<&DeviceWrap::rms_norm>("rmsNorm"), InstanceMethod<&DeviceWrap::linear>("linear"),
                        InstanceMethod<&DeviceWrap::rope>("rope"), InstanceMethod<&DeviceWrap::store_kv>("storeKv"),
                        InstanceMethod<&DeviceWrap::attention>("attention"), InstanceMethod<&DeviceWrap::swiglu>("swiglu"),
                        InstanceMethod<&DeviceWrap::add>("add"), InstanceMethod<&DeviceWrap::gather>("gather")});
  }

  // shapes (params, 2) with 0 for a vector's second; slots; kv (5); instruction set or undefined
  explicit DeviceWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<DeviceWrap>(info) {
    const Napi::Env env = info.Env();
    const auto shapes = view<int32_t>(env, info[0], "shapes");
    const int slots = integer(env, info[1], 0, 1 << 16, "slots");
    const auto sizes = view<int32_t>(env, info[2], "kv");
    require(env, shapes.length % 2 == 0 && sizes.length == 5, "shapes are pairs, kv is five sizes");
    std::vector<Param> params(shapes.length / 2);
    for (size_t p = 0; p < params.size(); p++) {
      params[p].out = shapes.data[2 * p];
      params[p].in = shapes.data[2 * p + 1];
      require(env, params[p].out > 0 && params[p].in >= 0, "a parameter's shape must be positive");
    }
    for (int i = 0; i < 5; i++) require(env, sizes.data[i] > 0, "kv sizes must be positive");
    const KvShape kv = {sizes.data[0], sizes.data[1], sizes.data[2], sizes.data[3], sizes.data[4]};
    require(env, kv.head_dim % 2 == 0, "head size must be even");
    const KernelTable& table = info[3].IsUndefined() ? detect(env) : table_named(env, info[3].As<Napi::String>().Utf8Value());
    device_ = std::make_unique<Device>(table, std::move(params), slots, kv);
  }

private:
  Param& param_at(Napi::Env env, Napi::Value value) {
    return device_->params[integer(env, value, 0, static_cast<int>(device_->params.size()) - 1, "param")];
  }
  int index_of(const Param& param) const { return static_cast<int>(&param - device_->params.data()); }
  const Param& loaded(Napi::Env env, Napi::Value value) {
    const Param& param = param_at(env, value);
    require(env, param.data != nullptr, "parameter " + std::to_string(index_of(param)) + " is not loaded");
    return param;
  }
  Delta& delta_at(Napi::Env env, Napi::Value slot, Napi::Value param) {
    const int s = integer(env, slot, 0, static_cast<int>(device_->slots.size()) - 1, "slot");
    return device_->slots[s][index_of(param_at(env, param))];
  }
  // A matrix is (data, cols): Float32Array with rows of `stride` = cols rounded up to 32.
  Matrix matrix(Napi::Env env, Napi::Value data, Napi::Value cols, const char* what) {
    const auto values = view<float>(env, data, what);
    const int width = integer(env, cols, 1, 1 << 28, "cols");
    const int stride = (width + 31) / 32 * 32;
    const Matrix m = {values.data, width, stride, static_cast<int>(values.length / stride)};
    require(env, m.capacity >= device_->rows(),
            std::string(what) + " has room for " + std::to_string(m.capacity) + " rows, the step has " + std::to_string(device_->rows()));
    return m;
  }

  // param, dtype (0 BF16, 2 F32), bytes
  void load_param(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    Param& param = param_at(env, info[0]);
    const Dtype dtype = static_cast<Dtype>(integer(env, info[1], 0, 2, "dtype"));
    require(env, dtype != Dtype::F16, "F16 parameters are widened before they are loaded");
    const auto bytes = view<uint8_t>(env, info[2], "parameter data");
    const size_t elements = static_cast<size_t>(param.out) * (param.in == 0 ? 1 : param.in);
    const size_t size = dtype == Dtype::F32 ? 4 : 2;
    require(env, bytes.length == elements * size,
            "parameter " + std::to_string(index_of(param)) + " has " + std::to_string(bytes.length) + " bytes, its shape needs " + std::to_string(elements * size));
    require(env, reinterpret_cast<uintptr_t>(bytes.data) % size == 0, "parameter data is not aligned to its elements");
    param.data = bytes.data;
    param.dtype = dtype;
  }

  // slot, param, signs, row scale, column scale or undefined
  void add_plane(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    Delta& delta = delta_at(env, info[0], info[1]);
    const Param& param = param_at(env, info[1]);
    require(env, param.in > 0, "a vector has no sign planes");
    const auto signs = view<uint32_t>(env, info[2], "signs");
    const auto rows = view<float>(env, info[3], "row scale");
    require(env, signs.length == static_cast<size_t>(param.out) * ((param.in + 31) / 32), "the sign words don't fit the parameter's shape");
    require(env, rows.length == 1 || rows.length == static_cast<size_t>(param.out), "the row scale doesn't fit the parameter's shape");
    Plane plane = {signs.data, rows.data, rows.length == 1 ? 0 : 1, nullptr};
    if (param.out == 1) plane.row_scale_step = 0;
    if (!info[4].IsUndefined()) {
      const auto columns = view<float>(env, info[4], "column scale");
      require(env, columns.length == static_cast<size_t>(param.in), "the column scale doesn't fit the parameter's shape");
      plane.col_scale = columns.data;
    }
    delta.planes.push_back(plane);
  }

  // slot, param, BF16 bits
  void set_exact(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    Delta& delta = delta_at(env, info[0], info[1]);
    const Param& param = param_at(env, info[1]);
    const auto exact = view<uint16_t>(env, info[2], "exact difference");
    require(env, exact.length == static_cast<size_t>(param.out) * (param.in == 0 ? 1 : param.in), "the exact difference doesn't fit the parameter's shape");
    delta.exact = exact.data;
  }

  void clear_param(const Napi::CallbackInfo& info) { delta_at(info.Env(), info[0], info[1]) = Delta(); }

  // tokens, positions, sequenceStart, blockTable, blocksPerSequence, mixtureStart, mixtureSlots, mixtureWeights, logitRows
  void begin(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto tokens = view<int32_t>(env, info[0], "tokens");
    const auto positions = view<int32_t>(env, info[1], "positions");
    const auto starts = view<int32_t>(env, info[2], "sequenceStart");
    const auto table = view<int32_t>(env, info[3], "blockTable");
    const int per_sequence = integer(env, info[4], 0, 1 << 28, "blocksPerSequence");
    const auto mixture_start = view<int32_t>(env, info[5], "mixtureStart");
    const auto mixture_slots = view<int32_t>(env, info[6], "mixtureSlots");
    const auto mixture_weights = view<float>(env, info[7], "mixtureWeights");
    const auto logit_rows = view<int32_t>(env, info[8], "logitRows");
    const int rows = static_cast<int>(tokens.length);
    const KvShape& kv = device_->kv;
    require(env, positions.length == tokens.length, "positions and tokens differ in length");
    require(env, starts.length >= 1 && starts.data[0] == 0 && starts.data[starts.length - 1] == rows, "sequenceStart must go from 0 to the number of rows");
    const size_t sequences = starts.length - 1;
    require(env, table.length == sequences * per_sequence, "blockTable must be (sequences, blocksPerSequence)");
    require(env, mixture_start.length == tokens.length + 1 && mixture_start.data[0] == 0, "mixtureStart must have one entry more than rows and begin at 0");
    require(env, mixture_slots.length == mixture_weights.length && mixture_start.data[rows] == static_cast<int>(mixture_slots.length), "mixtureStart must end at the number of terms");
    Batch& batch = device_->batch;
    batch.sequence.resize(rows);
    for (size_t s = 0; s < sequences; s++) {
      require(env, starts.data[s] <= starts.data[s + 1] && starts.data[s + 1] <= rows, "sequenceStart must not fall");
      for (int r = starts.data[s]; r < starts.data[s + 1]; r++) {
        const int position = positions.data[r];
        const int64_t reach = static_cast<int64_t>(per_sequence) * kv.block_tokens;
        require(env, position >= 0 && position < reach, "row " + std::to_string(r) + ": position " + std::to_string(position) + " is beyond its sequence's blocks");
        require(env, r == starts.data[s] || position == positions.data[r - 1] + 1, "a sequence's rows must be consecutive positions");
        batch.sequence[r] = static_cast<int>(s);
      }
      if (starts.data[s] == starts.data[s + 1]) continue;
      const int last = positions.data[starts.data[s + 1] - 1] / kv.block_tokens;
      for (int b = 0; b <= last; b++) {
        const int block = table.data[s * per_sequence + b];
        require(env, block >= 0 && block < kv.blocks, "sequence " + std::to_string(s) + ": block " + std::to_string(block) + " does not exist");
      }
    }
    for (int r = 0; r < rows; r++) {
      require(env, mixture_start.data[r] <= mixture_start.data[r + 1], "mixtureStart must not fall");
      require(env, tokens.data[r] >= 0, "row " + std::to_string(r) + ": token " + std::to_string(tokens.data[r]) + " does not exist");
    }
    for (size_t t = 0; t < mixture_slots.length; t++) {
      const int slot = mixture_slots.data[t];
      require(env, slot >= 0 && slot < static_cast<int>(device_->slots.size()), "slot " + std::to_string(slot) + " does not exist");
    }
    for (size_t i = 0; i < logit_rows.length; i++) {
      const int row = logit_rows.data[i];
      require(env, row >= 0 && row < rows && (i == 0 || row > logit_rows.data[i - 1]), "logitRows must be rows of the step, ascending");
    }
    batch.rows = rows;
    batch.tokens.assign(tokens.data, tokens.data + rows);
    batch.positions.assign(positions.data, positions.data + rows);
    batch.block_table.assign(table.data, table.data + table.length);
    batch.blocks_per_sequence = per_sequence;
    batch.mixture_start.assign(mixture_start.data, mixture_start.data + mixture_start.length);
    batch.mixture_slots.assign(mixture_slots.data, mixture_slots.data + mixture_slots.length);
    batch.mixture_weights.assign(mixture_weights.data, mixture_weights.data + mixture_weights.length);
    batch.logit_rows.assign(logit_rows.data, logit_rows.data + logit_rows.length);
    device_->begin();
  }

  // out, cols, param
  void embed(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const Matrix out = matrix(env, info[0], info[1], "out");
    const Param& param = loaded(env, info[2]);
    require(env, param.in == out.cols, "the embedding's width differs from out's");
    for (int r = 0; r < device_->batch.rows; r++)
      require(env, device_->batch.tokens[r] < param.out, "row " + std::to_string(r) + ": token " + std::to_string(device_->batch.tokens[r]) + " does not exist");
    device_->embed(out, index_of(param));
  }

  // out, x, cols, param, eps
  void rms_norm(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const Matrix out = matrix(env, info[0], info[2], "out");
    const Matrix x = matrix(env, info[1], info[2], "x");
    const Param& param = loaded(env, info[3]);
    require(env, param.in == 0 && x.cols % param.out == 0, "the norm's length doesn't divide x's columns");
    device_->rms_norm(out, x, index_of(param), info[4].As<Napi::Number>().FloatValue());
  }

  // out, cols, x, cols, param, bias or -1
  void linear(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const Matrix out = matrix(env, info[0], info[1], "out");
    const Matrix x = matrix(env, info[2], info[3], "x");
    const Param& param = loaded(env, info[4]);
    require(env, param.out == out.cols && param.in == x.cols,
            "parameter " + std::to_string(index_of(param)) + " is (" + std::to_string(param.out) + ", " + std::to_string(param.in) + "), the activations are " + std::to_string(x.cols) + " to " + std::to_string(out.cols));
    require(env, out.data != x.data, "linear can't work in place");
    const int bias = integer(env, info[5], -1, static_cast<int>(device_->params.size()) - 1, "bias");
    if (bias >= 0) {
      const Param& b = loaded(env, info[5]);
      require(env, b.in == 0 && b.out == out.cols, "the bias doesn't fit the output");
    }
    device_->linear(out, x, index_of(param), bias);
  }

  // x, cols, cos, sin, headDim
  void rope(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const Matrix x = matrix(env, info[0], info[1], "x");
    const auto cos = view<float>(env, info[2], "cos");
    const auto sin = view<float>(env, info[3], "sin");
    const int head_dim = integer(env, info[4], 2, x.cols, "headDim");
    require(env, head_dim % 2 == 0 && x.cols % head_dim == 0, "heads don't divide x's columns");
    require(env, cos.length == sin.length, "cos and sin differ in length");
    for (int position : device_->batch.positions)
      require(env, static_cast<size_t>(position + 1) * (head_dim / 2) <= cos.length, "position " + std::to_string(position) + " is beyond the rope table");
    device_->rope(x, cos.data, sin.data, head_dim);
  }

  // layer, keys, values
  void store_kv(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const int layer = integer(env, info[0], 0, device_->kv.layers - 1, "layer");
    const Napi::Value cols = Napi::Number::New(env, device_->kv.kv_heads * device_->kv.head_dim);
    device_->store_kv(layer, matrix(env, info[1], cols, "keys"), matrix(env, info[2], cols, "values"));
  }

  // out, queries, cols, layer, scale, window
  void attention(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const Matrix out = matrix(env, info[0], info[2], "out");
    const Matrix queries = matrix(env, info[1], info[2], "queries");
    require(env, queries.cols % (device_->kv.head_dim * device_->kv.kv_heads) == 0, "query heads don't divide over the kv heads");
    const int layer = integer(env, info[3], 0, device_->kv.layers - 1, "layer");
    const int window = integer(env, info[5], 0, 1 << 30, "window");
    device_->attention(out, queries, layer, info[4].As<Napi::Number>().FloatValue(), window);
  }

  // out, gate, up, cols
  void swiglu(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    device_->swiglu(matrix(env, info[0], info[3], "out"), matrix(env, info[1], info[3], "gate"), matrix(env, info[2], info[3], "up"));
  }

  // x, y, cols
  void add(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    device_->add(matrix(env, info[0], info[2], "x"), matrix(env, info[1], info[2], "y"));
  }

  // out, x, cols
  void gather(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const Matrix x = matrix(env, info[1], info[2], "x");
    const auto values = view<float>(env, info[0], "out");
    require(env, values.length / x.stride >= device_->batch.logit_rows.size(), "out has room for fewer rows than logitRows");
    device_->gather({values.data, x.cols, x.stride, static_cast<int>(values.length / x.stride)}, x);
  }

  std::unique_ptr<Device> device_;
};

// A file's bytes, mapped read-only, as an ArrayBuffer that unmaps when it is collected.
Napi::Value map_file(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  require(env, info[0].IsString(), "a path is expected");
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  const auto failed = [&](const char* what) -> Napi::Error {
    Napi::Error error = Napi::Error::New(env, path + " can't be " + what + ": " + std::strerror(errno));
    error.Set("code", Napi::String::New(env, errno == ENOENT ? "ENOENT" : "EIO"));
    return error;
  };
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) throw failed("opened");
  struct stat status;
  if (fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(file);
    throw failed("read as a file");
  }
  const size_t size = static_cast<size_t>(status.st_size);
  if (size == 0) {
    close(file);
    return Napi::ArrayBuffer::New(env, 0);
  }
  void* data = mmap(nullptr, size, PROT_READ, MAP_SHARED, file, 0);
  close(file);
  if (data == MAP_FAILED) throw failed("mapped");
  return Napi::ArrayBuffer::New(env, data, size, [size](Napi::Env, void* mapped) { munmap(mapped, size); });
}

// base, base dtype, tuned, tuned dtype, out, in, per row, signs[], row scales[] → [Σ Δ², Σ (Δ − Δ̂)²]
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
  const Napi::Array sign_arrays = info[7].As<Napi::Array>();
  const Napi::Array scale_arrays = info[8].As<Napi::Array>();
  job.planes = static_cast<int>(sign_arrays.Length());
  require(env, scale_arrays.Length() == sign_arrays.Length(), "signs and scales differ in number");
  std::vector<uint32_t*> signs;
  std::vector<float*> scales;
  for (int p = 0; p < job.planes; p++) {
    const auto s = view<uint32_t>(env, sign_arrays.Get(p), "signs");
    const auto r = view<float>(env, scale_arrays.Get(p), "row scale");
    require(env, s.length == static_cast<size_t>(job.out) * ((static_cast<size_t>(job.in) + 31) / 32), "signs don't fit the shape");
    require(env, r.length == (job.per_row ? static_cast<size_t>(job.out) : 1), "the row scale doesn't fit the shape");
    signs.push_back(s.data);
    scales.push_back(r.data);
  }
  job.signs = signs.data();
  job.row_scales = scales.data();
  const SignPackResult result = sign_pack(detect(env), job);
  Napi::Float64Array out = Napi::Float64Array::New(env, 2);
  out[0] = result.finite ? result.difference_squared : std::numeric_limits<double>::quiet_NaN();
  out[1] = result.residual_squared;
  return out;
}

Napi::Value set_threads(const Napi::CallbackInfo& info) {
  Pool::instance().resize(integer(info.Env(), info[0], 1, 256, "threads"));
  return info.Env().Undefined();
}

Napi::Value get_threads(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), Pool::instance().threads()); }

// Names of what this machine can run, the one in use first.
Napi::Value instruction_sets(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Array names = Napi::Array::New(env);
  const KernelTable& used = detect(env);
  names.Set(uint32_t{0}, Napi::String::New(env, used.name));
  for (const KernelTable* table : usable_tables())
    if (table != &used) names.Set(names.Length(), Napi::String::New(env, table->name));
  return names;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("NativeDevice", DeviceWrap::define(env));
  exports.Set("mapFile", Napi::Function::New(env, map_file));
  exports.Set("signPack", Napi::Function::New(env, sign_pack_matrix));
  exports.Set("setThreads", Napi::Function::New(env, set_threads));
  exports.Set("threads", Napi::Function::New(env, get_threads));
  exports.Set("instructionSets", Napi::Function::New(env, instruction_sets));
  return exports;
}

} // namespace

NODE_API_MODULE(kernels, init)

} // namespace signpost
