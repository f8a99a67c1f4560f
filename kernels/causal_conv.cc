#include "kernels/causal_conv.h"

namespace sidewinder {

void CausalConv(ExecutionContext& ctx, const CausalConvParams& params) {
  Dispatch(
      ctx, "CausalConv", [&] { CausalConvCpu(ctx, params); },
      [&](auto& cuda) { return LaunchCausalConv(cuda, params); });
}

}  // namespace sidewinder
