// Writes a float32 matrix as an .npy file (format 1.0), row by row.
#ifndef SIDEWINDER_RUNTIME_NPY_H_
#define SIDEWINDER_RUNTIME_NPY_H_

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace sidewinder {

// The file appears under its path only when Finish succeeds; until then the rows are in a
// temporary file beside it, which the destructor removes.
class NpyWriter {
 public:
  // A matrix of [rows, cols], both >= 0 and known up front. InvalidArgument for a negative or
  // overflowing size; NotFound or PermissionDenied, with the path, if the folder cannot be written.
  static absl::StatusOr<NpyWriter> Create(const std::string& path, int64_t rows, int64_t cols);

  NpyWriter(NpyWriter&&) = default;
  NpyWriter& operator=(NpyWriter&&) = delete;
  ~NpyWriter();

  // Appends whole rows: a multiple of `cols` values, row-major. InvalidArgument otherwise, or
  // beyond `rows`.
  absl::Status Append(absl::Span<const float> values);

  // Flushes and renames. FailedPrecondition if rows are missing. Nothing may be called afterwards.
  absl::Status Finish();

 private:
  struct CloseFile {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };

  NpyWriter(std::string path, std::string temporary_path, std::FILE* file, int64_t rows,
            int64_t cols)
      : path_(std::move(path)),
        temporary_path_(std::move(temporary_path)),
        file_(file),
        rows_(rows),
        cols_(cols) {}

  std::string path_;
  std::string temporary_path_;
  std::unique_ptr<std::FILE, CloseFile> file_;  // null after Finish
  int64_t rows_;
  int64_t cols_;
  int64_t values_written_ = 0;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_RUNTIME_NPY_H_
