// Element types of weights and activations.
#ifndef SIDEWINDER_KERNELS_COMMON_DTYPE_H_
#define SIDEWINDER_KERNELS_COMMON_DTYPE_H_

#include <cstddef>
#include <cstdint>

namespace sidewinder {

enum class DType : uint8_t { kFloat32, kBFloat16, kFloat16 };

constexpr size_t SizeOf(DType dtype) { return dtype == DType::kFloat32 ? 4 : 2; }

constexpr const char* Name(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "float32";
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kFloat16:
      return "float16";
  }
  return "unknown";
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_DTYPE_H_
