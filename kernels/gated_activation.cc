#include "kernels/gated_activation.h"

namespace sidewinder {

void GatedActivation(ExecutionContext& ctx, const GatedActivationParams& params) {
  Dispatch(
      ctx, "GatedActivation", [&] { GatedActivationCpu(ctx, params); },
      [&](auto& cuda) { return LaunchGatedActivation(cuda, params); });
}

}  // namespace sidewinder
