#include "models/weight_loader.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "kernels/common/check.h"
#include "kernels/common/copy.h"
#include "kernels/pack_weights.h"
#include "models/synthetic.h"
#include "runtime/float_convert.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

constexpr size_t kListedTensors{8};  // in messages

std::string ShapeText(const std::vector<int64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

int64_t NumElements(const std::vector<int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

template <class T>
T LoadUnaligned(const std::byte* data) {
  T value;
  std::memcpy(&value, data, sizeof(T));
  return value;
}

// Calls `write(i, value)` for every element of `data`, widened to float32.
template <class Write>
void ForEachAsFloat(const std::byte* data, size_t count, DType from, Write write) {
  switch (from) {
    case DType::kFloat32:
      for (size_t i = 0; i < count; ++i) write(i, LoadUnaligned<float>(data + 4 * i));
      return;
    case DType::kBFloat16:
      for (size_t i = 0; i < count; ++i) {
        write(i, BFloat16ToFloat(LoadUnaligned<uint16_t>(data + 2 * i)));
      }
      return;
    case DType::kFloat16:
      for (size_t i = 0; i < count; ++i) {
        write(i, Float16ToFloat(LoadUnaligned<uint16_t>(data + 2 * i)));
      }
      return;
  }
}

void Convert(const std::byte* data, size_t count, DType from, DType dtype, std::byte* out) {
  if (dtype == from) {
    std::memcpy(out, data, count * SizeOf(dtype));
    return;
  }
  switch (dtype) {
    case DType::kFloat32: {
      float* floats = reinterpret_cast<float*>(out);
      ForEachAsFloat(data, count, from, [floats](size_t i, float value) { floats[i] = value; });
      return;
    }
    case DType::kBFloat16: {
      uint16_t* halves = reinterpret_cast<uint16_t*>(out);
      ForEachAsFloat(data, count, from,
                     [halves](size_t i, float value) { halves[i] = FloatToBFloat16(value); });
      return;
    }
    case DType::kFloat16: {
      uint16_t* halves = reinterpret_cast<uint16_t*>(out);
      ForEachAsFloat(data, count, from,
                     [halves](size_t i, float value) { halves[i] = FloatToFloat16(value); });
      return;
    }
  }
}

// Constants that some exporters store although the config implies them.
bool IsHarmless(absl::string_view name) { return absl::EndsWith(name, "rotary_emb.inv_freq"); }

}  // namespace

WeightLoader::WeightLoader(std::shared_ptr<const WeightsReader> reader, WeightLoaderOptions options)
    : options_(std::move(options)), storage_(std::make_shared<WeightStorage>()) {
  storage_->reader = std::move(reader);
}

WeightLoader::WeightLoader(SyntheticWeights synthetic, WeightLoaderOptions options)
    : options_(std::move(options)),
      synthetic_(std::move(synthetic)),
      storage_(std::make_shared<WeightStorage>()) {}

const StoredTensor* WeightLoader::Find(const TensorName& name) const {
  if (synthetic_) return nullptr;
  for (const std::string& candidate : name.names()) {
    if (const StoredTensor* tensor = storage_->reader->Find(candidate)) return tensor;
  }
  return nullptr;
}

absl::StatusOr<const StoredTensor*> WeightLoader::Take(const TensorName& name, const Shape& shape) {
  const StoredTensor* tensor = Find(name);
  if (tensor == nullptr) {
    return absl::NotFoundError(
        absl::StrFormat("%s has no tensor \"%s\", which must be %s", storage_->reader->name(),
                        absl::StrJoin(name.names(), "\" or \""), ShapeText(shape)));
  }
  if (tensor->shape != shape) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: tensor \"%s\" is %s; the config implies %s", tensor->file,
                        tensor->name, ShapeText(tensor->shape), ShapeText(shape)));
  }
  if (!tensor->dtype) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: tensor \"%s\" has the type %s; legal are F32, BF16 and F16",
                        tensor->file, tensor->name, tensor->dtype_name));
  }
  used_.insert(tensor);
  return tensor;
}

void WeightLoader::Count(int64_t elements, DType dtype, double read_share) {
  WeightFigures& figures = storage_->figures;
  figures.num_parameters += elements;
  figures.matrix_dtype = dtype;
  figures.bytes_per_pass += static_cast<int64_t>(read_share * static_cast<double>(elements) *
                                                 static_cast<double>(SizeOf(dtype)));
}

absl::StatusOr<WeightView> WeightLoader::Tensor(const TensorName& name, const Shape& shape,
                                                double read_share) {
  if (synthetic_) {
    SW_ASSIGN_OR_RETURN(const WeightView view, Random(shape));
    Count(NumElements(shape), view.dtype, read_share);
    return view;
  }
  SW_ASSIGN_OR_RETURN(const StoredTensor* tensor, Take(name, shape));
  SW_ASSIGN_OR_RETURN(const WeightView view, Matrix(*tensor, tensor->data, shape));
  Count(NumElements(shape), view.dtype, read_share);
  return view;
}

