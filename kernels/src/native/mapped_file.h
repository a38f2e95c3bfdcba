// A file, mapped read-only as a whole: what weights are computed from until they have been copied.
#pragma once
#include <cstdint>
#include <string>
#include <sys/stat.h>
#include <vector>

namespace signpost {

class MappedFile {
public:
  // Throws std::runtime_error naming the path.
  explicit MappedFile(const std::string& path);
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  const std::string& path() const { return path_; }
  uint64_t bytes() const { return static_cast<uint64_t>(mapped_.st_size); }
  const char* at(uint64_t offset) const { return data_ + offset; }
  // Waits until a part of it is in memory, in this process's tables: read by several threads at once.
  void read_in(uint64_t offset, uint64_t bytes) const;
  // Lets go of the memory behind a part of it.
  void release(uint64_t offset, uint64_t bytes) const;
  // Whether nobody has written to it since it was mapped.
  bool is_unchanged() const;

private:
  std::string path_;
  int file_ = -1;
  struct stat mapped_ = {};
  char* data_ = nullptr;
};

// What a thread has under way from the disk at once: what it gives in its latency, also where it is a fast one, and no more, since what others ask for waits behind it.
constexpr off_t kAheadBytes = 16 * 1024 * 1024;

// Has the system read a part of a file, where it takes such hints.
void will_need(int file, off_t offset, off_t bytes);

// Has the system read files from the disk, in their order, in a thread of its own: a hint, which nothing fails for.
void read_ahead(std::vector<std::string> paths);

} // namespace signpost
