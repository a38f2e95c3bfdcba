// Copying what a device computes from in files into memory of its own, beside its work.
#pragma once
#include <napi.h>

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "mapped_file.h"
#include "memory.h"

namespace signpost {

struct Unsettled {
  int param;
  std::shared_ptr<MappedFile> file;
  uint64_t offset;
  size_t bytes;
};

// Copies one after the other onto huge pages, in a thread that gives way to all others; `settled` takes each copy, on the environment's thread, while `owner`
// is kept alive. The promise is of the bytes that there was no memory for; it is rejected when a file was written to, which nobody can have meant. Ends early once
// `closed`, or where the environment ends.
Napi::Promise settle_all(Napi::Object owner, std::vector<Unsettled> list, std::shared_ptr<std::atomic<bool>> closed,
                         std::function<void(int param, Memory memory)> settled);

} // namespace signpost
