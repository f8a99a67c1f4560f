// The tensors of a model folder, mapped and never copied.
#ifndef SIDEWINDER_RUNTIME_WEIGHTS_H_
#define SIDEWINDER_RUNTIME_WEIGHTS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kernels/common/dtype.h"

namespace sidewinder {

struct StoredTensor {
  std::string name;
  std::string file;                 // path it comes from, for messages
  std::string dtype_name;           // as the file spells it: "F32", "BF16", "I64"
  std::optional<DType> dtype;       // empty for a type that no op computes with
  std::vector<int64_t> shape;       // row-major
  const std::byte* data = nullptr;  // aligned to nothing in particular
  size_t size = 0;                  // bytes
};

class WeightsReader {
 public:
  // Maps `folder`/model.safetensors; or else the files that model.safetensors.index.json names; or
  // else every *.safetensors of the folder.
  //   NotFound            no folder, no safetensors in it, or a file of the index is missing
  //   InvalidArgument     a damaged file, a tensor in two files, or an index that does not agree
  //                       with its files or points outside of the folder
  //   FailedPrecondition  the weights are only there as pytorch_model.bin; says how to convert them
  static absl::StatusOr<std::shared_ptr<const WeightsReader>> Open(const std::string& folder);

  // Tensors that something else keeps in memory: `owner` lives as long as the reader. Names must
  // differ (InvalidArgument).
  static absl::StatusOr<std::shared_ptr<const WeightsReader>> FromMemory(
      std::vector<StoredTensor> tensors, std::shared_ptr<const void> owner);

  // Null if there is none. The view and its data live as long as the reader.
  const StoredTensor* Find(absl::string_view name) const;

  const std::string& name() const { return name_; }                    // the folder, for messages
  absl::Span<const StoredTensor> tensors() const { return tensors_; }  // sorted by name
  size_t total_bytes() const { return total_bytes_; }

  // XXH3 over the names, types and shapes of all tensors and over their data: all of a small
  // tensor, evenly spaced blocks of a large one. The same weights give the same number however
  // they are split into files. Tells models apart (e.g. for state files); it is not a checksum of
  // every byte and no defence against tampering.
  uint64_t Fingerprint() const;

 private:
  WeightsReader(std::string name, std::vector<StoredTensor> tensors,
                std::vector<std::shared_ptr<const void>> owners)
      : name_(std::move(name)), tensors_(std::move(tensors)), owners_(std::move(owners)) {}
  static absl::StatusOr<std::shared_ptr<const WeightsReader>> Create(
      std::string name, std::vector<StoredTensor> tensors,
      std::vector<std::shared_ptr<const void>> owners);

  std::string name_;
  std::vector<StoredTensor> tensors_;
  absl::flat_hash_map<absl::string_view, const StoredTensor*> by_name_;
  std::vector<std::shared_ptr<const void>> owners_;
  size_t total_bytes_ = 0;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_RUNTIME_WEIGHTS_H_
