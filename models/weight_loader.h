// How a model family takes its tensors from a folder: every tensor by name, with the shape that the
// config implies, and nothing may be left over.
//
//   WeightLoader loader(reader, {.matrix_dtype = DType::kBFloat16});
//   SW_ASSIGN_OR_RETURN(w.embedding, loader.Tensor({"backbone.embeddings.weight",
//                                                   "backbone.embedding.weight"}, {vocab,
//                                                   hidden}));
//   SW_ASSIGN_OR_RETURN(w.norm, loader.Vector("backbone.norm_f.weight", {hidden}));
//   SW_ASSIGN_OR_RETURN(w.storage, std::move(loader).Finish());
//
// Errors: NotFound if a tensor is missing, InvalidArgument if its shape or type is wrong; both name
// the file, the tensor, what was found and what is legal. Not thread-safe.
#ifndef SIDEWINDER_MODELS_WEIGHT_LOADER_H_
#define SIDEWINDER_MODELS_WEIGHT_LOADER_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/common/dtype.h"
#include "runtime/weights.h"

namespace sidewinder {

// A tensor as ops take it: row-major, aligned to its element. Lives as long as the WeightStorage.
struct WeightView {
  const void* data = nullptr;  // null: an optional tensor that is not there
  DType dtype = DType::kFloat32;
  size_t size = 0;  // bytes

  explicit operator bool() const { return data != nullptr; }
};

// Keeps what the views point into: the mapped files and the converted tensors.
struct WeightStorage {
  std::shared_ptr<const WeightsReader> reader;
  std::vector<std::unique_ptr<std::byte[]>> converted;
  size_t mapped_bytes = 0;     // of the tensors that are used in place
  size_t converted_bytes = 0;  // of the copies
  uint64_t fingerprint = 0;    // of the stored weights and the matrix dtype, for state files
};

struct WeightLoaderOptions {
  // Element type of every Tensor(); empty: as stored. A tensor stored in another type is converted
  // into memory of its own (narrowing rounds to nearest even).
  std::optional<DType> matrix_dtype;
};

// The name of a tensor, or the names it may have, most usual first. The first that exists is taken.
class TensorName {
 public:
  TensorName(const char* name) : names_{name} {}             // NOLINT: implicit by design
  TensorName(std::string name) : names_{std::move(name)} {}  // NOLINT: implicit by design
  TensorName(std::initializer_list<std::string> names) : names_(names) {}
  const std::vector<std::string>& names() const { return names_; }

 private:
  std::vector<std::string> names_;
};

class WeightLoader {
 public:
  using Shape = std::vector<int64_t>;

  explicit WeightLoader(std::shared_ptr<const WeightsReader> reader,
                        WeightLoaderOptions options = {});

  bool Has(const TensorName& name) const { return Find(name) != nullptr; }

  // A tensor that is read as it is stored (matrices: they are large and stay mapped).
  absl::StatusOr<WeightView> Tensor(const TensorName& name, const Shape& shape);
  // The same, widened to float32 into memory of the caller (norms, biases, convolutions, A_log, D).
  absl::StatusOr<std::vector<float>> Vector(const TensorName& name, const Shape& shape);
  // Null view or empty vector if there is no such tensor.
  absl::StatusOr<WeightView> OptionalTensor(const TensorName& name, const Shape& shape);
  absl::StatusOr<std::vector<float>> OptionalVector(const TensorName& name, const Shape& shape);

  // InvalidArgument, with their names, if tensors are left that nobody asked for: the config or the
  // family must be wrong then. Buffers that old exporters wrote along are ignored.
  absl::StatusOr<std::shared_ptr<const WeightStorage>> Finish() &&;

 private:
  const StoredTensor* Find(const TensorName& name) const;
  // Finds the tensor, checks it and marks it as used.
  absl::StatusOr<const StoredTensor*> Take(const TensorName& name, const Shape& shape);

  WeightLoaderOptions options_;
  std::shared_ptr<WeightStorage> storage_;
  absl::flat_hash_set<const StoredTensor*> used_;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_WEIGHT_LOADER_H_
