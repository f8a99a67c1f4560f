#include "kernels/experts.h"

namespace sidewinder {

void CombineExperts(ExecutionContext& ctx, const CombineExpertsParams& params) {
  Dispatch(
      ctx, "CombineExperts", [&] { CombineExpertsCpu(ctx, params); },
      [&](auto& cuda) { return LaunchCombineExperts(cuda, params); });
}

}  // namespace sidewinder
