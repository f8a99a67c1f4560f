#include "kernels/pack_weights.h"

#include "kernels/common/check.h"

namespace sidewinder {

void PackWeights(ExecutionContext& ctx, const PackWeightsParams& params) {
  Dispatch(
      ctx, "PackWeights", [] { SW_CHECK(false) << "the CPU backend packs no weights"; },
      [&](auto& cuda) { return LaunchPackWeights(cuda, params); });
}

void RandomWeights(ExecutionContext& ctx, const RandomWeightsParams& params) {
  Dispatch(
      ctx, "RandomWeights", [] { SW_CHECK(false) << "the CPU backend packs no weights"; },
      [&](auto& cuda) { return LaunchRandomWeights(cuda, params); });
}

}  // namespace sidewinder
