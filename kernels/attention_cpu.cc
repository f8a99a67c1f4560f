#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/attention.h"
#include "kernels/common/check.h"
#include "kernels/common/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/common/simd_math-inl.h"
#include "kernels/common/weight_load-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sidewinder {
namespace HWY_NAMESPACE {

constexpr int64_t kMaxHeadDim{256};
constexpr int64_t kHeadBlock{4};  // query heads that share a load of keys and values

// Keys or values of one head of one sequence.
struct HeadPages {
  void* const* pages;
  int64_t offset;  // bytes from a page's beginning to the head's position 0
  int64_t head_dim;

  template <class T>
  T* At(int64_t position) const {
    return reinterpret_cast<T*>(static_cast<char*>(pages[position / kKvPagePositions]) + offset) +
           position % kKvPagePositions * head_dim;
  }
};

HeadPages PagesOf(const AttentionParams& p, int32_t slot, int64_t part_offset, int64_t kv_head) {
  return {p.cache.tables[slot],
          part_offset +
              kv_head * kKvPagePositions * p.head_dim * static_cast<int64_t>(SizeOf(p.cache.dtype)),
          p.head_dim};
}

// Per-head norm and rotation; `out` may be `in`. cosines and sines have rotary_dim / 2 elements.
void PrepareHead(const AttentionParams& p, const float* in, const float* norm, const float* cosines,
                 const float* sines, float* out) {
  const F32 d;
  const int64_t lanes = hn::Lanes(d), size = p.head_dim;
  if (norm != nullptr) {
    VecF32 squares = hn::Zero(d);
    for (int64_t i = 0; i < size; i += lanes) {
      const VecF32 x = LoadFirst(in + i, std::min(lanes, size - i));
      squares = hn::MulAdd(x, x, squares);
    }
    const float mean = hn::GetLane(hn::SumOfLanes(d, squares)) / static_cast<float>(size);
    const VecF32 scale = hn::Set(d, 1.0f / std::sqrt(mean + p.norm_eps));
    for (int64_t i = 0; i < size; i += lanes) {
      const size_t count = std::min(lanes, size - i);
      const VecF32 x = hn::Mul(LoadFirst(in + i, count), scale);
      StoreFirst(hn::Mul(x, LoadFirst(norm + i, count)), out + i, count);
    }
  } else if (in != out) {
    std::memcpy(out, in, size * sizeof(float));
  }
  const int64_t half = p.rotary_dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float first = out[i], second = out[i + half];
    out[i] = first * cosines[i] - second * sines[i];
    out[i + half] = second * cosines[i] + first * sines[i];
  }
}

uint16_t RoundToBFloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return static_cast<uint16_t>(is_nan ? bits >> 16 | 0x40u : rounded);
}

void StoreInCache(DType dtype, const HeadPages& pages, int64_t position, const float* from) {
  if (dtype == DType::kFloat32) {
    std::memcpy(pages.At<float>(position), from, pages.head_dim * sizeof(float));
    return;
  }
  uint16_t* to = pages.At<uint16_t>(position);
  for (int64_t i = 0; i < pages.head_dim; ++i) to[i] = RoundToBFloat16(from[i]);
}

// Stores keys and values of a row in the cache and its prepared queries in `output`.
void PrepareRow(const AttentionParams& p, const SequenceRows& seq, int64_t row) {
  const int64_t position = seq.consumed + row - seq.first_row;
  float cosines[kMaxHeadDim / 2], sines[kMaxHeadDim / 2], head[kMaxHeadDim];
  for (int64_t i = 0; i < p.rotary_dim / 2; ++i) {
    const float angle = static_cast<float>(position) * p.inv_freq[i];
    cosines[i] = std::cos(angle);
    sines[i] = std::sin(angle);
  }
  for (int64_t g = 0; g < p.num_kv_heads; ++g) {
    PrepareHead(p, p.key + row * p.key_stride + g * p.head_dim, p.key_norm, cosines, sines, head);
    StoreInCache(p.cache.dtype, PagesOf(p, seq.slot, p.cache.key_offset, g), position, head);
    StoreInCache(p.cache.dtype, PagesOf(p, seq.slot, p.cache.value_offset, g), position,
                 p.value + row * p.value_stride + g * p.head_dim);
  }
  for (int64_t h = 0; h < p.num_heads; ++h) {
    PrepareHead(p, p.query + row * p.query_stride + h * p.head_dim, p.query_norm, cosines, sines,
                p.output + row * p.output_stride + h * p.head_dim);
  }
}

template <class T>
HWY_INLINE VecF32 LoadCached(const T* from, int64_t count) {
  const int64_t lanes = hn::Lanes(F32());
  return HWY_LIKELY(count >= lanes) ? LoadWide(from) : LoadWideFirst(from, count);
}

