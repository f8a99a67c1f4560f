#include "kernels/experts.h"

namespace sidewinder {

void ExpertLinear(ExecutionContext& ctx, const ExpertLinearParams& params) {
  Dispatch(
      ctx, "ExpertLinear", [&] { ExpertLinearCpu(ctx, params); },
      [&](auto& cuda) { return LaunchExpertLinear(cuda, params); });
}

}  // namespace sidewinder
