#include "kernels/multistep.h"

namespace sidewinder {

void MultiStepMamba1(ExecutionContext& ctx, const MultiStepMamba1Params& params) {
  Dispatch(
      ctx, "MultiStepMamba1", [&] { MultiStepMamba1Cpu(ctx, params); },
      [&](auto& cuda) { return LaunchMultiStepMamba1(cuda, params); });
}

int32_t MultiStepMamba2Chunk(int64_t head_dim, int64_t state_dim) {
  return head_dim % 64 == 0 && (state_dim == 64 || state_dim == 128) ? kScanChunk : 1;
}

void MultiStepMamba2(ExecutionContext& ctx, const MultiStepMamba2Params& params) {
  Dispatch(
      ctx, "MultiStepMamba2", [&] { MultiStepMamba2Cpu(ctx, params); },
      [&](auto& cuda) { return LaunchMultiStepMamba2(cuda, params); });
}

void MultiStepDeltaNet(ExecutionContext& ctx, const MultiStepDeltaNetParams& params) {
  Dispatch(
      ctx, "MultiStepDeltaNet", [&] { MultiStepDeltaNetCpu(ctx, params); },
      [&](auto& cuda) { return LaunchMultiStepDeltaNet(cuda, params); });
}

}  // namespace sidewinder
