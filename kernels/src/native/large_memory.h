// Buffers on huge pages for JavaScript, at once or cleared ahead of use.
#pragma once
#include <napi.h>

namespace signpost {

void define_large_memory(Napi::Env env, Napi::Object exports);

} // namespace signpost
