// The product of few rows an expert on Hopper. Five groups a warp leave room for two blocks.
#include "kernels/expert_linear.cuh"
#include "kernels/linear_bulk_ring.cuh"

namespace sidewinder {

CudaError LaunchFewExpertRowsSm90(CudaContext& ctx, DType dtype, const PackedExperts& args) {
  return DispatchFewExpertRows<BulkRing<5>>(ctx, dtype, args);
}

}  // namespace sidewinder