absl::StatusOr<WeightView> WeightLoader::Matrix(const StoredTensor& tensor, const std::byte* data,
                                                const Shape& shape) {
  const DType dtype = options_.matrix_dtype.value_or(*tensor.dtype);
  const size_t count = static_cast<size_t>(NumElements(shape));
  const size_t size = count * SizeOf(dtype);
  if (!on_cpu()) {
    if (dtype == *tensor.dtype) return Upload(data, dtype, shape);
    const std::unique_ptr<std::byte[]> converted(new std::byte[size]);
    Convert(data, count, *tensor.dtype, dtype, converted.get());
    return Upload(converted.get(), dtype, shape);
  }
  // A header of odd length misaligns the whole file; ops want elements aligned.
  const bool aligned = reinterpret_cast<uintptr_t>(data) % SizeOf(dtype) == 0;
  if (dtype == *tensor.dtype && aligned) {
    storage_->mapped_bytes += size;
    return WeightView{data, dtype, size};
  }
  std::unique_ptr<std::byte[]> copy(new std::byte[size]);  // not zeroed: written at once
  Convert(data, count, *tensor.dtype, dtype, copy.get());
  const WeightView view{copy.get(), dtype, size};
  storage_->converted.push_back(std::move(copy));
  storage_->converted_bytes += size;
  return view;
}

absl::StatusOr<WeightView> WeightLoader::Stacked(const std::vector<TensorName>& names,
                                                 const std::vector<int64_t>& rows, int64_t columns,
                                                 double read_share) {
  SW_CHECK(!names.empty() && names.size() == rows.size());
  if (names.size() == 1) return Tensor(names[0], {rows[0], columns}, read_share);
  return Assembled(names, rows, columns, read_share, nullptr);
}

absl::StatusOr<WeightView> WeightLoader::Reordered(const std::vector<TensorName>& names,
                                                   const std::vector<int64_t>& rows,
                                                   int64_t columns,
                                                   const std::vector<int64_t>& order) {
  return Assembled(names, rows, columns, /*read_share=*/1.0, &order);
}

absl::StatusOr<WeightView> WeightLoader::Assembled(const std::vector<TensorName>& names,
                                                   const std::vector<int64_t>& rows,
                                                   int64_t columns, double read_share,
                                                   const std::vector<int64_t>* order) {
  const Shape shape = {std::accumulate(rows.begin(), rows.end(), int64_t{0}), columns};
  SW_CHECK(order == nullptr || static_cast<int64_t>(order->size()) == shape[0]);
  if (synthetic_) {
    SW_ASSIGN_OR_RETURN(const WeightView view, Random(shape));
    Count(shape[0] * columns, view.dtype, read_share);
    return view;
  }
  std::vector<const StoredTensor*> parts;
  for (size_t i = 0; i < names.size(); ++i) {
    SW_ASSIGN_OR_RETURN(const StoredTensor* part, Take(names[i], {rows[i], columns}));
    parts.push_back(part);
  }
  // Of several types, float32 holds all of them.
  DType dtype = *parts[0]->dtype;
  for (const StoredTensor* part : parts) {
    if (part->dtype != dtype) dtype = DType::kFloat32;
  }
  dtype = options_.matrix_dtype.value_or(dtype);
  const size_t row_bytes = static_cast<size_t>(columns) * SizeOf(dtype);
  const size_t size = static_cast<size_t>(shape[0]) * row_bytes;
  std::unique_ptr<std::byte[]> stacked(new std::byte[size]);
  std::byte* next = stacked.get();
  for (const StoredTensor* part : parts) {
    const size_t count = part->size / SizeOf(*part->dtype);
    Convert(part->data, count, *part->dtype, dtype, next);
    next += count * SizeOf(dtype);
  }
  if (order != nullptr) {
    std::unique_ptr<std::byte[]> reordered(new std::byte[size]);
    for (int64_t i = 0; i < shape[0]; ++i) {
      std::memcpy(reordered.get() + i * row_bytes, stacked.get() + (*order)[i] * row_bytes,
                  row_bytes);
    }
    stacked = std::move(reordered);
  }
  Count(shape[0] * columns, dtype, read_share);
  if (!on_cpu()) return Upload(stacked.get(), dtype, shape);
  const WeightView view{stacked.get(), dtype, size};
  storage_->converted.push_back(std::move(stacked));
  storage_->converted_bytes += size;
  return view;
}

