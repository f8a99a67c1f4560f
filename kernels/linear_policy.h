// How products with packed weights are cut into pieces: a function of the matrix alone, because the
// order in which partial sums are added follows from it.
//
// The reduction is cut into k-steps of 16 inputs, and these into kSlices slices, as even as whole
// k-steps allow. A slice is the sum of its k-steps in order, as the tensor cores add them, and an
// output is 0 + slice[0] + ... + slice[7].
#ifndef SIDEWINDER_KERNELS_LINEAR_POLICY_H_
#define SIDEWINDER_KERNELS_LINEAR_POLICY_H_

#include <cstdint>

#include "kernels/common/host_device.h"

namespace sidewinder {

inline constexpr int32_t kSlices{8};

// The first k-step of a slice.
SW_HOST_DEVICE constexpr int32_t SliceBegin(int32_t slice, int32_t k_steps) {
  return static_cast<int32_t>(static_cast<int64_t>(slice) * k_steps / kSlices);
}

// K-steps of the longest slice.
SW_HOST_DEVICE constexpr int32_t MaxSliceSteps(int32_t k_steps) {
  return (k_steps + kSlices - 1) / kSlices;
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_LINEAR_POLICY_H_
