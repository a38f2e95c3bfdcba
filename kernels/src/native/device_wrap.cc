// NativeDevice: checks every argument, then calls the device.
#include "device_wrap.h"

#include <atomic>
#include <cmath>
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "arguments.h"
#include "device.h"
#include "settle.h"

namespace signpost {
namespace {

// Beyond these no machine has the memory, and products of sizes would leave their types.
constexpr double kMostBytes = 1ull << 46;
constexpr double kMostColumns = 1 << 28;
constexpr size_t kMostDeltas = size_t{1} << 31;
constexpr size_t kMostAddedRows = 1 << 20;

class DeviceWrap : public Napi::ObjectWrap<DeviceWrap> {
public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "NativeDevice",
                       {InstanceMethod<&DeviceWrap::load_param>("loadParam"), InstanceMethod<&DeviceWrap::map_param>("mapParam"),
                        InstanceMethod<&DeviceWrap::settle>("settle"), InstanceMethod<&DeviceWrap::param_bytes>("paramBytes"), InstanceMethod<&DeviceWrap::add_plane>("addPlane"),
                        InstanceMethod<&DeviceWrap::add_exact>("addExact"), InstanceMethod<&DeviceWrap::add_rows>("addRows"), InstanceMethod<&DeviceWrap::clear_param>("clearParam"),
                        InstanceMethod<&DeviceWrap::begin>("begin"), InstanceMethod<&DeviceWrap::embed>("embed"),
                        InstanceMethod<&DeviceWrap::rms_norm>("rmsNorm"), InstanceMethod<&DeviceWrap::linears>("linears"), InstanceMethod<&DeviceWrap::head>("head"),
                        InstanceMethod<&DeviceWrap::rope>("rope"), InstanceMethod<&DeviceWrap::store_kv>("storeKv"),
                        InstanceMethod<&DeviceWrap::attention>("attention"), InstanceMethod<&DeviceWrap::swiglu>("swiglu"),
                        InstanceMethod<&DeviceWrap::add>("add"), InstanceMethod<&DeviceWrap::gather>("gather"),
                        InstanceMethod<&DeviceWrap::close>("close")});
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
    require(env, params.size() * (static_cast<size_t>(slots) + 1) < kMostDeltas, "there are too many slots for so many parameters");
    for (int i = 0; i < 5; i++) require(env, sizes.data[i] > 0, "kv sizes must be positive");
    const KvShape kv = {sizes.data[0], sizes.data[1], sizes.data[2], sizes.data[3], sizes.data[4]};
    require(env, kv.head_dim % 2 == 0, "head size must be even");
    const double cached = 8.0 * kv.layers * kv.blocks * kv.block_tokens * kv.kv_heads * kv.head_dim;
    require(env, cached < kMostBytes && static_cast<double>(kv.kv_heads) * kv.head_dim < kMostColumns,
            "a KV cache of " + std::to_string(cached / (1 << 30)) + " GiB is too large");
    const KernelTable& table = info[3].IsUndefined() ? default_table(env) : table_named(env, info[3].As<Napi::String>().Utf8Value());
    try {
      device_ = std::make_unique<Device>(table, std::move(params), slots, kv);
    } catch (const std::bad_alloc&) {
      fail(env, "there is no memory for a KV cache of " + std::to_string(cached / (1 << 30)) + " GiB");
    }
  }

private:
  Device& device() {
    if (device_ == nullptr) throw Napi::Error::New(Env(), "this device is closed");
    return *device_;
  }
  Param& param_at(Napi::Env env, Napi::Value value) {
    return device().params[integer(env, value, 0, static_cast<int>(device().params.size()) - 1, "param")];
  }
  int index_of(const Param& param) { return static_cast<int>(&param - device().params.data()); }
  const Param& loaded(Napi::Env env, Napi::Value value) {
    const Param& param = param_at(env, value);
    if (param.data == nullptr) fail(env, "parameter " + std::to_string(index_of(param)) + " is not loaded");
    return param;
  }
  Delta& delta_at(Napi::Env env, Napi::Value slot, Napi::Value param) {
    const int s = integer(env, slot, 0, static_cast<int>(device().slots.size()) - 1, "slot");
    return device().slots[s][index_of(param_at(env, param))];
  }
  // Rows that a batch row's experts add below a matrix.
  int added_rows(Napi::Env env, int row, const Param& param) {
    const int count = device().adding(row, index_of(param));
    if (count > 1) fail(env, "row " + std::to_string(row) + ": two experts of its mixture add rows to parameter " + std::to_string(index_of(param)));
    return count == 0 ? 0 : static_cast<int>(device().added(row, index_of(param))->size() / param.in);
  }
  // A matrix is (data, cols): Float32Array with rows of `stride` = cols rounded up to 32.
  Matrix matrix(Napi::Env env, Napi::Value data, Napi::Value cols, const char* what) {
    const auto values = view<float>(env, data, what);
    const int width = integer(env, cols, 1, 1 << 28, "cols");
    const int stride = (width + 31) / 32 * 32;
    const Matrix m = {values.data, width, stride, static_cast<int>(values.length / stride)};
    if (m.capacity < device().rows()) fail(env, std::string(what) + " has room for " + std::to_string(m.capacity) + " rows, the step has " + std::to_string(device().rows()));
    return m;
  }

