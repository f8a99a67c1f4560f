// Causal depthwise convolution with SiLU:
//   out[r][c] = silu(bias[c] + sum_k weight[k][c] u(p - width + 1 + k)[c]),  p = position of row r
// Grid: x over channels, y over sequences, z over tiles of a sequence's rows; x * block a thread a
// channel, so that all accesses of a warp are contiguous. No shared memory, no barriers.
//
// The ring may be written while others still need what it holds, so one thread does both: the
// thread of a channel in the first tile is the only one that reads the ring (a tile is at least
// width - 1 rows long, so later tiles see rows of the pass alone), and it writes the ring for all
// rows of the sequence after it has read the old window.
//
// Bound: memory, 4 bytes read and written a row and channel.
#include <algorithm>

#include "kernels/causal_conv.cuh"
#include "kernels/common/launch.cuh"

namespace sidewinder {
namespace {

constexpr int kThreads{64};
constexpr int kTileRows{32};
constexpr int kBatch{8};  // rows whose inputs are in flight together
constexpr int kCommonWidth{4};

// Positions [begin, stop) of one channel, taps and window in registers; inputs that are kept go to
// the ring if `keep`.
template <int kWidth>
__device__ void ConvTile(const ConvInputs& inputs, float* output, int64_t output_stride,
                         int64_t channel, float bias, const float (&weight)[kWidth], int begin,
                         int stop, bool keep) {
  float u[kWidth - 1 + kBatch];
#pragma unroll
  for (int k = 0; k < kWidth - 1; ++k) u[k] = inputs.At(begin - kWidth + 1 + k, channel);
  for (int first = begin; first < stop; first += kBatch) {
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      u[kWidth - 1 + j] = first + j < stop ? inputs.New(first + j, channel) : 0.0f;
    }
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      const int position = first + j;
      if (position >= stop) break;
      output[(position - inputs.first_new) * output_stride + channel] =
          ConvOutput<kWidth>(bias, weight, u + j);
      if (keep && inputs.Kept(position)) {
        inputs.RingRow(position)[channel] = u[kWidth - 1 + j];
      }
    }
#pragma unroll
    for (int k = 0; k < kWidth - 1; ++k) u[k] = u[k + kBatch];
  }
}

// kWidth 0: any width.
template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    CausalConvKernel(const __grid_constant__ CausalConvParams p, int tile_rows) {
  LaunchDependents();
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  [[maybe_unused]] float weight[kWidth > 0 ? kWidth : 1] = {};
  float bias = 0;
  if (kWidth > 0 && channel < p.dim) {
#pragma unroll
    for (int k = 0; k < kWidth; ++k) weight[k] = p.weight[k * p.dim + channel];
    if (p.bias != nullptr) bias = p.bias[channel];
  }
  const Ring ring(p.ring_rows);
  WaitForDependencies();
  if (channel >= p.dim) return;
  const int num_sequences = *p.plan.num_sequences;
  for (int s = blockIdx.y; s < num_sequences; s += gridDim.y) {
    const SequenceRows sequence = p.plan.sequences[s];
    const ConvInputs inputs(p, ring, sequence);
    float* output = p.output + sequence.first_row * p.output_stride;
    for (int tile = blockIdx.z; tile * tile_rows < sequence.num_rows; tile += gridDim.z) {
      const int begin = inputs.first_new + tile * tile_rows;
      const int stop = min(inputs.end, begin + tile_rows);
      if constexpr (kWidth > 0) {
        ConvTile<kWidth>(inputs, output, p.output_stride, channel, bias, weight, begin, stop,
                         tile == 0);
      } else {
        for (int position = begin; position < stop; ++position) {
          output[(position - inputs.first_new) * p.output_stride + channel] =
              ConvOutput(p, inputs, position, channel);
        }
      }
      if (tile > 0) continue;
      const int kept = kWidth > 0 ? stop : begin;  // from here on the ring is not yet written
      for (int position = max(kept, inputs.first_kept); position < inputs.end; ++position) {
        inputs.RingRow(position)[channel] = inputs.New(position, channel);
      }
    }
  }
}

}  // namespace

CudaError LaunchCausalConv(CudaContext& ctx, const CausalConvParams& params) {
  if (params.plan.max_sequences <= 0 || params.plan.max_rows <= 0) return cudaSuccess;
  constexpr int kMaxGrid{65535};
  const int tile_rows = std::max<int>(kTileRows, static_cast<int>(params.width) - 1);
  const int sequences = std::min(params.plan.max_sequences, kMaxGrid);
  // As many tiles as the sequences have on average; longer ones take several turns.
  const int64_t rows = (int64_t{params.plan.max_rows} + sequences - 1) / sequences;
  const int64_t tiles = std::min<int64_t>((rows + tile_rows - 1) / tile_rows, kMaxGrid);
  const LaunchShape shape{
      .grid = dim3(static_cast<unsigned>((params.dim + kThreads - 1) / kThreads), sequences,
                   static_cast<unsigned>(tiles)),
      .block = dim3(kThreads)};
  return params.width == kCommonWidth
             ? LaunchKernel(ctx, CausalConvKernel<kCommonWidth>, shape, params, tile_rows)
             : LaunchKernel(ctx, CausalConvKernel<0>, shape, params, tile_rows);
}

}  // namespace sidewinder
