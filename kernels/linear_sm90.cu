// The product with few rows on Hopper.
#include "kernels/linear_bulk_ring.cuh"
#include "kernels/linear_few_rows.cuh"

namespace sidewinder {

CudaError LaunchFewRowsSm90(CudaContext& ctx, DType dtype, InputKind kind,
                            const PackedLinear& args) {
  return DispatchFewRows<BulkRing<6>, BulkRing<2>>(ctx, dtype, kind, args);
}

bool IsFewRowsPairSm90(const CudaContext& ctx, const PackedLinear& normed,
                       const PackedLinear& plain) {
  return normed.wide_loads && plain.wide_loads && plain.tiles <= ctx.num_multiprocessors / 4 &&
         MaxSliceSteps(normed.k_steps) > 8 && MaxSliceSteps(normed.k_steps) <= 40;
}

CudaError LaunchFewRowsPairSm90(CudaContext& ctx, const PackedLinear& normed,
                                const PackedLinear& plain) {
  constexpr DType kDType{DType::kBFloat16};
  constexpr InputKind kNorm{InputKind::kNorm}, kPlain{InputKind::kPlain};
  using Ring = BulkRing<6>;
  const int steps = MaxSliceSteps(normed.k_steps), plain_steps = MaxSliceSteps(plain.k_steps);
  if (steps <= 20 && plain_steps <= 40) {
    return LaunchFewRowsPairKernel<kDType, kNorm, 20, kPlain, 40, Ring, Ring>(ctx, normed, plain);
  }
  if (steps <= 40) {
    return LaunchFewRowsPairKernel<kDType, kNorm, 40, kPlain, kInShared, Ring, BulkRing<2>>(
        ctx, normed, plain);
  }
  return cudaErrorNotSupported;
}

}  // namespace sidewinder
