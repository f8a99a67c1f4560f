#include "runtime/npy.h"

#include <fcntl.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

static_assert(std::endian::native == std::endian::little, "the header says '<f4'");

constexpr int kMaxAttempts{1000};  // at a free name; other writers of this process may use some

absl::Status ErrnoStatus(const std::string& path, absl::string_view action) {
  return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot ", action));
}

// Magic, version 1.0, length of the rest (little-endian uint16), then a Python dictionary, padded
// with spaces and a newline so that the data starts at a multiple of 64.
std::string Header(int64_t rows, int64_t cols) {
  std::string dictionary =
      absl::StrFormat("{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }", rows, cols);
  constexpr size_t kPrefixBytes{10};
  constexpr size_t kAlignment{64};
  const size_t unpadded = kPrefixBytes + dictionary.size() + 1;
  dictionary.append((kAlignment - unpadded % kAlignment) % kAlignment, ' ');
  dictionary += '\n';
  const char prefix[kPrefixBytes] = {'\x93',
                                     'N',
                                     'U',
                                     'M',
                                     'P',
                                     'Y',
                                     '\x01',
                                     '\x00',
                                     static_cast<char>(dictionary.size() & 0xff),
                                     static_cast<char>(dictionary.size() >> 8)};
  return std::string(prefix, kPrefixBytes) + dictionary;
}

}  // namespace

absl::StatusOr<NpyWriter> NpyWriter::Create(const std::string& path, int64_t rows, int64_t cols) {
  constexpr int64_t kMaxValues{std::numeric_limits<int64_t>::max() / 8};
  if (rows < 0 || cols < 0 || (cols > 0 && rows > kMaxValues / cols)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: the shape [%d, %d] is not legal; both must be >= 0 and their product at most %d", path,
        rows, cols, kMaxValues));
  }
  // Beside the target, so that the rename stays on one file system.
  std::string temporary_path;
  int fd = -1;
  for (int attempt = 0; fd < 0; ++attempt) {
    temporary_path = absl::StrFormat("%s.%d-%d.tmp", path, getpid(), attempt);
    fd = open(temporary_path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 && (errno != EEXIST || attempt == kMaxAttempts)) {
      return ErrnoStatus(path, "create a file beside it");
    }
  }
  std::FILE* file = fdopen(fd, "wb");
  if (file == nullptr) {
    close(fd);
    unlink(temporary_path.c_str());
    return ErrnoStatus(path, "open");
  }
  NpyWriter writer(path, std::move(temporary_path), file, rows, cols);
  const std::string header = Header(rows, cols);
  if (std::fwrite(header.data(), 1, header.size(), file) != header.size()) {
    return ErrnoStatus(path, "write the header");
  }
  return writer;
}

NpyWriter::~NpyWriter() {
  if (file_ != nullptr) unlink(temporary_path_.c_str());
}

absl::Status NpyWriter::Append(absl::Span<const float> values) {
  SW_CHECK(file_ != nullptr) << "Append after Finish";
  const int64_t count = static_cast<int64_t>(values.size());
  const bool whole_rows = cols_ == 0 ? count == 0 : count % cols_ == 0;
  if (!whole_rows || count > rows_ * cols_ - values_written_) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: cannot append %d values to %d of [%d, %d]; legal are whole rows up to the last", path_,
        count, values_written_, rows_, cols_));
  }
  if (values.empty()) return absl::OkStatus();
  if (std::fwrite(values.data(), sizeof(float), values.size(), file_.get()) != values.size()) {
    return ErrnoStatus(path_, "write");
  }
  values_written_ += count;
  return absl::OkStatus();
}

absl::Status NpyWriter::Finish() {
  SW_CHECK(file_ != nullptr) << "Finish called twice";
  if (values_written_ != rows_ * cols_) {
    return absl::FailedPreconditionError(absl::StrFormat("%s: %d values of [%d, %d] were written",
                                                         path_, values_written_, rows_, cols_));
  }
  const bool flushed = std::fflush(file_.get()) == 0 && fsync(fileno(file_.get())) == 0;
  if (!flushed) return ErrnoStatus(path_, "flush");
  if (std::rename(temporary_path_.c_str(), path_.c_str()) != 0) {
    return ErrnoStatus(path_, "rename the temporary file to it");
  }
  file_.reset();
  return absl::OkStatus();
}

}  // namespace sidewinder
