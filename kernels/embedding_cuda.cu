// output[r] = scale * table[tokens[r]] in float32, from a row-major float32 table or from a packed
// 16-bit one (pack_weights.h).
//
// Grid: x cuts a row into pieces of kThreads quads of elements, y walks over the rows. A thread
// writes four elements. Packed: row r of a tile of 16 x 16 is spread over the tile's lanes
// 4 (r % 8) + t, t = 0..3, each of which holds its columns 2t, 2t + 1 and 2t + 8, 2t + 9 as the
// 32-bit words r / 8 and r / 8 + 2; so a thread is one lane of one tile. Row-major: four
// neighbours. No shared memory, no barrier. Bound: rows * dim * (size of an element, twice it if
// packed, + 4) bytes; for few rows the latency of two dependent loads.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/common/host_device.h"
#include "kernels/common/launch.cuh"
#include "kernels/embedding.h"
#include "kernels/pack_weights.h"

namespace sidewinder {
namespace {

constexpr int kThreads{128};
constexpr int64_t kMaxRowBlocks{4096};

__device__ float2 Widen(__nv_bfloat162 pair) { return __bfloat1622float2(pair); }
__device__ float2 Widen(__half2 pair) { return __half22float2(pair); }

__device__ void StorePair(const EmbeddingParams& p, float* row, int64_t column, float2 pair) {
  if (column < p.dim) row[column] = __fmul_rn(pair.x, p.scale);
  if (column + 1 < p.dim) row[column + 1] = __fmul_rn(pair.y, p.scale);
}

// Lane `quad % 4` of tile `quad / 4` of the table's row `token`.
template <class Pair>
__device__ void CopyPackedQuad(const EmbeddingParams& p, int64_t token, int64_t quad, float* row) {
  const int64_t tile = token / 16 * ((p.dim + 15) / 16) + quad / 4;
  const int64_t r = token % 16, t = quad % 4;
  const Pair* words = static_cast<const Pair*>(p.table) + tile * 128 + (r % 8 * 4 + t) * 4 + r / 8;
  const int64_t column = quad / 4 * 16 + 2 * t;
  StorePair(p, row, column, Widen(words[0]));
  StorePair(p, row, column + 8, Widen(words[2]));
}

__device__ void CopyQuad(const EmbeddingParams& p, int64_t token, int64_t quad, float* row) {
  const float* from = static_cast<const float*>(p.table) + token * p.dim;
  for (int64_t column = 4 * quad; column < Smaller(4 * quad + 4, p.dim); ++column) {
    row[column] = __fmul_rn(from[column], p.scale);
  }
}

template <DType kType>
__global__ void __launch_bounds__(kThreads)
    EmbeddingKernel(const __grid_constant__ EmbeddingParams p, int64_t num_quads) {
  LaunchDependents();
  WaitForDependencies();
  const int64_t quad = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int32_t num_rows = *p.num_rows;
  if (quad >= num_quads) return;
  for (int32_t r = blockIdx.y; r < num_rows; r += gridDim.y) {
    const int64_t token = p.tokens[r];
    float* row = p.output + r * p.output_stride;
    if constexpr (kType == DType::kFloat32) {
      CopyQuad(p, token, quad, row);
    } else if constexpr (kType == DType::kBFloat16) {
      CopyPackedQuad<__nv_bfloat162>(p, token, quad, row);
    } else {
      CopyPackedQuad<__half2>(p, token, quad, row);
    }
  }
}

template <DType kType>
CudaError Launch(CudaContext& ctx, const EmbeddingParams& p) {
  const int64_t num_quads = kType == DType::kFloat32 ? (p.dim + 3) / 4 : 4 * PackedTiles(p.dim);
  const dim3 grid(static_cast<unsigned>((num_quads + kThreads - 1) / kThreads),
                  static_cast<unsigned>(Smaller(int64_t{p.max_rows}, kMaxRowBlocks)));
  return LaunchKernel(ctx, EmbeddingKernel<kType>, {grid, kThreads}, p, num_quads);
}

}  // namespace

CudaError LaunchEmbedding(CudaContext& ctx, const EmbeddingParams& params) {
  if (params.max_rows == 0) return cudaSuccess;
  switch (params.table_dtype) {
    case DType::kFloat32:
      return Launch<DType::kFloat32>(ctx, params);
    case DType::kBFloat16:
      return Launch<DType::kBFloat16>(ctx, params);
    case DType::kFloat16:
      return Launch<DType::kFloat16>(ctx, params);
  }
  return cudaErrorNotSupported;
}

}  // namespace sidewinder
