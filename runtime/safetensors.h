// The safetensors container: an 8-byte little-endian header length, a JSON header, raw data.
#ifndef SIDEWINDER_RUNTIME_SAFETENSORS_H_
#define SIDEWINDER_RUNTIME_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/common/dtype.h"

namespace sidewinder {

inline constexpr uint64_t kMaxSafetensorsHeaderBytes{100'000'000};

struct SafetensorsEntry {
  std::string name;
  std::string dtype_name;      // as written, e.g. "BF16" or "I64"; always a known one
  std::optional<DType> dtype;  // empty for a type that no op computes with
  std::vector<int64_t> shape;  // each >= 0; empty for a scalar
  size_t offset = 0;           // first byte, from the start of the file
  size_t size = 0;             // bytes == elements * element size
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;        // in order of offset
  std::map<std::string, std::string> metadata;  // of "__metadata__"
};

// Reads and checks the header of a whole file. Everything that the entries say is true of `file`
// afterwards: they lie inside it, do not overlap, leave no gaps and fit their shapes. Otherwise
// InvalidArgument with `name` (the path), the tensor, the value and what is legal.
absl::StatusOr<SafetensorsHeader> ParseSafetensors(absl::Span<const std::byte> file,
                                                   const std::string& name);

}  // namespace sidewinder

#endif  // SIDEWINDER_RUNTIME_SAFETENSORS_H_