  // param, dtype (0 BF16, 1 F16, 2 F32), bytes, format (0 as they are, 3 Q8, 4 Q4)
  void load_param(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    Param& param = param_at(env, info[0]);
    const Dtype dtype = static_cast<Dtype>(integer(env, info[1], 0, 2, "dtype"));
    const auto bytes = view<uint8_t>(env, info[2], "parameter data");
    const int format = integer(env, info[3], 0, 4, "format");
    require(env, format == 0 || (format >= static_cast<int>(Dtype::Q8) && param.in > 0), "a matrix can be Q8 or Q4, a vector only what it is");
    const size_t elements = static_cast<size_t>(param.out) * (param.in == 0 ? 1 : param.in);
    const size_t size = dtype == Dtype::F32 ? 4 : 2;
    require(env, bytes.length == elements * size,
            "parameter " + std::to_string(index_of(param)) + " has " + std::to_string(bytes.length) + " bytes, its shape needs " + std::to_string(elements * size));
    require(env, reinterpret_cast<uintptr_t>(bytes.data) % size == 0, "parameter data is not aligned to its elements");
    try {
      // The kernels read no F16; it is rare enough to be widened.
      const Dtype stored = dtype == Dtype::F16 ? Dtype::F32 : dtype;
      device().load(param, format == 0 ? stored : static_cast<Dtype>(format), bytes.data, dtype);
    } catch (const std::bad_alloc&) {
      fail(env, "there is no memory for parameter " + std::to_string(index_of(param)));
    }
  }

  // param, dtype (0 BF16, 2 F32), path, offset
  void map_param(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    Param& param = param_at(env, info[0]);
    const Dtype dtype = static_cast<Dtype>(integer(env, info[1], 0, 2, "dtype"));
    require(env, dtype != Dtype::F16, "the kernels read no F16: it must be loaded");
    require(env, info[2].IsString(), "a path is expected");
    const std::string path = info[2].As<Napi::String>().Utf8Value();
    const double offset = info[3].IsNumber() ? info[3].As<Napi::Number>().DoubleValue() : -1;
    const int size = dtype == Dtype::F32 ? 4 : 2;
    const double bytes = static_cast<double>(param.out) * (param.in == 0 ? 1 : param.in) * size;
    try {
      std::shared_ptr<MappedFile> file = mapped(path);
      if (!(offset >= 0 && offset == std::floor(offset) && offset + bytes <= static_cast<double>(file->bytes())))
        fail(env, path + ": parameter " + std::to_string(index_of(param)) + " must lie in the file, which has " + std::to_string(file->bytes()) + " bytes");
      require(env, static_cast<uint64_t>(offset) % size == 0, "parameter data is not aligned to its elements");
      device().map(param, dtype, std::move(file), static_cast<uint64_t>(offset));
    } catch (const std::runtime_error& error) {
      throw Napi::Error::New(env, error.what());
    }
  }

  // A promise of the bytes that stay in files, since there was no memory for them.
  Napi::Value settle(const Napi::CallbackInfo& info) {
    std::vector<Unsettled> list;
    for (const Param& param : device().params)
      if (param.file != nullptr) list.push_back({index_of(param), param.file, param.offset, param.bytes()});
    const auto take = [this](int param, Memory memory) { device().settle(device().params[param], std::move(memory)); };
    return settle_all(info.This().As<Napi::Object>(), std::move(list), closed_, take);
  }

