#include "kernels/begin_round.h"

namespace sidewinder {

void BeginRound(ExecutionContext& ctx, const BeginRoundParams& params) {
  Dispatch(
      ctx, "BeginRound", [&] { BeginRoundCpu(ctx, params); },
      [&](auto& cuda) { return LaunchBeginRound(cuda, params); });
}

}  // namespace sidewinder
