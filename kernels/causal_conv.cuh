// The convolution of one element, for the kernels that run it: alone, behind in_proj, and
// inside the recurrence of Mamba-2. All give the same bits.
#ifndef SIDEWINDER_KERNELS_CAUSAL_CONV_CUH_
#define SIDEWINDER_KERNELS_CAUSAL_CONV_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/causal_conv.h"
#include "kernels/common/math.cuh"
#include "kernels/common/ring.cuh"

namespace sidewinder {

// Where the raw inputs of one sequence are.
struct ConvInputs {
  // `ring`: of p.ring_rows.
  __device__ ConvInputs(const CausalConvParams& p, Ring ring, const SequenceRows& sequence)
      : input(p.input +
              (static_cast<int64_t>(sequence.first_row) - sequence.consumed) * p.input_stride),
        window(p.ring + sequence.slot * p.ring_rows * p.dim),
        input_stride(p.input_stride),
        dim(p.dim),
        ring(ring),
        first_new(sequence.consumed),
        end(sequence.consumed + sequence.num_rows),
        first_kept(end - static_cast<int>(ring.rows)) {}

  // The input at a position of the pass.
  __device__ float New(int position, int64_t channel) const {
    return input[position * input_stride + channel];
  }
  // The input at any position below the end of the pass; zero before the text.
  __device__ float At(int position, int64_t channel) const {
    return position < 0 ? 0.0f : Row(position)[channel];
  }
  // The inputs at any position of the text below the end of the pass.
  __device__ const float* Row(int position) const {
    return position >= first_new ? input + position * input_stride : RingRow(position);
  }
  __device__ float* RingRow(int position) const { return window + ring.Entry(position) * dim; }
  // Whether the ring still holds the input at a position of the pass when the pass is over.
  __device__ bool Kept(int position) const { return position >= first_kept; }
  // Whether an input that is kept may take the entry of one that the first rows of the pass need.
  __device__ bool KeepsOntoNeeded(int width) const {
    return static_cast<uint32_t>(end - first_new + width - 1) > ring.rows;
  }

  const float* input;  // row of position 0, if the pass began there
  float* window;       // [ring_rows, dim]
  int64_t input_stride, dim;
  Ring ring;
  int first_new, end;
  int first_kept;
};

// One output from its `kWidth` inputs, oldest first.
template <int kWidth>
__device__ __forceinline__ float ConvOutput(float bias, const float (&weight)[kWidth],
                                            const float* window) {
  float sum = bias;
#pragma unroll
  for (int k = 0; k < kWidth; ++k) sum = __fmaf_rn(weight[k], window[k], sum);
  return Silu(sum);
}

// The same for any width, straight from memory.
__device__ __forceinline__ float ConvOutput(const CausalConvParams& p, const ConvInputs& inputs,
                                            int position, int64_t channel) {
  const int width = static_cast<int>(p.width);
  float sum = p.bias != nullptr ? p.bias[channel] : 0.0f;
  for (int k = 0; k < width; ++k) {
    sum =
        __fmaf_rn(p.weight[k * p.dim + channel], inputs.At(position - width + 1 + k, channel), sum);
  }
  return Silu(sum);
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_CAUSAL_CONV_CUH_