absl::StatusOr<ExpertView> WeightLoader::Experts(
    const TensorName& stacked, int64_t count, int64_t num_read,
    const std::function<std::vector<TensorName>(int64_t expert)>& parts,
    const std::vector<int64_t>& part_rows, int64_t columns) {
  const int64_t rows = std::accumulate(part_rows.begin(), part_rows.end(), int64_t{0});
  const double read_share = static_cast<double>(num_read) / static_cast<double>(count);
  ExpertView view;
  std::vector<const void*> matrices;
  const StoredTensor* all = nullptr;
  if (Has(stacked)) {
    SW_ASSIGN_OR_RETURN(all, Take(stacked, {count, rows, columns}));
  }
  for (int64_t e = 0; e < count; ++e) {
    WeightView matrix;
    if (all != nullptr) {
      const std::byte* data = all->data + e * rows * columns * SizeOf(*all->dtype);
      SW_ASSIGN_OR_RETURN(matrix, Matrix(*all, data, {rows, columns}));
      Count(rows * columns, matrix.dtype, read_share);
    } else {
      SW_ASSIGN_OR_RETURN(matrix, Stacked(parts(e), part_rows, columns, read_share));
    }
    if (e > 0 && matrix.dtype != view.dtype) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: the experts' matrices \"%s\" have different types",
                          storage_->reader->name(), absl::StrJoin(stacked.names(), "\" or \"")));
    }
    view.dtype = matrix.dtype;
    matrices.push_back(matrix.data);
  }
  SW_ASSIGN_OR_RETURN(const void* array,
                      PlaceBytes(matrices.data(), matrices.size() * sizeof(matrices[0])));
  view.data = static_cast<const void* const*>(array);
  return view;
}

absl::StatusOr<std::vector<float>> WeightLoader::Vector(const TensorName& name,
                                                        const Shape& shape) {
  std::vector<float> values;
  if (synthetic_) {
    values = SyntheticVector(name.names().front(), shape, synthetic_->seed + num_random_++);
  } else {
    SW_ASSIGN_OR_RETURN(const StoredTensor* tensor, Take(name, shape));
    values.resize(tensor->size / SizeOf(*tensor->dtype));
    ForEachAsFloat(tensor->data, values.size(), *tensor->dtype,
                   [&values](size_t i, float value) { values[i] = value; });
  }
  storage_->figures.num_parameters += static_cast<int64_t>(values.size());
  storage_->figures.bytes_per_pass += static_cast<int64_t>(values.size() * sizeof(float));
  return values;
}

absl::StatusOr<WeightView> WeightLoader::OptionalTensor(const TensorName& name,
                                                        const Shape& shape) {
  return Has(name) ? Tensor(name, shape) : WeightView{};
}

absl::StatusOr<std::vector<float>> WeightLoader::OptionalVector(const TensorName& name,
                                                                const Shape& shape) {
  return Has(name) ? Vector(name, shape) : std::vector<float>{};
}

absl::StatusOr<ExecutionContext*> WeightLoader::UploadContext() {
  if (stream_ == nullptr) {
    SW_ASSIGN_OR_RETURN(stream_, options_.device->CreateStream());
  }
  return &stream_->context();
}

absl::StatusOr<WeightView> WeightLoader::Upload(const void* row_major, DType dtype,
                                                const Shape& shape) {
  SW_CHECK(shape.size() == 2);
  SW_ASSIGN_OR_RETURN(ExecutionContext* const ctx, UploadContext());
  const size_t bytes = static_cast<size_t>(shape[0] * shape[1]) * SizeOf(dtype);
  SW_ASSIGN_OR_RETURN(DeviceMemory memory, options_.device->Allocate(bytes, "weights"));
  CopyIn(*ctx, memory.data(), row_major, bytes);
  if (dtype != DType::kFloat32) {
    SW_ASSIGN_OR_RETURN(DeviceMemory packed,
                        options_.device->Allocate(PackedBytes(shape[0], shape[1]), "weights"));
    PackWeights(*ctx, {.row_major = memory.data(),
                       .packed = packed.data(),
                       .out_dim = shape[0],
                       .in_dim = shape[1]});
    SW_RETURN_IF_ERROR(stream_->Synchronize());
    memory = std::move(packed);
  }
  SW_RETURN_IF_ERROR(stream_->Synchronize());
  const WeightView view{memory.data(), dtype, bytes};
  storage_->device.push_back(std::move(memory));
  return view;
}

