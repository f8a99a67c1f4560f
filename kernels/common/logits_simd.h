// The two vector loops of sampling; everything else about it is scalar.
#ifndef SIDEWINDER_KERNELS_COMMON_LOGITS_SIMD_H_
#define SIDEWINDER_KERNELS_COMMON_LOGITS_SIMD_H_

#include <cstdint>

namespace sidewinder {

// Index of the largest of n >= 1 values, the lowest of equals. NaN counts as smaller than anything.
int32_t ArgMax(const float* values, int64_t n);

// probs[i] = exp((logits[i] - max) * inverse_temperature).
void ExpShifted(const float* logits, int64_t n, float max, float inverse_temperature, float* probs);

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_LOGITS_SIMD_H_
