// Packing weights for the tensor cores (pack_weights.h), and making random ones.
// Grid: a thread a lane of a tile, i.e. 16 bytes of the packed matrix; float32: 4 elements. No
// shared memory. Bound: bytes read and written; neither is on the decode path.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cstdint>

#include "kernels/common/dtype.h"
#include "kernels/common/launch.cuh"
#include "kernels/pack_weights.h"

namespace sidewinder {
namespace {

constexpr int kThreads{256};
constexpr int64_t kMaxBlocks{1 << 20};
constexpr int kLaneElements{8};

// The matrix element of element `i` of lane `unit % 32` of tile `unit / 32`.
struct Element {
  int64_t row, column;
  __device__ Element(int64_t unit, int i, int64_t tiles_across) {
    const int64_t tile = unit / 32;
    const int lane = static_cast<int>(unit % 32);
    row = tile / tiles_across * kPackedTile + lane / 4 + i / 2 % 2 * 8;
    column = tile % tiles_across * kPackedTile + lane % 4 * 2 + i % 2 + i / 4 * 8;
  }
};

// value(row, column) gives the 16 bits of an element.
template <class Value>
__device__ void PackUnits(uint4* packed, int64_t out_dim, int64_t in_dim, const Value& value) {
  const int64_t tiles_across = (in_dim + kPackedTile - 1) / kPackedTile;
  const int64_t units = (out_dim + kPackedTile - 1) / kPackedTile * tiles_across * 32;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t unit = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; unit < units;
       unit += stride) {
    uint32_t words[kLaneElements / 2] = {};
#pragma unroll
    for (int i = 0; i < kLaneElements; ++i) {
      const Element e(unit, i, tiles_across);
      if (e.row >= out_dim || e.column >= in_dim) continue;
      words[i / 2] |= uint32_t{value(e.row, e.column)} << i % 2 * 16;
    }
    packed[unit] = make_uint4(words[0], words[1], words[2], words[3]);
  }
}

__global__ void __launch_bounds__(kThreads)
    PackWeightsKernel(const __grid_constant__ PackWeightsParams p) {
  LaunchDependents();
  WaitForDependencies();
  const uint16_t* from = static_cast<const uint16_t*>(p.row_major);
  PackUnits(static_cast<uint4*>(p.packed), p.out_dim, p.in_dim,
            [&](int64_t row, int64_t column) { return from[row * p.in_dim + column]; });
}

// The finalizer of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
// generators", OOPSLA 2014): weights need no better numbers.
__device__ float RandomWeight(const RandomWeightsParams& p, int64_t index) {
  uint64_t z = p.seed + (static_cast<uint64_t>(index) + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  z ^= z >> 31;
  const int32_t units = static_cast<int32_t>(z >> 40) - (1 << 23);  // [-2^23, 2^23)
  return p.scale * (static_cast<float>(units) * 0x1p-23f);
}

template <DType kDType>
__global__ void __launch_bounds__(kThreads)
    RandomWeightsKernel(const __grid_constant__ RandomWeightsParams p) {
  LaunchDependents();
  WaitForDependencies();
  if constexpr (kDType == DType::kFloat32) {
    const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
         i < p.out_dim * p.in_dim; i += stride) {
      static_cast<float*>(p.weights)[i] = RandomWeight(p, i);
    }
  } else {
    // Toward zero, so that nothing rounds up to `scale` itself.
    PackUnits(static_cast<uint4*>(p.weights), p.out_dim, p.in_dim,
              [&](int64_t row, int64_t column) -> uint16_t {
                const float value = RandomWeight(p, row * p.in_dim + column);
                if constexpr (kDType == DType::kBFloat16) {
                  return __bfloat16_as_ushort(__float2bfloat16_rz(value));
                } else {
                  return __half_as_ushort(__float2half_rz(value));
                }
              });
  }
}

LaunchShape ShapeFor(int64_t threads) {
  const int64_t blocks = (threads + kThreads - 1) / kThreads;
  return {.grid = dim3(static_cast<unsigned>(std::min(blocks, kMaxBlocks))),
          .block = dim3(kThreads)};
}

int64_t PackedUnits(int64_t out_dim, int64_t in_dim) {
  return static_cast<int64_t>(PackedBytes(out_dim, in_dim) / sizeof(uint4));
}

}  // namespace

CudaError LaunchPackWeights(CudaContext& ctx, const PackWeightsParams& params) {
  return LaunchKernel(ctx, PackWeightsKernel, ShapeFor(PackedUnits(params.out_dim, params.in_dim)),
                      params);
}

CudaError LaunchRandomWeights(CudaContext& ctx, const RandomWeightsParams& params) {
  const LaunchShape packed = ShapeFor(PackedUnits(params.out_dim, params.in_dim));
  switch (params.dtype) {
    case DType::kFloat32:
      return LaunchKernel(ctx, RandomWeightsKernel<DType::kFloat32>,
                          ShapeFor(params.out_dim * params.in_dim), params);
    case DType::kBFloat16:
      return LaunchKernel(ctx, RandomWeightsKernel<DType::kBFloat16>, packed, params);
    case DType::kFloat16:
      return LaunchKernel(ctx, RandomWeightsKernel<DType::kFloat16>, packed, params);
  }
  return cudaErrorNotSupported;
}

}  // namespace sidewinder
