// What one block of threads makes of one row of logits: the distribution that temperature, top_k,
// top_p and min_p leave, and draws from it.
//
// The distribution is never stored. It is a few numbers by which any probability follows from its
// logit: a token is kept if its weight exp((logit - max) / T) is above a threshold, or equal to it
// and not too late among its equals. The thresholds of top_k and top_p are found by radix
// selection: a histogram over ten bits of the weights' bits at a time (weights lie in [0, 1], where
// the bits of floats are ordered as the floats are, below 2^30), one bin a thread.
//
// Sums of weights are taken in fixed point with kMassBits fractional bits. They are exact, so their
// order is of no account: a result depends on its row alone, and a scan of one part of the row
// agrees with the sum of all of it. What is cut off is finer than the 23 bits of a random number.
#ifndef SIDEWINDER_KERNELS_COMMON_BLOCK_SAMPLING_CUH_
#define SIDEWINDER_KERNELS_COMMON_BLOCK_SAMPLING_CUH_

#include <cuda_runtime.h>

#include <cstdint>
#include <cub/block/block_scan.cuh>

#include "kernels/common/arg_max.cuh"
#include "kernels/common/host_device.h"
#include "kernels/common/philox.h"
#include "kernels/control_block.h"

namespace sidewinder {

inline constexpr int kSamplingThreads{1024};
inline constexpr int kMassBits{42};
inline constexpr int32_t kMaxSamplingVocab{(1 << 18) - 1};  // masses of more may overflow a bin
inline constexpr int32_t kEveryTie{0x7fffffff};

// A weight or probability, in [0, 1], in fixed point.
__device__ inline uint64_t Mass(float weight) {
  return __float2ull_rz(weight * static_cast<float>(uint64_t{1} << kMassBits));
}

struct Distribution {
  const float* logits;
  int32_t size;
  int32_t likeliest;
  float max;
  float inverse_temperature;
  uint32_t threshold = 0;        // bits of the smallest weight that is kept
  int32_t last_tie = kEveryTie;  // of those equal to it, the last id that is kept
  float scale = 0.0f;            // of a kept weight to its probability

  // Zero for NaN. The likeliest token has 1 whatever its logit is, so that some token has.
  __device__ float Weight(int32_t id) const {
    const float shifted = __fsub_rn(logits[id], max);
    const float weight = expf(__fmul_rn(shifted, inverse_temperature));
    return id == likeliest ? 1.0f : weight > 0.0f ? fminf(weight, 1.0f) : 0.0f;
  }
  __device__ float KeptWeight(int32_t id) const {
    const float weight = Weight(id);
    const uint32_t bits = __float_as_uint(weight);
    const bool kept = bits > threshold || (bits == threshold && id <= last_tie);
    return kept ? weight : 0.0f;
  }
  __device__ float Probability(int32_t id) const { return __fmul_rn(KeptWeight(id), scale); }
};

// All threads of a block of kSamplingThreads call its functions together, with the same arguments,
// and get the same results. Not inlined: a kernel needs most of them in several places, and their
// sum would not fit the instruction cache.
class BlockSampler {
  using Scan = cub::BlockScan<uint64_t, kSamplingThreads>;
  static constexpr int kDigitBits{10};
  static constexpr uint32_t kBins{1u << kDigitBits};
  static_assert(kBins == kSamplingThreads, "one bin a thread");
  static constexpr int kLimbBits{14};  // masses are added up in three 32-bit parts

  struct Crossing {
    uint64_t before;
    uint64_t amount;
    uint32_t place;
  };

 public:
  struct Storage {
    typename Scan::TempStorage scan;
    uint32_t histogram[3][kBins];
    uint64_t warp_max[kSamplingThreads / 32];
    Crossing crossing;
    int32_t token;
  };

  __device__ explicit BlockSampler(Storage& storage) : shared_(storage) {}

  __device__ __noinline__ int32_t ArgMax(const float* logits, int32_t size) {
    ThreadArgMax best;
#pragma unroll 4
    for (int32_t i = threadIdx.x; i < size; i += kSamplingThreads) best.Add(logits[i], i);
    return ArgMaxIndex(BlockMax<kSamplingThreads>(best.Key(), shared_.warp_max));
  }

