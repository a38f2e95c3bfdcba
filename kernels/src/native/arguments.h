// Reading JavaScript's arguments: what is wrong throws a RangeError that says what was expected.
#pragma once
#include <napi.h>

#include <cstdint>
#include <string>

#include "kernels.h"

namespace signpost {

[[noreturn]] inline void fail(Napi::Env env, const std::string& message) { throw Napi::RangeError::New(env, message); }

inline void require(Napi::Env env, bool condition, const std::string& message) {
  if (!condition) fail(env, message);
}

// Without making a string of what is right.
inline void require(Napi::Env env, bool condition, const char* message) {
  if (!condition) fail(env, message);
}

inline int integer(Napi::Env env, Napi::Value value, int low, int high, const char* what) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1e300;
  if (!(number >= low && number <= high && number == static_cast<int>(number)))
    fail(env, std::string(what) + " must be an integer from " + std::to_string(low) + " to " + std::to_string(high));
  return static_cast<int>(number);
}

inline float real(Napi::Env env, Napi::Value value, const char* what) {
  if (!value.IsNumber()) fail(env, std::string(what) + " must be a number");
  return value.As<Napi::Number>().FloatValue();
}

template <typename T> struct View {
  T* data;
  size_t length;
};

template <typename T> constexpr napi_typedarray_type type_of();
template <> inline constexpr napi_typedarray_type type_of<float>() { return napi_float32_array; }
template <> inline constexpr napi_typedarray_type type_of<int32_t>() { return napi_int32_array; }
template <> inline constexpr napi_typedarray_type type_of<uint32_t>() { return napi_uint32_array; }
template <> inline constexpr napi_typedarray_type type_of<uint16_t>() { return napi_uint16_array; }
template <> inline constexpr napi_typedarray_type type_of<uint8_t>() { return napi_uint8_array; }
template <> inline constexpr napi_typedarray_type type_of<double>() { return napi_float64_array; }

template <typename T> View<T> view(Napi::Env env, napi_value value, const char* what) {
  bool is_array = false;
  napi_is_typedarray(env, value, &is_array);
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  if (is_array) napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr);
  if (!is_array || type != type_of<T>()) fail(env, std::string(what) + " is not the typed array expected");
  return {static_cast<T*>(data), length};
}

// The elements of a typed array that must have so many.
template <typename T> T* elements(Napi::Env env, napi_value value, size_t length, const char* what) {
  const View<T> found = view<T>(env, value, what);
  require(env, found.length == length,
          std::string(what) + " doesn't fit the shape: it has " + std::to_string(found.length) + " elements, expected " + std::to_string(length));
  return found.data;
}

inline size_t area(int rows, int columns) { return static_cast<size_t>(rows) * columns; }
// Words of the sign bits of a matrix, whose rows each begin a new one.
inline size_t sign_words(int rows, int columns) { return area(rows, (columns + 31) / 32); }

// The table of SIGNPOST_ISA, or the best one of this machine.
const KernelTable& default_table(Napi::Env env);
const KernelTable& table_named(Napi::Env env, const std::string& wanted);

} // namespace signpost
