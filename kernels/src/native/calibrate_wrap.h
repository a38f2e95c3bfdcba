// The calibration kernels for JavaScript.
#pragma once
#include <napi.h>

namespace signpost {

void define_calibration(Napi::Env env, Napi::Object exports);

} // namespace signpost