  __device__ __noinline__ Distribution MakeDistribution(const SlotControl& slot,
                                                        const float* logits, int32_t size) {
    const int32_t likeliest = ArgMax(logits, size);
    Distribution d = {.logits = logits,
                      .size = size,
                      .likeliest = likeliest,
                      .max = logits[likeliest],
                      .inverse_temperature = 1.0f / slot.temperature};
    if (slot.top_k > 0 && slot.top_k < size) {
      d.threshold = Select<false>(d, static_cast<uint64_t>(slot.top_k)).threshold;
    }
    if (slot.top_p < 1.0f) KeepTopP(slot.top_p, d);
    const uint32_t min_bits = __float_as_uint(fminf(fmaxf(slot.min_p, 0.0f), 1.0f));
    if (min_bits > d.threshold) {
      d.threshold = min_bits;
      d.last_tie = kEveryTie;
    }
    const double sum =
        static_cast<double>(KeptMass(d)) / static_cast<double>(uint64_t{1} << kMassBits);
    d.scale = static_cast<float>(1.0 / sum);
    return d;
  }

  // Index drawn from the masses mass_of(0 .. size - 1) by inverse transform; -1 if all are zero.
  // The row is cut into one stretch a warp; the stretch that holds the target is then cut into one
  // piece a thread.
  template <class MassOf>
  __device__ int32_t Draw(int32_t size, float uniform, const MassOf& mass_of) {
    const int32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int32_t stretch = (size + kNumWarps - 1) / kNumWarps;
    uint64_t own = 0;
#pragma unroll 4
    for (int32_t i = warp * stretch + lane; i < Smaller((warp + 1) * stretch, size); i += 32) {
      own += mass_of(i);
    }
    for (int offset = 16; offset > 0; offset /= 2) own += __shfl_xor_sync(~0u, own, offset);
    if (lane != 0) own = 0;
    const Sum stretches = ExclusiveSum(own);
    if (stretches.total == 0) return -1;
    const uint64_t target =
        static_cast<uint64_t>(static_cast<double>(uniform) * static_cast<double>(stretches.total));
    if (stretches.before <= target && target < stretches.before + own) {
      shared_.crossing = {stretches.before, own, static_cast<uint32_t>(warp)};
    }
    __syncthreads();
    const Crossing found = shared_.crossing;

    const int32_t begin = static_cast<int32_t>(found.place) * stretch;
    const int32_t end = Smaller(begin + stretch, size);
    const int32_t piece = (stretch + kSamplingThreads - 1) / kSamplingThreads;
    const int32_t first = begin + static_cast<int32_t>(threadIdx.x) * piece;
    const int32_t last = Smaller(first + piece, end);
    own = 0;
    for (int32_t i = first; i < last; ++i) own += mass_of(i);
    const uint64_t before = found.before + ExclusiveSum(own).before;
    if (before <= target && target < before + own) {
      int32_t i = first;
      for (uint64_t mass = before + mass_of(i); mass <= target; mass += mass_of(i)) ++i;
      shared_.token = i;
    }
    __syncthreads();
    return shared_.token;
  }

  __device__ __noinline__ int32_t Draw(const Distribution d, float uniform) {
    return Draw(d.size, uniform, [&d](int32_t i) { return Mass(d.Probability(i)); });
  }

  // The Gumbel-max draw as an exponential race: argmin of E_i / p_i with E_i = -log(u_i), the noise
  // a function of position and token alone. Four tokens share a counter of the generator.
  __device__ __noinline__ int32_t DrawCoupled(const SlotControl& slot, const Distribution d,
                                              int32_t position) {
    uint64_t best = 0;  // complement of (arrival, id): the earliest is the largest
    for (int32_t quad = threadIdx.x; 4 * quad < d.size; quad += kSamplingThreads) {
      float probs[4];
      float most = 0.0f;
#pragma unroll
      for (int32_t e = 0; e < 4; ++e) {
        probs[e] = 4 * quad + e < d.size ? d.Probability(4 * quad + e) : 0.0f;
        most = fmaxf(most, probs[e]);
      }
      if (most <= 0.0f) continue;
      const PhiloxCounter random =
          RandomWords(slot.seed, slot.sequence, static_cast<uint32_t>(position),
                      RandomPurpose::kGumbel, static_cast<uint32_t>(quad));
#pragma unroll
      for (int32_t e = 0; e < 4; ++e) {
        const float arrival = __fdiv_rn(-logf(ToUniform(random.words[e])), probs[e]);
        const uint64_t key =
            uint64_t{__float_as_uint(arrival)} << 32 | static_cast<uint32_t>(4 * quad + e);
        if (probs[e] > 0.0f) best = Larger(best, ~key);
      }
    }
    best = BlockMax<kSamplingThreads>(best, shared_.warp_max);
    return static_cast<int32_t>(static_cast<uint32_t>(~best));
  }

 private:
  static constexpr int32_t kNumWarps{kSamplingThreads / 32};

  struct Sum {
    uint64_t before;  // of the threads before this one
    uint64_t total;
  };

  // What a thread read in shared memory before the call may be written after it: all writes to
  // `crossing` and `token` follow a call.
  __device__ __noinline__ Sum ExclusiveSum(uint64_t own) {
    Sum sum;
    __syncthreads();
    Scan(shared_.scan).ExclusiveSum(own, sum.before, sum.total);
    return sum;
  }