// scores[h][s - first] = scale * query[h] . key at s, for kHeads heads and first <= s < stop. A
// score is one chain of vectors whatever is computed beside it.
template <int64_t kHeads, class T>
void Scores(const HeadPages& keys, const float* queries, int64_t query_stride, int64_t first,
            int64_t stop, float scale, float* scores) {
  constexpr int64_t kPositions{kHeads == 1 ? 4 : 2};
  const F32 d;
  const int64_t lanes = hn::Lanes(d), size = keys.head_dim;
  for (int64_t s = first; s < stop; s += kPositions) {
    const T* at[kPositions];  // beyond the last: the last again, for nothing
    for (int64_t j = 0; j < kPositions; ++j) at[j] = keys.At<const T>(std::min(s + j, stop - 1));
    VecF32 sums[kHeads * kPositions];
    for (VecF32& sum : sums) sum = hn::Zero(d);
    for (int64_t i = 0; i < size; i += lanes) {
      VecF32 key[kPositions];
      for (int64_t j = 0; j < kPositions; ++j) key[j] = LoadCached(at[j] + i, size - i);
      for (int64_t h = 0; h < kHeads; ++h) {
        const VecF32 query = LoadFirst(queries + h * query_stride + i, std::min(lanes, size - i));
        for (int64_t j = 0; j < kPositions; ++j) {
          sums[h * kPositions + j] = hn::MulAdd(query, key[j], sums[h * kPositions + j]);
        }
      }
    }
    for (int64_t h = 0; h < kHeads; ++h) {
      for (int64_t j = 0; j < std::min(kPositions, stop - s); ++j) {
        scores[h * kKvSegment + s + j - first] =
            hn::GetLane(hn::SumOfLanes(d, sums[h * kPositions + j])) * scale;
      }
    }
  }
}

// Scores to e^(score - max), in place; returns the maximum and the sum.
struct Softmax {
  float max = -std::numeric_limits<float>::infinity();
  float sum = 0;
};
Softmax Exponentiate(float* scores, int64_t count) {
  const F32 d;
  const int64_t lanes = hn::Lanes(d);
  Softmax softmax;
  for (int64_t i = 0; i < count; ++i) softmax.max = std::max(softmax.max, scores[i]);
  const VecF32 max = hn::Set(d, softmax.max);
  VecF32 sum = hn::Zero(d);
  for (int64_t i = 0; i < count; i += lanes) {
    const size_t n = std::min(lanes, count - i);
    const VecF32 weight = ExpF32(hn::Sub(LoadFirst(scores + i, n), max));
    StoreFirst(weight, scores + i, n);
    sum = hn::Add(sum, n == static_cast<size_t>(lanes) ? weight : LoadFirst(scores + i, n));
  }
  softmax.sum = hn::GetLane(hn::SumOfLanes(d, sum));
  return softmax;
}

// Joins the segment [first, stop) to what a head has: sums[i] = sums[i] * keep + sum_s weight[s]
// v[s][i] * add.
template <int64_t kHeads, class T>
void AddValues(const HeadPages& values, const float* weights, int64_t first, int64_t stop,
               const float* keep, const float* add, float* sums) {
  constexpr int64_t kVectors{kHeads == 1 ? 4 : 2};
  const F32 d;
  const int64_t lanes = hn::Lanes(d), size = values.head_dim;
  for (int64_t i = 0; i < size; i += kVectors * lanes) {
    VecF32 segment[kHeads * kVectors];
    for (VecF32& sum : segment) sum = hn::Zero(d);
    const int64_t vectors = std::min(kVectors, (size - i + lanes - 1) / lanes);
    for (int64_t s = first; s < stop; ++s) {
      const T* at = values.At<const T>(s) + i;
      for (int64_t v = 0; v < vectors; ++v) {
        const VecF32 value = LoadCached(at + v * lanes, size - i - v * lanes);
        for (int64_t h = 0; h < kHeads; ++h) {
          const VecF32 weight = hn::Set(d, weights[h * kKvSegment + s - first]);
          segment[h * kVectors + v] = hn::MulAdd(weight, value, segment[h * kVectors + v]);
        }
      }
    }
    for (int64_t h = 0; h < kHeads; ++h) {
      for (int64_t v = 0; v < vectors; ++v) {
        float* to = sums + h * kMaxHeadDim + i + v * lanes;
        const size_t count = std::min(lanes, size - i - v * lanes);
        const VecF32 kept = hn::Mul(LoadFirst(to, count), hn::Set(d, keep[h]));
        StoreFirst(hn::MulAdd(segment[h * kVectors + v], hn::Set(d, add[h]), kept), to, count);
      }
    }
  }
}

