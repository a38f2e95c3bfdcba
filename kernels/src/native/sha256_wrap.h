// SHA-256 of files for JavaScript.
#pragma once
#include <napi.h>

namespace signpost {

void define_sha256(Napi::Env env, Napi::Object exports);

} // namespace signpost
