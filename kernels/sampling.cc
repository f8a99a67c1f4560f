#include "kernels/sampling.h"

namespace sidewinder {

void DraftSample(ExecutionContext& ctx, const DraftSampleParams& params) {
  Dispatch(
      ctx, "DraftSample", [&] { DraftSampleCpu(ctx, params); },
      [&](auto& cuda) { return LaunchDraftSample(cuda, params); });
}

void FirstConflict(ExecutionContext& ctx, const FirstConflictParams& params) {
  Dispatch(
      ctx, "FirstConflict", [&] { FirstConflictCpu(ctx, params); },
      [&](auto& cuda) { return LaunchFirstConflict(cuda, params); });
}

}  // namespace sidewinder
