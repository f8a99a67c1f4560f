// The product with few rows on Hopper.
#include "kernels/linear_bulk_ring.cuh"
#include "kernels/linear_few_rows.cuh"

namespace sidewinder {

CudaError LaunchFewRowsSm90(CudaContext& ctx, DType dtype, InputKind kind,
                            const PackedLinear& args) {
  return DispatchFewRows<BulkRing<6>, BulkRing<2>>(ctx, dtype, kind, args);
}

}  // namespace sidewinder
