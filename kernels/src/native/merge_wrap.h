// The merge kernels for JavaScript.
#pragma once
#include <napi.h>

namespace signpost {

void define_merge(Napi::Env env, Napi::Object exports);

} // namespace signpost