absl::StatusOr<WeightView> WeightLoader::Random(const Shape& shape) {
  const DType dtype = options_.matrix_dtype.value_or(DType::kBFloat16);
  const uint64_t seed = synthetic_->seed + num_random_++;
  const size_t bytes = static_cast<size_t>(shape[0] * shape[1]) * SizeOf(dtype);
  // A product of normalised rows then has values of about 1.
  const float scale = std::sqrt(3.0f / static_cast<float>(shape[1]));
  if (on_cpu()) {
    std::unique_ptr<std::byte[]> values(new std::byte[bytes]);
    SyntheticMatrix(shape[0] * shape[1], dtype, scale, seed, values.get());
    const WeightView view{values.get(), dtype, bytes};
    storage_->converted.push_back(std::move(values));
    storage_->converted_bytes += bytes;
    return view;
  }
  SW_ASSIGN_OR_RETURN(ExecutionContext* const ctx, UploadContext());
  const size_t size = dtype == DType::kFloat32 ? bytes : PackedBytes(shape[0], shape[1]);
  SW_ASSIGN_OR_RETURN(DeviceMemory memory, options_.device->Allocate(size, "weights"));
  RandomWeights(*ctx, {.weights = memory.data(),
                       .dtype = dtype,
                       .out_dim = shape[0],
                       .in_dim = shape[1],
                       .scale = scale,
                       .seed = seed});
  SW_RETURN_IF_ERROR(stream_->Synchronize());
  const WeightView view{memory.data(), dtype, bytes};
  storage_->device.push_back(std::move(memory));
  return view;
}

absl::StatusOr<const void*> WeightLoader::PlaceBytes(const void* data, size_t bytes) {
  if (on_cpu()) {
    std::unique_ptr<std::byte[]> copy(new std::byte[bytes]);
    std::memcpy(copy.get(), data, bytes);
    const void* const placed = copy.get();
    storage_->converted.push_back(std::move(copy));
    return placed;
  }
  SW_ASSIGN_OR_RETURN(ExecutionContext* const ctx, UploadContext());
  SW_ASSIGN_OR_RETURN(DeviceMemory memory, options_.device->Allocate(bytes, "weights"));
  CopyIn(*ctx, memory.data(), data, bytes);
  SW_RETURN_IF_ERROR(stream_->status());
  const void* const placed = memory.data();
  storage_->device.push_back(std::move(memory));
  return placed;
}

absl::StatusOr<VectorView> WeightLoader::Place(std::vector<float> values) {
  if (values.empty()) return VectorView{};
  SW_ASSIGN_OR_RETURN(const void* placed, PlaceBytes(values.data(), values.size() * sizeof(float)));
  return VectorView{static_cast<const float*>(placed), static_cast<int64_t>(values.size())};
}

absl::StatusOr<const int32_t*> WeightLoader::Place(const std::vector<int32_t>& values) {
  SW_ASSIGN_OR_RETURN(const void* placed,
                      PlaceBytes(values.data(), values.size() * sizeof(int32_t)));
  return static_cast<const int32_t*>(placed);
}

absl::StatusOr<VectorView> WeightLoader::PlacedVector(const TensorName& name, const Shape& shape) {
  SW_ASSIGN_OR_RETURN(std::vector<float> values, Vector(name, shape));
  return Place(std::move(values));
}

absl::StatusOr<std::shared_ptr<const WeightStorage>> WeightLoader::Finish() && {
  if (synthetic_) {
    storage_->figures.fingerprint = SyntheticFingerprint(*synthetic_, num_random_);
    return std::shared_ptr<const WeightStorage>(std::move(storage_));
  }
  std::vector<std::string> surplus;
  for (const StoredTensor& tensor : storage_->reader->tensors()) {
    const bool ignored = std::any_of(
        ignored_.begin(), ignored_.end(),
        [&tensor](const std::string& prefix) { return absl::StartsWith(tensor.name, prefix); });
    if (!ignored && !used_.contains(&tensor) && !IsHarmless(tensor.name)) {
      surplus.push_back(absl::StrFormat("\"%s\" %s in %s", absl::Utf8SafeCEscape(tensor.name),
                                        ShapeText(tensor.shape), tensor.file));
    }
  }
  if (!surplus.empty()) {
    const size_t count = surplus.size();
    if (count > kListedTensors) {
      surplus.resize(kListedTensors);
      surplus.push_back("...");
    }
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: %d tensors have no place in the model that the config describes: %s",
                        storage_->reader->name(), count, absl::StrJoin(surplus, ", ")));
  }
  const uint64_t dtype_tag =
      options_.matrix_dtype ? static_cast<uint64_t>(*options_.matrix_dtype) + 1 : 0;
  // An odd factor and a shift keep distinct pairs apart well enough beside a 64-bit hash.
  storage_->figures.fingerprint =
      storage_->reader->Fingerprint() ^ (dtype_tag * uint64_t{0x9e3779b97f4a7c15});
  return std::shared_ptr<const WeightStorage>(std::move(storage_));
}

}  // namespace sidewinder
