// How a model family takes its tensors from a folder: every tensor by name, with the shape that the
// config implies, and nothing may be left over.
//
//   WeightLoader loader(reader, {.matrix_dtype = DType::kBFloat16});
//   SW_ASSIGN_OR_RETURN(w.embedding, loader.Tensor({"backbone.embeddings.weight",
//                                                   "backbone.embedding.weight"}, {vocab,
//                                                   hidden}));
//   SW_ASSIGN_OR_RETURN(w.norm, loader.PlacedVector("backbone.norm_f.weight", {hidden}));
//   SW_ASSIGN_OR_RETURN(w.storage, std::move(loader).Finish());
//
// Errors: NotFound if a tensor is missing, InvalidArgument if its shape or type is wrong; both name
// the file, the tensor, what was found and what is legal. Not thread-safe.
#ifndef SIDEWINDER_MODELS_WEIGHT_LOADER_H_
#define SIDEWINDER_MODELS_WEIGHT_LOADER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
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
#include "runtime/device.h"
#include "runtime/weights.h"

namespace sidewinder {

// A matrix as ops take it (LinearParams::weight): aligned to its element; on the CPU row-major, on
// CUDA packed if its type has 16 bits. Lives as long as the WeightStorage.
struct WeightView {
  const void* data = nullptr;  // null: an optional tensor that is not there
  DType dtype = DType::kFloat32;
  size_t size = 0;  // bytes of its elements

  explicit operator bool() const { return data != nullptr; }
};

// Float32 values in the device's memory. Lives as long as the WeightStorage.
struct VectorView {
  const float* data = nullptr;  // null: an optional tensor that is not there
  int64_t size = 0;

  explicit operator bool() const { return data != nullptr; }
};

// The matrices of experts, one after the other.
struct ExpertView {
  const void* const* data = nullptr;  // [num_experts] in the device's memory
  DType dtype = DType::kFloat32;
};

// Bytes and counts for figures and floors.
struct WeightFigures {
  int64_t num_parameters = 0;  // a tied head counts once
  int64_t bytes_per_pass = 0;  // weights that a decoding pass of one row reads
  DType matrix_dtype = DType::kFloat32;
  uint64_t fingerprint = 0;  // of the stored weights and the matrix dtype, for state files
};

// Keeps what the views point into: the mapped files, the converted tensors, device memory.
struct WeightStorage {
  std::shared_ptr<const WeightsReader> reader;
  std::vector<std::unique_ptr<std::byte[]>> converted;
  std::vector<DeviceMemory> device;
  size_t mapped_bytes = 0;     // of the tensors that are used in place
  size_t converted_bytes = 0;  // of the copies
  WeightFigures figures;
};

// Random weights of the shapes that a model asks for, instead of a folder: for benchmarks.
struct SyntheticWeights {
  std::string name;   // for messages
  uint64_t seed = 1;  // with the order of the tensors, decides every value
};

struct WeightLoaderOptions {
  std::shared_ptr<const Device> device;  // where the weights go; null: the CPU
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
  explicit WeightLoader(SyntheticWeights synthetic, WeightLoaderOptions options = {});

  // Whether there are no files: every tensor that is asked for exists then, and Has() is false.
  bool synthetic() const { return synthetic_.has_value(); }
  bool Has(const TensorName& name) const { return Find(name) != nullptr; }

  // A tensor that is read as it is stored (matrices: they are large and stay mapped). A pass of one
  // row reads `read_share` of it.
  absl::StatusOr<WeightView> Tensor(const TensorName& name, const Shape& shape,
                                    double read_share = 1.0);
  // Matrices of `columns` columns and rows[i] rows each, put one below the other, so that one
  // product takes all of them. A copy on the CPU, too, unless there is only one.
  absl::StatusOr<WeightView> Stacked(const std::vector<TensorName>& names,
                                     const std::vector<int64_t>& rows, int64_t columns,
                                     double read_share = 1.0);
  // The same in another order: row i is row order[i] of the stack. Has every row once.
  absl::StatusOr<WeightView> Reordered(const std::vector<TensorName>& names,
                                       const std::vector<int64_t>& rows, int64_t columns,
                                       const std::vector<int64_t>& order);
  // Matrices [rows, columns] of `count` experts, of which a row reads `num_read`. `stacked` is one
  // tensor [count, rows, columns]; where it is not there, expert e has the matrices parts(e), which
  // are put one below the other.
  absl::StatusOr<ExpertView> Experts(
      const TensorName& stacked, int64_t count, int64_t num_read,
      const std::function<std::vector<TensorName>(int64_t expert)>& parts,
      const std::vector<int64_t>& part_rows, int64_t columns);
  // The same, widened to float32 into memory of the caller (norms, biases, convolutions, A_log, D).
  absl::StatusOr<std::vector<float>> Vector(const TensorName& name, const Shape& shape);
  // Null view or empty vector if there is no such tensor.
  absl::StatusOr<WeightView> OptionalTensor(const TensorName& name, const Shape& shape);
  absl::StatusOr<std::vector<float>> OptionalVector(const TensorName& name, const Shape& shape);

  // Brings values to the device; an empty vector gives a null view.
  absl::StatusOr<VectorView> Place(std::vector<float> values);
  // The same for numbers of columns.
  absl::StatusOr<const int32_t*> Place(const std::vector<int32_t>& values);
  // Place(Vector(...)).
  absl::StatusOr<VectorView> PlacedVector(const TensorName& name, const Shape& shape);

  // Tensors whose names begin so may be left over.
  void Ignore(absl::string_view prefix) { ignored_.emplace_back(prefix); }

  // InvalidArgument, with their names, if tensors are left that nobody asked for: the config or the
  // family must be wrong then. Buffers that old exporters wrote along are ignored.
  absl::StatusOr<std::shared_ptr<const WeightStorage>> Finish() &&;

 private:
  const StoredTensor* Find(const TensorName& name) const;
  // Finds the tensor, checks it and marks it as used.
  absl::StatusOr<const StoredTensor*> Take(const TensorName& name, const Shape& shape);
  absl::StatusOr<ExecutionContext*> UploadContext();
  absl::StatusOr<WeightView> Upload(const void* row_major, DType dtype, const Shape& shape);
  // Brings bytes to the device as they are.
  absl::StatusOr<const void*> PlaceBytes(const void* data, size_t bytes);
  // A matrix in memory of this process, in the type that Tensor() gives it.
  absl::StatusOr<WeightView> Matrix(const StoredTensor& tensor, const std::byte* data,
                                    const Shape& shape);
  // Stacked and, unless order is null, Reordered.
  absl::StatusOr<WeightView> Assembled(const std::vector<TensorName>& names,
                                       const std::vector<int64_t>& rows, int64_t columns,
                                       double read_share, const std::vector<int64_t>* order);
  void Count(int64_t elements, DType dtype, double read_share);
  absl::StatusOr<WeightView> Random(const Shape& shape);

  bool on_cpu() const {
    return options_.device == nullptr || options_.device->type() == DeviceType::kCpu;
  }

  WeightLoaderOptions options_;
  std::optional<SyntheticWeights> synthetic_;
  uint64_t num_random_ = 0;  // synthetic tensors so far
  std::unique_ptr<Stream> stream_;
  std::shared_ptr<WeightStorage> storage_;
  absl::flat_hash_set<const StoredTensor*> used_;
  std::vector<std::string> ignored_;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_WEIGHT_LOADER_H_