  __device__ __noinline__ uint64_t KeptMass(const Distribution d) {
    uint64_t own = 0;
#pragma unroll 4
    for (int32_t i = threadIdx.x; i < d.size; i += kSamplingThreads) own += Mass(d.KeptWeight(i));
    return ExclusiveSum(own).total;
  }

  // Keeps the smallest set of largest weights that holds `top_p` of their sum.
  __device__ void KeepTopP(float top_p, Distribution& d) {
    const uint64_t sum = KeptMass(d);
    const double wanted = ceil(static_cast<double>(top_p) * static_cast<double>(sum));
    const uint64_t target =
        Larger(uint64_t{1}, Smaller(sum, static_cast<uint64_t>(fmax(wanted, 0.0))));
    const Selection selected = Select<true>(d, target);
    const uint64_t mass = Mass(__uint_as_float(selected.threshold));
    const uint64_t ties = selected.amount / mass;
    const uint64_t kept_ties = (selected.rest + mass - 1) / mass;
    d.threshold = selected.threshold;
    if (kept_ties < ties) d.last_tie = FindTie(d, static_cast<int32_t>(kept_ties));
  }

  struct Selection {
    uint32_t threshold;  // bits of the weight at which the target is reached; 0 if it never is
    uint64_t rest;       // what is left of the target when weights equal to it begin
    uint64_t amount;     // what these have in all
  };

  // Goes down from the largest kept weight until the amounts, a mass or 1 each, add up to `target`.
  template <bool kByMass>
  __device__ __noinline__ Selection Select(const Distribution d, uint64_t target) {
    Selection result = {.threshold = 0, .rest = target, .amount = 0};
#pragma unroll 1
    for (int shift = 2 * kDigitBits; shift >= 0; shift -= kDigitBits) {
      for (auto& limb : shared_.histogram) limb[threadIdx.x] = 0;
      __syncthreads();
#pragma unroll 4
      for (int32_t i = threadIdx.x; i < d.size; i += kSamplingThreads) {
        const float weight = d.KeptWeight(i);
        const uint32_t bits = __float_as_uint(weight);
        if (bits != 0 && bits >> shift >> kDigitBits == result.threshold) {
          Count<kByMass>(bits >> shift & (kBins - 1), weight);
        }
      }
      __syncthreads();
      const uint32_t bin = kBins - 1 - threadIdx.x;
      const uint64_t amount = uint64_t{shared_.histogram[0][bin]} +
                              (uint64_t{shared_.histogram[1][bin]} << kLimbBits) +
                              (uint64_t{shared_.histogram[2][bin]} << 2 * kLimbBits);
      const Sum sum = ExclusiveSum(amount);
      if (sum.before < result.rest && result.rest <= sum.before + amount) {
        shared_.crossing = {sum.before, amount, bin};
      }
      __syncthreads();
      if (sum.total < result.rest) return {};
      const Crossing found = shared_.crossing;
      result = {.threshold = result.threshold << kDigitBits | found.place,
                .rest = result.rest - found.before,
                .amount = found.amount};
    }
    return result;
  }

  template <bool kByMass>
  __device__ void Count(uint32_t bin, float weight) {
    if constexpr (kByMass) {
      constexpr uint32_t kLimb{(1u << kLimbBits) - 1};
      const uint64_t mass = Mass(weight);
      atomicAdd(&shared_.histogram[0][bin], static_cast<uint32_t>(mass) & kLimb);
      atomicAdd(&shared_.histogram[1][bin], static_cast<uint32_t>(mass >> kLimbBits) & kLimb);
      atomicAdd(&shared_.histogram[2][bin], static_cast<uint32_t>(mass >> 2 * kLimbBits));
    } else {
      atomicAdd(&shared_.histogram[0][bin], 1u);
    }
  }

  // Id of the `rank`-th token, counted from 1, whose weight is the threshold.
  __device__ __noinline__ int32_t FindTie(const Distribution d, int32_t rank) {
    int32_t seen = 0;
    for (int32_t base = 0; base < d.size; base += kSamplingThreads) {
      const int32_t i = base + static_cast<int32_t>(threadIdx.x);
      const bool tie = i < d.size && __float_as_uint(d.Weight(i)) == d.threshold;
      const int32_t here = __syncthreads_count(tie);
      if (seen + here >= rank) {
        const int32_t before = static_cast<int32_t>(ExclusiveSum(uint64_t{tie}).before);
        if (tie && seen + before + 1 == rank) shared_.token = i;
        __syncthreads();
        return shared_.token;
      }
      seen += here;
    }
    return kEveryTie;
  }

  Storage& shared_;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_BLOCK_SAMPLING_CUH_