// kHeads query heads of one row, from `head` on, which share a head of the cache.
template <int64_t kHeads, class T>
void AttendHeads(const AttentionParams& p, const SequenceRows& seq, int64_t row, int64_t head) {
  const int64_t position = seq.consumed + row - seq.first_row;
  const int64_t kv_head = head / (p.num_heads / p.num_kv_heads);
  const HeadPages keys = PagesOf(p, seq.slot, p.cache.key_offset, kv_head);
  const HeadPages values = PagesOf(p, seq.slot, p.cache.value_offset, kv_head);
  float* output = p.output + row * p.output_stride + head * p.head_dim;  // the queries so far
  float weights[kHeads * kKvSegment], sums[kHeads * kMaxHeadDim] = {};
  Softmax joined[kHeads];
  int64_t first = p.window > 0 ? std::max<int64_t>(0, position - p.window + 1) : 0;
  while (first <= position) {
    const int64_t stop = std::min(position + 1, (first / kKvSegment + 1) * kKvSegment);
    Scores<kHeads, T>(keys, output, p.head_dim, first, stop, p.scale, weights);
    float keep[kHeads], add[kHeads];
    for (int64_t h = 0; h < kHeads; ++h) {
      const Softmax segment = Exponentiate(weights + h * kKvSegment, stop - first);
      const float max = std::max(joined[h].max, segment.max);
      keep[h] = std::exp(joined[h].max - max);
      add[h] = std::exp(segment.max - max);
      joined[h] = {max, joined[h].sum * keep[h] + segment.sum * add[h]};
    }
    AddValues<kHeads, T>(values, weights, first, stop, keep, add, sums);
    first = stop;
  }
  for (int64_t h = 0; h < kHeads; ++h) {
    for (int64_t i = 0; i < p.head_dim; ++i) {
      output[h * p.head_dim + i] = sums[h * kMaxHeadDim + i] / joined[h].sum;
    }
  }
}

template <class T>
void AttendGroup(const AttentionParams& p, const SequenceRows& seq, int64_t row, int64_t kv_head) {
  const int64_t group = p.num_heads / p.num_kv_heads, stop = (kv_head + 1) * group;
  int64_t head = kv_head * group;
  for (; head + kHeadBlock <= stop; head += kHeadBlock) {
    AttendHeads<kHeadBlock, T>(p, seq, row, head);
  }
  for (; head < stop; ++head) AttendHeads<1, T>(p, seq, row, head);
}

// All query heads of one row that share a head of the cache.
void AttendRow(const AttentionParams& p, const SequenceRows& seq, int64_t row, int64_t kv_head) {
  if (p.cache.dtype == DType::kFloat32) {
    AttendGroup<float>(p, seq, row, kv_head);
  } else {
    AttendGroup<hwy::bfloat16_t>(p, seq, row, kv_head);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sidewinder
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sidewinder {

HWY_EXPORT(PrepareRow);
HWY_EXPORT(AttendRow);

namespace {

// The sequence of a row; rows of sequences follow each other in order.
const SequenceRows& SequenceOf(const RowPlan& plan, int64_t row) {
  int32_t s = 0;
  while (row >= plan.sequences[s].first_row + plan.sequences[s].num_rows) ++s;
  return plan.sequences[s];
}

// Multiplications that all rows of the plan need for scores and sums.
int64_t Work(const AttentionParams& p) {
  int64_t work = 0;
  for (int32_t s = 0; s < *p.plan.num_sequences; ++s) {
    const SequenceRows& seq = p.plan.sequences[s];
    const int64_t end = int64_t{seq.consumed} + seq.num_rows;
    work += seq.num_rows * (p.window > 0 ? std::min(p.window, end) : end);
  }
  return work * 2 * p.num_heads * p.head_dim;
}

}  // namespace

void AttentionCpu(ExecutionContext& ctx, const AttentionParams& p) {
  SW_CHECK(p.head_dim >= 2 && p.head_dim <= 256 && p.head_dim % 2 == 0)
      << "head_dim=" << p.head_dim;
  SW_CHECK(p.rotary_dim >= 0 && p.rotary_dim <= p.head_dim && p.rotary_dim % 2 == 0)
      << "rotary_dim=" << p.rotary_dim;
  SW_CHECK(p.num_kv_heads >= 1 && p.num_heads % p.num_kv_heads == 0)
      << "num_heads=" << p.num_heads << " num_kv_heads=" << p.num_kv_heads;
  SW_CHECK(p.cache.dtype != DType::kFloat16) << "a cache of " << Name(p.cache.dtype);
  const int64_t num_rows = *p.plan.num_rows;
  if (num_rows <= 0) return;
  // About the time of a fork, in multiplications and in elements to prepare.
  constexpr int64_t kGrainWork{65536}, kGrainElements{8192};
  const int64_t elements = (p.num_heads + 2 * p.num_kv_heads) * p.head_dim;
  const auto prepare = HWY_DYNAMIC_DISPATCH(PrepareRow);
  ctx.pool->ParallelFor(num_rows, std::max<int64_t>(1, kGrainElements / elements),
                        [&](int64_t begin, int64_t end, int) {
                          for (int64_t row = begin; row < end; ++row) {
                            prepare(p, SequenceOf(p.plan, row), row);
                          }
                        });
  // An item is a row and a head of the cache, rows of one head together: they share its keys.
  const int64_t items = num_rows * p.num_kv_heads;
  const int64_t grain = std::clamp<int64_t>(kGrainWork * items / (Work(p) + 1), 1, items);
  const auto attend = HWY_DYNAMIC_DISPATCH(AttendRow);
  ctx.pool->ParallelFor(items, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t row = item % num_rows;
      attend(p, SequenceOf(p.plan, row), row, item / num_rows);
    }
  });
}

}  // namespace sidewinder
#endif  // HWY_ONCE
