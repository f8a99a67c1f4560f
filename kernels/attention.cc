#include "kernels/attention.h"

namespace sidewinder {

void Attention(ExecutionContext& ctx, const AttentionParams& params) {
  Dispatch(
      ctx, "Attention", [&] { AttentionCpu(ctx, params); },
      [&](auto& cuda) { return LaunchAttention(cuda, params); });
}

}  // namespace sidewinder
