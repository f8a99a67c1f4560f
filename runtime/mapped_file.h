// A file mapped read-only into memory. Pages are read when they are first touched and shared
// between processes. The file must not shrink while it is mapped: touching a page that is gone
// kills the process (SIGBUS), as with any mapping.
#ifndef SIDEWINDER_RUNTIME_MAPPED_FILE_H_
#define SIDEWINDER_RUNTIME_MAPPED_FILE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace sidewinder {

class MappedFile {
 public:
  // How the bytes will be read; a hint that changes speed alone.
  enum class Advice : uint8_t { kNormal, kSequential, kRandom, kWillNeed, kDontNeed };

  // NotFound, PermissionDenied, or InvalidArgument for a folder, a device, a pipe, an empty file.
  static absl::StatusOr<MappedFile> Open(const std::string& path);

  MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  const std::string& path() const { return path_; }
  const std::byte* data() const { return data_; }  // page-aligned
  size_t size() const { return size_; }            // >= 1
  absl::Span<const std::byte> bytes() const { return {data_, size_}; }
  absl::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }

  // Applies to the pages that hold [offset, offset + length), cut to the file.
  void Advise(Advice advice, size_t offset = 0, size_t length = SIZE_MAX) const;

 private:
  MappedFile(std::string path, const std::byte* data, size_t size)
      : path_(std::move(path)), data_(data), size_(size) {}

  std::string path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_RUNTIME_MAPPED_FILE_H_
