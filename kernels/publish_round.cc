#include "kernels/publish_round.h"

namespace sidewinder {

void PublishRound(ExecutionContext& ctx, const PublishRoundParams& params) {
  Dispatch(
      ctx, "PublishRound", [&] { PublishRoundCpu(ctx, params); },
      [&](auto& cuda) { return LaunchPublishRound(cuda, params); });
}

}  // namespace sidewinder
