#include "kernels/experts.h"

namespace sidewinder {

void RouteExperts(ExecutionContext& ctx, const RouteExpertsParams& params) {
  Dispatch(
      ctx, "RouteExperts", [&] { RouteExpertsCpu(ctx, params); },
      [&](auto& cuda) { return LaunchRouteExperts(cuda, params); });
}

}  // namespace sidewinder
