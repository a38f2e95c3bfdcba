#include "mapped_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <stdexcept>
#include <sys/mman.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <utility>

#include "pool.h"

namespace signpost {
namespace {

#if defined(__APPLE__)
timespec written(const struct stat& status) { return status.st_mtimespec; }
#else
timespec written(const struct stat& status) { return status.st_mtim; }
#endif

// What a thread waits for at a time.
constexpr uint64_t kPieceBytes = 4 * 1024 * 1024;

uint64_t page_bytes() {
  static const uint64_t bytes = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

// Pages at `begin` … `end` are in memory and in the tables when it returns.
void touch(char* begin, char* end) {
#if defined(MADV_POPULATE_READ)
  if (madvise(begin, static_cast<size_t>(end - begin), MADV_POPULATE_READ) == 0) return;
#endif
  for (volatile const char* page = begin; page < end; page += page_bytes()) (void)*page;
}

void read_all(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  struct stat status;
  if (fstat(file, &status) == 0 && S_ISREG(status.st_mode)) {
    for (off_t at = 0; at < status.st_size + kAheadBytes; at += kPieceBytes) {
      if (at < status.st_size) will_need(file, at, kPieceBytes);
      // Here when everything before it is, as good as: else all of the file would be asked for at once, before what others need first.
      char byte;
      if (at >= kAheadBytes && pread(file, &byte, 1, std::min(at - kAheadBytes, status.st_size - 1)) <= 0) break;
    }
  }
  close(file);
}

} // namespace

void will_need(int file, off_t offset, off_t bytes) {
#if defined(POSIX_FADV_WILLNEED)
  posix_fadvise(file, offset, bytes, POSIX_FADV_WILLNEED);
#else
  (void)file, (void)offset, (void)bytes;
#endif
}

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const auto failed = [&](const char* what) {
    const int reason = errno;
    if (file_ >= 0) close(file_);
    return std::runtime_error(path + " can't be " + what + ": " + std::strerror(reason));
  };
  file_ = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file_ < 0) throw failed("opened");
  if (fstat(file_, &mapped_) != 0) throw failed("read as a file");
  if (mapped_.st_size == 0) return;
  void* data = mmap(nullptr, static_cast<size_t>(mapped_.st_size), PROT_READ, MAP_SHARED, file_, 0);
  if (data == MAP_FAILED) throw failed("mapped");
  data_ = static_cast<char*>(data);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(data_, static_cast<size_t>(mapped_.st_size));
  close(file_);
}

void MappedFile::read_in(uint64_t offset, uint64_t bytes) const {
  const uint64_t first = offset / page_bytes() * page_bytes();
  const uint64_t end = offset + bytes;
  const int pieces = static_cast<int>((end - first + kPieceBytes - 1) / kPieceBytes);
  Pool::instance().each(pieces, 1, [&](int from, int to) {
    for (int piece = from; piece < to; piece++) {
      const uint64_t begin = first + piece * kPieceBytes;
      const uint64_t stop = std::min(end, begin + kPieceBytes);
      // Else the system may take faults in many places for random ones, and read a page at a time.
      will_need(file_, static_cast<off_t>(begin), static_cast<off_t>(stop - begin));
      touch(data_ + begin, data_ + stop);
    }
  });
}

void MappedFile::release(uint64_t offset, uint64_t bytes) const {
  if (bytes == 0) return;
  const uint64_t first = offset / page_bytes() * page_bytes();
  madvise(data_ + first, static_cast<size_t>(offset + bytes - first), MADV_DONTNEED);
}

bool MappedFile::is_unchanged() const {
  struct stat now;
  if (fstat(file_, &now) != 0) return false;
  const timespec before = written(mapped_), after = written(now);
  return now.st_size == mapped_.st_size && after.tv_sec == before.tv_sec && after.tv_nsec == before.tv_nsec;
}

void read_ahead(std::vector<std::string> paths) {
  try {
    std::thread([paths = std::move(paths)] {
      for (const std::string& path : paths) read_all(path);
    }).detach();
  } catch (const std::system_error&) {
    // Without a thread the file is read when it is needed.
  }
}

} // namespace signpost