  Napi::Value param_bytes(const Napi::CallbackInfo& info) {
    double bytes = 0;
    for (const Param& param : device().params) bytes += static_cast<double>(param.resident_bytes());
    return Napi::Number::New(info.Env(), bytes);
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
    const float* col_scale = nullptr;
    if (!info[4].IsUndefined()) {
      const auto columns = view<float>(env, info[4], "column scale");
      require(env, columns.length == static_cast<size_t>(param.in), "the column scale doesn't fit the parameter's shape");
      col_scale = columns.data;
    }
    try {
      device().add_plane(delta, param, signs.data, rows.data, rows.length != 1, col_scale);
    } catch (const std::bad_alloc&) {
      fail(env, "there is no memory for the plane");
    }
  }

  // slot, param, BF16 bits
  void add_exact(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    Delta& delta = delta_at(env, info[0], info[1]);
    const Param& param = param_at(env, info[1]);
    const auto exact = view<uint16_t>(env, info[2], "exact difference");
    require(env, exact.length == static_cast<size_t>(param.out) * (param.in == 0 ? 1 : param.in), "the exact difference doesn't fit the parameter's shape");
    try {
      device().add_exact(delta, param, exact.data);
    } catch (const std::bad_alloc&) {
      fail(env, "there is no memory for the exact difference");
    }
  }

  // slot, param, BF16 bits
  void add_rows(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    Delta& delta = delta_at(env, info[0], info[1]);
    const Param& param = param_at(env, info[1]);
    const auto rows = view<uint16_t>(env, info[2], "added rows");
    require(env, param.in > 0 && rows.length % param.in == 0, "the added values are no whole rows of the parameter's shape");
    require(env, rows.length / param.in <= kMostAddedRows, "there are too many added rows");
    try {
      device().add_rows(delta, rows.data, rows.length / param.in, param.in);
    } catch (const std::bad_alloc&) {
      fail(env, "there is no memory for the added rows");
    }
  }

  // slot, param
  void clear_param(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    delta_at(env, info[0], info[1]).clear();
  }

  // Frees everything; whatever is called afterwards throws.
  void close(const Napi::CallbackInfo&) {
    *closed_ = true;
    device_.reset();
  }

  // See read_batch.
  void begin(const Napi::CallbackInfo& info) {
    read_batch(info, device());
    device().begin();
  }

  // out, cols, param
  void embed(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const Matrix out = matrix(env, info[0], info[1], "out");
    const Param& param = loaded(env, info[2]);
    require(env, param.in == out.cols, "the embedding's width differs from out's");
    for (int r = 0; r < device().rows(); r++) {
      const int row = device().batch_row(r);
      const int token = device().batch.tokens[row];
      if (token < param.out) continue;
      require(env, token - param.out < added_rows(env, row, param), "row " + std::to_string(row) + ": token " + std::to_string(token) + " does not exist");
    }
    device().embed(out, index_of(param));
  }

  // out, x, cols, param, eps
  void rms_norm(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const Matrix out = matrix(env, info[0], info[2], "out");
    const Matrix x = matrix(env, info[1], info[2], "x");
    const Param& param = loaded(env, info[3]);
    require(env, param.in == 0 && x.cols % param.out == 0, "the norm's length doesn't divide x's columns");
    device().rms_norm(out, x, index_of(param), real(env, info[4], "a factor"));
  }

  // x, cols, epilogue, its target and columns, then for each layer: out, cols, param, bias or -1
  void linears(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const Matrix x = matrix(env, info[0], info[1], "x");
    layers_.clear();
    const auto kind = static_cast<Epilogue::Kind>(integer(env, info[2], 0, static_cast<int>(Epilogue::Kind::Swiglu), "epilogue"));
    for (size_t at = 5; at < info.Length(); at += 4) {
      const Matrix out = matrix(env, info[at], info[at + 1], "out");
      const Param& param = loaded(env, info[at + 2]);
      if (param.out != out.cols || param.in != x.cols)
        fail(env, "parameter " + std::to_string(index_of(param)) + " is (" + std::to_string(param.out) + ", " + std::to_string(param.in) + "), the activations are " + std::to_string(x.cols) + " to " + std::to_string(out.cols));
      require(env, out.data != x.data, "linear can't work in place");
      const int bias = integer(env, info[at + 3], -1, static_cast<int>(device().params.size()) - 1, "bias");
      if (bias >= 0) {
        const Param& b = loaded(env, info[at + 3]);
        require(env, b.in == 0 && b.out == out.cols, "the bias doesn't fit the output");
      }
      layers_.push_back({out, index_of(param), bias});
    }
    if (kind == Epilogue::Kind::None) return device().linears(x, layers_);
    const Matrix target = matrix(env, info[3], info[4], "target");
    require(env, layers_.size() == (kind == Epilogue::Kind::Add ? 1 : 2), "there are too few layers for the epilogue, or too many");
    for (const Linear& layer : layers_) require(env, layer.out.cols == target.cols, "the outputs don't fit the epilogue's target");
    require(env, target.data != x.data, "an epilogue can't change what the layers read");
    device().linears(x, layers_, {kind, target});
  }

