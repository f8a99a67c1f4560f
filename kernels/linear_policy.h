// How products with packed weights are cut into pieces: a function of the matrix and the device
// alone, because the order in which partial sums are added follows from it.
//
// The reduction is cut into k-steps of 16 inputs, and these into parts * kSlicesPerPart slices, as
// even as whole k-steps allow. An output is
//   0 + part[0] + part[1] + ...       part = 0 + slice[0] + ... + slice[7]
// and a slice is the sum of its k-steps in order, as the tensor cores add them. A part of a tile of
// 16 outputs is a unit; blocks take units in turn.
#ifndef SIDEWINDER_KERNELS_LINEAR_POLICY_H_
#define SIDEWINDER_KERNELS_LINEAR_POLICY_H_

#include <cstdint>

#include "kernels/pack_weights.h"

#ifdef __CUDACC__
#define SW_LINEAR_HOST_DEVICE __host__ __device__
#else
#define SW_LINEAR_HOST_DEVICE
#endif

namespace sidewinder {

inline constexpr int32_t kSlicesPerPart{8};

struct LinearPolicy {
  int32_t parts;   // 0: the shape is not supported
  int32_t blocks;  // with few rows; a multiple of parts, at most one a multiprocessor
  friend constexpr bool operator==(const LinearPolicy&, const LinearPolicy&) = default;
};

// The first k-step of a slice.
SW_LINEAR_HOST_DEVICE constexpr int32_t SliceBegin(int32_t slice, int32_t num_slices,
                                                   int32_t k_steps) {
  return static_cast<int32_t>(static_cast<int64_t>(slice) * k_steps / num_slices);
}

// K-steps of a part whose inputs, 16 rows of them, fit into shared memory beside the weights in
// flight.
constexpr int32_t MaxPartSteps(int32_t compute_capability) {
  if (compute_capability == 90) return 200;
  const bool large =
      compute_capability == 80 || (compute_capability >= 100 && compute_capability < 110);
  return large ? 172 : 60;
}

// Weighs, in k-steps of one block, what the fullest block streams against what combining parts
// costs: a unit costs about 3 beyond its weights, and a last exchange through the second-level
// cache that nothing hides costs about 1 us, as long as a multiprocessor streams 46 k-steps.
constexpr LinearPolicy SelectLinearPolicy(int64_t out_dim, int64_t in_dim,
                                          int32_t num_multiprocessors, int32_t compute_capability) {
  constexpr int64_t kScale{64}, kUnitCost{3}, kExchangeCost{46}, kPartCost{1};
  constexpr int32_t kUsualParts{16};
  const int64_t tiles = PackedTiles(out_dim), k_steps = PackedTiles(in_dim);
  const int64_t max_steps = MaxPartSteps(compute_capability);
  const int32_t min_parts = static_cast<int32_t>((k_steps + max_steps - 1) / max_steps);
  LinearPolicy best = {};
  int64_t best_cost = 0;
  for (int32_t parts = min_parts; parts <= num_multiprocessors; ++parts) {
    const bool sensible = parts <= kUsualParts && parts * kSlicesPerPart <= k_steps;
    if (parts > min_parts && !sensible) break;
    const int64_t units = tiles * parts;
    const int64_t slots = num_multiprocessors / parts * parts;
    const int64_t blocks = units < slots ? units : slots;
    const int64_t units_of_block = (units + blocks - 1) / blocks;
    int64_t cost = units_of_block * (k_steps * kScale / parts + kUnitCost * kScale);
    if (parts > 1) cost += (kExchangeCost + kPartCost * parts) * kScale;
    if (best.parts == 0 || cost < best_cost) {
      best = {parts, static_cast<int32_t>(blocks)};
      best_cost = cost;
    }
  }
  return best;
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_LINEAR_POLICY_H_
