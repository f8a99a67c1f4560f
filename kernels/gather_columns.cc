#include "kernels/gather_columns.h"

namespace sidewinder {

void GatherColumns(ExecutionContext& ctx, const GatherColumnsParams& params) {
  Dispatch(
      ctx, "GatherColumns", [&] { GatherColumnsCpu(ctx, params); },
      [&](auto& cuda) { return LaunchGatherColumns(cuda, params); });
}

}  // namespace sidewinder
