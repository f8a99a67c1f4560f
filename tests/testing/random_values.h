// Reproducible test data.
#ifndef SIDEWINDER_TESTS_TESTING_RANDOM_VALUES_H_
#define SIDEWINDER_TESTS_TESTING_RANDOM_VALUES_H_

#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/common/dtype.h"

namespace sidewinder::testing {

// `size` values, uniform in [low, high).
inline std::vector<float> RandomValues(int64_t size, uint32_t seed, float low = -1,
                                       float high = 1) {
  std::mt19937 generator(seed);
  std::vector<float> values(size);
  for (float& value : values) {
    value = low + (high - low) * static_cast<float>(generator() >> 8) * 0x1p-24f;
  }
  return values;
}

// `size` weights of `dtype` in [-1, 1), `offset` bytes behind the start of the vector: a mapped
// file aligns its tensors to their element at best.
inline std::vector<char> RandomWeights(int64_t size, DType dtype, uint32_t seed,
                                       int64_t offset = 0) {
  std::mt19937 generator(seed);
  std::vector<char> bytes(offset + size * SizeOf(dtype));
  for (int64_t i = 0; i < size; ++i) {
    const float value = static_cast<float>(static_cast<int32_t>(generator()) >> 8) * 0x1p-23f;
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    if (dtype == DType::kBFloat16) bits >>= 16;
    if (dtype == DType::kFloat16) {  // below 2^-14 to zero, the rest truncated
      const uint32_t exponent = bits >> 23 & 255;
      const uint32_t magnitude =
          exponent < 113 ? 0 : ((exponent - 112) << 10 | (bits >> 13 & 1023));
      bits = (bits >> 16 & 0x8000) | magnitude;
    }
    std::memcpy(bytes.data() + offset + i * SizeOf(dtype), &bits, SizeOf(dtype));
  }
  return bytes;
}

}  // namespace sidewinder::testing

#endif  // SIDEWINDER_TESTS_TESTING_RANDOM_VALUES_H_
