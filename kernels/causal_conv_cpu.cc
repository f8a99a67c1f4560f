#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/causal_conv.h"
#include "kernels/common/check.h"
#include "kernels/common/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/causal_conv_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/common/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sidewinder {
namespace HWY_NAMESPACE {

// Channels [begin, end) of one sequence. All outputs before the first write to the ring: a row may
// take the entry of an input that an earlier row of the pass still needs.
void ConvChannels(const CausalConvParams& p, const SequenceRows& seq, int64_t begin, int64_t end) {
  const F32 d;
  const int64_t lanes = hn::Lanes(d);
  float* ring = p.ring + seq.slot * p.ring_rows * p.dim;
  const auto input_at = [&](int64_t position) -> const float* {
    return position >= seq.consumed
               ? p.input + (seq.first_row + position - seq.consumed) * p.input_stride
               : ring + position % p.ring_rows * p.dim;
  };
  static thread_local std::vector<const float*> taps;
  taps.resize(p.width);
  for (int64_t r = 0; r < seq.num_rows; ++r) {
    const int64_t oldest = seq.consumed + r - p.width + 1;
    const int64_t first_tap = std::max<int64_t>(0, -oldest);
    for (int64_t k = first_tap; k < p.width; ++k) taps[k] = input_at(oldest + k);
    float* out = p.output + (seq.first_row + r) * p.output_stride;
    PrefetchAll(taps[p.width - 1] + begin, (end - begin) * sizeof(float));
    for (int64_t c = begin; c < end; c += lanes) {
      const size_t count = std::min(lanes, end - c);
      VecF32 sum = p.bias != nullptr ? LoadFirst(p.bias + c, count) : hn::Zero(d);
      for (int64_t k = first_tap; k < p.width; ++k) {
        sum = hn::MulAdd(LoadFirst(p.weight + k * p.dim + c, count), LoadFirst(taps[k] + c, count),
                         sum);
      }
      StoreFirst(Silu(sum), out + c, count);
    }
  }
  const int64_t last = seq.consumed + seq.num_rows;
  for (int64_t q = std::max<int64_t>(seq.consumed, last - p.ring_rows); q < last; ++q) {
    std::memcpy(ring + q % p.ring_rows * p.dim + begin, input_at(q) + begin,
                (end - begin) * sizeof(float));
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sidewinder
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sidewinder {

HWY_EXPORT(ConvChannels);

void ConvChannelsCpu(const CausalConvParams& params, const SequenceRows& sequence, int64_t begin,
                     int64_t end) {
  HWY_DYNAMIC_DISPATCH(ConvChannels)(params, sequence, begin, end);
}

void CausalConvCpu(ExecutionContext& ctx, const CausalConvParams& params) {
  SW_CHECK(params.width >= 1 && params.ring_rows >= params.width - 1)
      << "width=" << params.width << " ring_rows=" << params.ring_rows;
  // Work items are blocks of channels of a sequence: enough of them for the threads of long rows,
  // and large enough that a decode step of a small model does not fork.
  constexpr int64_t kBlock{128};
  constexpr int64_t kGrainElements{8192};
  const int64_t blocks = (params.dim + kBlock - 1) / kBlock;
  const int64_t num_sequences = *params.plan.num_sequences;
  const int64_t num_rows = *params.plan.num_rows;
  if (num_rows <= 0 || num_sequences <= 0) return;
  const int64_t rows_a_sequence = (num_rows + num_sequences - 1) / num_sequences;
  const int64_t grain = std::max<int64_t>(1, kGrainElements / (kBlock * rows_a_sequence));
  const auto conv = HWY_DYNAMIC_DISPATCH(ConvChannels);
  ctx.pool->ParallelFor(num_sequences * blocks, grain, [&](int64_t begin, int64_t end, int) {
    while (begin < end) {  // the blocks of one sequence at a time
      const int64_t s = begin / blocks;
      const int64_t stop = std::min(end, (s + 1) * blocks);
      conv(params, params.plan.sequences[s], (begin - s * blocks) * kBlock,
           std::min(params.dim, (stop - s * blocks) * kBlock));
      begin = stop;
    }
  });
}

}  // namespace sidewinder
#endif  // HWY_ONCE