  // out, cols, x, cols, param
  void head(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const Matrix out = matrix(env, info[0], info[1], "out");
    const Matrix x = matrix(env, info[2], info[3], "x");
    const Param& param = loaded(env, info[4]);
    require(env, param.out <= out.cols && param.in == x.cols,
            "parameter " + std::to_string(index_of(param)) + " is (" + std::to_string(param.out) + ", " + std::to_string(param.in) + "), the activations are " + std::to_string(x.cols) + " to " + std::to_string(out.cols));
    require(env, out.data != x.data, "head can't work in place");
    for (int r = 0; r < device().rows(); r++) {
      const int outputs = param.out + added_rows(env, device().batch_row(r), param);
      if (outputs > out.cols) fail(env, "row " + std::to_string(device().batch_row(r)) + " has " + std::to_string(outputs) + " outputs, there is room for " + std::to_string(out.cols));
    }
    device().head(out, x, index_of(param));
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
    for (int position : device().batch.positions)
      if ((static_cast<size_t>(position) + 1) * (head_dim / 2) > cos.length) fail(env, "position " + std::to_string(position) + " is beyond the rope table");
    device().rope(x, cos.data, sin.data, head_dim);
  }

  // layer, keys, values
  void store_kv(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const int layer = integer(env, info[0], 0, device().kv.layers - 1, "layer");
    const Napi::Value cols = Napi::Number::New(env, device().kv.kv_heads * device().kv.head_dim);
    device().store_kv(layer, matrix(env, info[1], cols, "keys"), matrix(env, info[2], cols, "values"));
  }

  // out, queries, cols, layer, scale, window
  void attention(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const Matrix out = matrix(env, info[0], info[2], "out");
    const Matrix queries = matrix(env, info[1], info[2], "queries");
    require(env, queries.cols % (device().kv.head_dim * device().kv.kv_heads) == 0, "query heads don't divide over the kv heads");
    const int layer = integer(env, info[3], 0, device().kv.layers - 1, "layer");
    const int window = integer(env, info[5], 0, 1 << 30, "window");
    device().attention(out, queries, layer, real(env, info[4], "a factor"), window);
  }

  // out, gate, up, cols
  void swiglu(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    device().swiglu(matrix(env, info[0], info[3], "out"), matrix(env, info[1], info[3], "gate"), matrix(env, info[2], info[3], "up"));
  }

  // x, y, cols
  void add(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    device().add(matrix(env, info[0], info[2], "x"), matrix(env, info[1], info[2], "y"));
  }

  // out, x, cols
  void gather(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const Matrix x = matrix(env, info[1], info[2], "x");
    // `x` holds all rows of the batch, also when ops act on fewer by now.
    require(env, x.capacity >= device().batch.rows, "x has room for " + std::to_string(x.capacity) + " rows, the batch has " + std::to_string(device().batch.rows));
    const auto values = view<float>(env, info[0], "out");
    require(env, values.length / x.stride >= device().batch.logit_rows.size(), "out has room for fewer rows than logitRows");
    device().gather({values.data, x.cols, x.stride, static_cast<int>(values.length / x.stride)}, x);
  }

  std::shared_ptr<MappedFile> mapped(const std::string& path) {
    std::shared_ptr<MappedFile> file = files_[path].lock();
    if (file == nullptr) files_[path] = file = std::make_shared<MappedFile>(path);
    return file;
  }

  std::map<std::string, std::weak_ptr<MappedFile>> files_; // which parameters have
  std::shared_ptr<std::atomic<bool>> closed_ = std::make_shared<std::atomic<bool>>(false);
  std::vector<Linear> layers_; // of the call under way
  std::unique_ptr<Device> device_; // null once closed
};

} // namespace

Napi::Function define_device(Napi::Env env) { return DeviceWrap::define(env); }

} // namespace signpost
