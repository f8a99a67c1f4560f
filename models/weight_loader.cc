#include "models/weight_loader.h"

#include <cmath>
#include <cstring>
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

template <class T>
T LoadUnaligned(const std::byte* data) {
  T value;
  std::memcpy(&value, data, sizeof(T));
  return value;
}

// Calls `write(i, value)` for every element of `tensor`, widened to float32.
template <class Write>
void ForEachAsFloat(const StoredTensor& tensor, Write write) {
  const size_t count = tensor.size / SizeOf(*tensor.dtype);
  const std::byte* data = tensor.data;
  switch (*tensor.dtype) {
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

void Convert(const StoredTensor& tensor, DType dtype, std::byte* out) {
  if (dtype == *tensor.dtype) {
    std::memcpy(out, tensor.data, tensor.size);
    return;
  }
  switch (dtype) {
    case DType::kFloat32: {
      float* floats = reinterpret_cast<float*>(out);
      ForEachAsFloat(tensor, [floats](size_t i, float value) { floats[i] = value; });
      return;
    }
    case DType::kBFloat16: {
      uint16_t* halves = reinterpret_cast<uint16_t*>(out);
      ForEachAsFloat(tensor,
                     [halves](size_t i, float value) { halves[i] = FloatToBFloat16(value); });
      return;
    }
    case DType::kFloat16: {
      uint16_t* halves = reinterpret_cast<uint16_t*>(out);
      ForEachAsFloat(tensor,
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

absl::StatusOr<WeightView> WeightLoader::Tensor(const TensorName& name, const Shape& shape) {
  if (synthetic_) return Random(shape);
  SW_ASSIGN_OR_RETURN(const StoredTensor* tensor, Take(name, shape));
  const DType dtype = options_.matrix_dtype.value_or(*tensor->dtype);
  if (!on_cpu()) {
    if (dtype == *tensor->dtype) return Upload(tensor->data, dtype, shape);
    const size_t count = tensor->size / SizeOf(*tensor->dtype);
    const std::unique_ptr<std::byte[]> converted(new std::byte[count * SizeOf(dtype)]);
    Convert(*tensor, dtype, converted.get());
    return Upload(converted.get(), dtype, shape);
  }
  // A header of odd length misaligns the whole file; ops want elements aligned.
  const bool aligned = reinterpret_cast<uintptr_t>(tensor->data) % SizeOf(dtype) == 0;
  if (dtype == *tensor->dtype && aligned) {
    storage_->mapped_bytes += tensor->size;
    return WeightView{tensor->data, dtype, tensor->size};
  }
  const size_t size = tensor->size / SizeOf(*tensor->dtype) * SizeOf(dtype);
  std::unique_ptr<std::byte[]> copy(new std::byte[size]);  // not zeroed: written at once
  Convert(*tensor, dtype, copy.get());
  const WeightView view{copy.get(), dtype, size};
  storage_->converted.push_back(std::move(copy));
  storage_->converted_bytes += size;
  return view;
}

absl::StatusOr<std::vector<float>> WeightLoader::Vector(const TensorName& name,
                                                        const Shape& shape) {
  if (synthetic_)
    return SyntheticVector(name.names().front(), shape, synthetic_->seed + num_random_++);
  SW_ASSIGN_OR_RETURN(const StoredTensor* tensor, Take(name, shape));
  std::vector<float> values(tensor->size / SizeOf(*tensor->dtype));
  ForEachAsFloat(*tensor, [&values](size_t i, float value) { values[i] = value; });
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

absl::StatusOr<VectorView> WeightLoader::Place(std::vector<float> values) {
  if (values.empty()) return VectorView{};
  const int64_t count = static_cast<int64_t>(values.size());
  const size_t bytes = values.size() * sizeof(float);
  if (on_cpu()) {
    std::unique_ptr<std::byte[]> copy(new std::byte[bytes]);
    std::memcpy(copy.get(), values.data(), bytes);
    const VectorView view{reinterpret_cast<const float*>(copy.get()), count};
    storage_->converted.push_back(std::move(copy));
    return view;
  }
  SW_ASSIGN_OR_RETURN(ExecutionContext* const ctx, UploadContext());
  SW_ASSIGN_OR_RETURN(DeviceMemory memory, options_.device->Allocate(bytes, "weights"));
  CopyIn(*ctx, memory.data(), values.data(), bytes);
  SW_RETURN_IF_ERROR(stream_->status());
  const VectorView view{memory.as<float>(), count};
  storage_->device.push_back(std::move(memory));
  return view;
}

absl::StatusOr<VectorView> WeightLoader::PlacedVector(const TensorName& name, const Shape& shape) {
  SW_ASSIGN_OR_RETURN(std::vector<float> values, Vector(name, shape));
  return Place(std::move(values));
}

absl::StatusOr<std::shared_ptr<const WeightStorage>> WeightLoader::Finish() && {
  if (synthetic_) {
    storage_->fingerprint = SyntheticFingerprint(*synthetic_, num_random_);
    return std::shared_ptr<const WeightStorage>(std::move(storage_));
  }
  std::vector<std::string> surplus;
  for (const StoredTensor& tensor : storage_->reader->tensors()) {
    if (!used_.contains(&tensor) && !IsHarmless(tensor.name)) {
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
  storage_->fingerprint =
      storage_->reader->Fingerprint() ^ (dtype_tag * uint64_t{0x9e3779b97f4a7c15});
  return std::shared_ptr<const WeightStorage>(std::move(storage_));
}

}  // namespace sidewinder
