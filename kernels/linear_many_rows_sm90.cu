// Y = X W^T for more than 16 rows on Hopper, W and X packed (pack_weights.h, linear_many_rows.cuh),
// with the bits that linear_few_rows.cuh gives every row: which tiles do it.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <type_traits>

#include "kernels/common/launch.cuh"
#include "kernels/linear_many_rows_sm90.cuh"
#include "kernels/linear_warp_tiles.cuh"
#include "kernels/linear_warpgroup_tiles.cuh"

namespace sidewinder {
namespace {

// A kind of tile and what it takes on an H100: nanoseconds of a wave of blocks, and of each k-step
// that its blocks compute. Fitted to the times of linear_cuda_bench (BM_Linear, 32 to 512 rows,
// 768 to 10240 outputs, 768 to 5120 inputs).
template <class TileKind, int kNsOfWave, int kNsOfStep>
struct Choice {
  using T = TileKind;

  // Nanoseconds that a product may take; it only has to order the choices.
  static float Predict(const PackedLinear& args, int32_t rows, int32_t num_multiprocessors) {
    constexpr float kWeightBytesInNs{3000};
    const auto ceil_div = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
    // Clusters lie within the hardware's groups of 16 or 18 multiprocessors.
    const int32_t usable = T::kCluster > 2
                               ? std::max(num_multiprocessors / 16 * 16, int32_t{T::kCluster})
                               : num_multiprocessors;
    const int64_t blocks = ceil_div(rows, T::kRows) * ceil_div(args.tiles, T::kTiles) * T::kCluster;
    // Where a multiprocessor has two blocks at a time, a block by itself is faster.
    constexpr float kWaveOfOne{0.9f}, kStepOfOne{0.7f};
    const int64_t of_each = ceil_div(blocks, usable);
    const float full = static_cast<float>(of_each / T::kBlocksPerMultiprocessor);
    const bool one_more = of_each % T::kBlocksPerMultiprocessor != 0;
    const float steps = static_cast<float>(args.k_steps) / T::kCluster;
    const float weights = static_cast<float>(args.tiles) * args.k_steps * kStepBytes;
    return std::max((full + one_more * kWaveOfOne) * kNsOfWave +
                        (full + one_more * kStepOfOne) * steps * kNsOfStep,
                    weights / kWeightBytesInNs);
  }
};

template <class... T>
struct ChoiceList {};
using Choices = ChoiceList<
    // 32 rows, a slice a warp.
    Choice<WarpTile<2, 4, 1, 1, 2>, 5000, 69>, Choice<WarpTile<3, 4, 1, 1, 2>, 5800, 76>,
    // Slices over clusters, for few outputs.
    Choice<WarpTile<3, 4, 2, 2, 2>, 8800, 122>, Choice<WarpTile<2, 4, 4, 4>, 6700, 114>,
    Choice<WarpTile<2, 5, 4, 4>, 8400, 102>, Choice<WarpTile<7, 5, 4, 4>, 10800, 265>,
    // Many outputs or rows.
    Choice<WarpgroupTile<32, 1, 2>, 6700, 94>, Choice<WarpgroupTile<32, 2, 1>, 6800, 80>,
    Choice<WarpgroupTile<64, 1, 2>, 7600, 113>, Choice<WarpgroupTile<64, 2, 1>, 7400, 90>,
    Choice<WarpgroupTile<128, 2, 1>, 9300, 105>, Choice<WarpgroupTile<160, 2, 1>, 9900, 120>>;

template <DType kDType, class T>
cudaError_t LaunchTile(const CudaContext& ctx, InputKind kind, const PackedLinear& args,
                       int32_t rows, int32_t pitch) {
  const int32_t row_blocks = (rows + T::kRows - 1) / T::kRows;
  const int32_t output_blocks = (args.tiles + T::kTiles - 1) / T::kTiles;
  const ManyRows many = {.linear = args,
                         .row_blocks = row_blocks,
                         .pitch = pitch,
                         .normed = kind != InputKind::kPlain};
  const cudaError_t error = LaunchPackRows(ctx, kDType, kind, args, rows, pitch, T::kOperandTiles);
  if (error != cudaSuccess) return error;
  return LaunchKernel(
      ctx, T::template Kernel<kDType>(),
      {.grid = dim3(static_cast<unsigned>(row_blocks * output_blocks * T::kCluster)),
       .block = dim3(T::kThreads),
       .shared_bytes = T::kSharedBytes,
       .cluster = T::kCluster},
      many);
}

template <DType kDType, class... C>
cudaError_t LaunchBest(const CudaContext& ctx, InputKind kind, const PackedLinear& args,
                       int32_t rows, int32_t pitch, ChoiceList<C...>) {
  const float times[] = {C::Predict(args, rows, ctx.num_multiprocessors)...};
  const auto best = std::min_element(std::begin(times), std::end(times)) - std::begin(times);
  cudaError_t error = cudaErrorNotSupported;
  int i = 0;
  const auto launch = [&]<class T>(std::type_identity<T>) {
    if (i++ == best) error = LaunchTile<kDType, T>(ctx, kind, args, rows, pitch);
  };
  (launch(std::type_identity<typename C::T>()), ...);
  return error;
}

template <DType kDType>
cudaError_t LaunchChunks(const CudaContext& ctx, InputKind kind, PackedLinear args) {
  const int32_t max_rows = args.max_rows;
  const size_t row_bytes = PackedRowBytes(args);
  const size_t space = ctx.workspace_bytes - kWorkspaceCounterBytes;
  const int64_t fit = static_cast<int64_t>(space / (row_bytes + RowSquaresBytes(kind)));
  const int64_t most = fit / kMostRows * kMostRows;
  if (most == 0) return cudaErrorNotSupported;
  const int64_t wanted = (int64_t{max_rows} + kMostRows - 1) / kMostRows * kMostRows;
  const int32_t pitch = static_cast<int32_t>(std::min(most, wanted));
  args.packed = static_cast<char*>(ctx.workspace) + kWorkspaceCounterBytes;
  args.squares = reinterpret_cast<float*>(static_cast<char*>(args.packed) + pitch * row_bytes);
  for (args.first_row = 0; args.first_row < max_rows; args.first_row += pitch) {
    const int32_t rows = std::min(pitch, max_rows - args.first_row);
    const cudaError_t error = LaunchBest<kDType>(ctx, kind, args, rows, pitch, Choices());
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace

cudaError_t LaunchManyRowsSm90(const CudaContext& ctx, DType dtype, InputKind kind,
                               PackedLinear args) {
  switch (dtype) {
    case DType::kFloat16:
      return LaunchChunks<DType::kFloat16>(ctx, kind, args);
    case DType::kBFloat16:
      return LaunchChunks<DType::kBFloat16>(ctx, kind, args);
    default:
      return cudaErrorNotSupported;
  }
}

}  // namespace sidewinder
