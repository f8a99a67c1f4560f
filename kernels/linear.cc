#include "kernels/linear.h"

namespace sidewinder {

void Linear(ExecutionContext& ctx, const LinearParams& params) {
  Dispatch(
      ctx, "Linear", [&] { LinearCpu(ctx, params); },
      [&](auto& cuda) { return LaunchLinear(cuda, params); });
}

}  // namespace sidewinder
