// Tiles of 4 or 8 outputs by up to kMaxTileRows token rows live in registers. One accumulator
// vector belongs to each (output, token) pair and takes the products of its row in order of the
// input index; four of them are summed over lanes together by one transposing tree. Both orders
// depend on the lane count and in_dim alone, hence the bits of a row on nothing else.
//
// A few rows are bound by the bytes of the weights, which pass once, each thread reading the same
// share every time. Many rows are bound by multiply-adds: a block of weights stays in the first
// level of cache while all tokens pass by it.
#include <algorithm>
#include <cstring>
#include <memory>
#include <type_traits>
#include <utility>

#include "kernels/common/amx.h"
#include "kernels/common/check.h"
#include "kernels/common/simd_targets.h"
#include "kernels/linear.h"
#include "kernels/linear_cpu.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear_cpu.cc"
#include "hwy/aligned_allocator.h"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/common/weight_load-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sidewinder {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_AVX3 || HWY_ARCH_ARM_A64
constexpr int kMaxTileRows{6};  // 32 registers
#else
constexpr int kMaxTileRows{2};  // 16 registers
#endif
constexpr int64_t kWeightBlockBytes{32768};
constexpr int64_t kCacheLine{64};
constexpr int64_t kPrefetchBytes{8192};  // how far ahead of the products

// Vector `kHalf` (0 or 1) of the two that make a step along a row. Weights of bfloat16 are widened
// in place by a shift or a mask, which yields elements 0 2 4 ... or 1 3 5 ...; PackRow puts the
// inputs in the same order.
template <int kHalf, class T>
HWY_INLINE VecF32 LoadHalf(const T* from) {
#if HWY_TARGET != HWY_SCALAR
  if constexpr (std::is_same_v<T, hwy::bfloat16_t>) {
    const F32 d;
    const hn::RebindToUnsigned<F32> du;
    const hn::Repartition<uint16_t, F32> du16;
    const auto bits = hn::BitCast(du, hn::LoadU(du16, reinterpret_cast<const uint16_t*>(from)));
    return hn::BitCast(
        d, kHalf == 0 ? hn::ShiftLeft<16>(bits) : hn::And(bits, hn::Set(du, 0xffff0000u)));
  }
#endif
  return LoadWide(from + kHalf * hn::Lanes(F32()));
}

// Stores the sums of the lanes of four vectors.
HWY_INLINE void StoreSums4(VecF32 a, VecF32 b, VecF32 c, VecF32 e, float* to) {
#if HWY_TARGET == HWY_SCALAR
  to[0] = hn::GetLane(a);
  to[1] = hn::GetLane(b);
  to[2] = hn::GetLane(c);
  to[3] = hn::GetLane(e);
#else
  const F32 d;
  const hn::Repartition<uint64_t, F32> d64;
  const VecF32 ab = hn::Add(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b));
  const VecF32 ce = hn::Add(hn::InterleaveLower(d, c, e), hn::InterleaveUpper(d, c, e));
  const auto ab64 = hn::BitCast(d64, ab);
  const auto ce64 = hn::BitCast(d64, ce);
  const VecF32 blocks = hn::Add(hn::BitCast(d, hn::InterleaveLower(d64, ab64, ce64)),
                                hn::BitCast(d, hn::InterleaveUpper(d64, ab64, ce64)));
  const hn::FixedTag<float, 4> d4;  // every block of four lanes holds partial sums of a, b, c, e
#if HWY_TARGET == HWY_AVX3
  const hn::Half<F32> dh;
  const auto half = hn::Add(hn::LowerHalf(dh, blocks), hn::UpperHalf(dh, blocks));
  hn::StoreU(hn::Add(hn::LowerHalf(d4, half), hn::UpperHalf(d4, half)), d4, to);
#elif HWY_TARGET == HWY_AVX2
  hn::StoreU(hn::Add(hn::LowerHalf(d4, blocks), hn::UpperHalf(d4, blocks)), d4, to);
#else
  hn::StoreU(blocks, d4, to);
#endif
#endif
}

// Inputs of one token, padded with zeros to whole steps and in the order of LoadHalf.
template <class T>
void PackRow(const float* from, float* to, int64_t in_dim) {
  const F32 d;
  const int64_t lanes = hn::Lanes(d);
  PrefetchAll(from, in_dim * sizeof(float));
  for (int64_t i = 0; i < in_dim; i += 2 * lanes) {
    VecF32 first = LoadFirst(from + i, std::min(lanes, in_dim - i));
    VecF32 second = hn::Zero(d);
    if (i + lanes < in_dim) {
      second = LoadFirst(from + i + lanes, std::min(lanes, in_dim - i - lanes));
    }
#if HWY_TARGET != HWY_SCALAR
    if constexpr (std::is_same_v<T, hwy::bfloat16_t>) {
      const VecF32 even = hn::ConcatEven(d, second, first);
      second = hn::ConcatOdd(d, second, first);
      first = even;
    }
#endif
    hn::Store(first, d, to + i);
    hn::Store(second, d, to + i + lanes);
  }
}

// Where the results of a tile go.
struct TileOutput {
  float* output;  // first token, first output
  int64_t stride;
  const float* bias;   // of the first output, may be null
  const float* scale;  // likewise
  bool accumulate;
};

// The first `count` of four sums to `out`.
HWY_INLINE void StoreOutputs(const float* sums, int64_t count, const TileOutput& to, int64_t row,
                             int64_t first) {
  float* out = to.output + row * to.stride + first;
#if HWY_TARGET != HWY_SCALAR
  if (HWY_LIKELY(count == 4)) {
    const hn::FixedTag<float, 4> d;
    auto sum = hn::Load(d, sums);
    if (to.bias != nullptr) sum = hn::Add(sum, hn::LoadU(d, to.bias + first));
    if (to.scale != nullptr) sum = hn::Mul(sum, hn::LoadU(d, to.scale + first));
    if (to.accumulate) sum = hn::Add(sum, hn::LoadU(d, out));
    hn::StoreU(sum, d, out);
    return;
  }
#endif
  for (int64_t m = 0; m < count; ++m) {
    float sum = sums[m];
    if (to.bias != nullptr) sum += to.bias[first + m];
    if (to.scale != nullptr) sum *= to.scale[first + m];
    if (to.accumulate) sum += out[m];
    out[m] = sum;
  }
}

// Calls fn with the constants 0 ... kCount - 1: arrays of vectors stay in registers only if every
// index is known before the first optimisation pass.
template <int kCount, class Fn>
HWY_INLINE void Unroll(const Fn& fn) {
  [&]<int... kIdx>(std::integer_sequence<int, kIdx...>) HWY_ATTR {
    (fn(std::integral_constant<int, kIdx>()), ...);
  }
  (std::make_integer_sequence<int, kCount>());
}

// Adds the products of one half of a step: of kOutputs rows of weights `w_stride` elements apart.
template <int kHalf, int kOutputs, int kRows, class T>
HWY_INLINE void MultiplyHalf(const T* w, int64_t w_stride, const float* packed,
                             int64_t packed_stride, VecF32 (&acc)[kOutputs][kRows]) {
  const F32 d;
  VecF32 x[kRows];
  Unroll<kRows>([&](auto r) HWY_ATTR {
    x[r] = hn::Load(d, packed + r * packed_stride + kHalf * hn::Lanes(d));
  });
  Unroll<kOutputs>([&](auto m) HWY_ATTR {
    const VecF32 weights = LoadHalf<kHalf>(w + m * w_stride);
    Unroll<kRows>([&](auto r) HWY_ATTR { acc[m][r] = hn::MulAdd(weights, x[r], acc[m][r]); });
  });
}

// kOutputs rows of weights, `w_stride` elements apart, times kRows tokens. The first `num_outputs`
// results are stored.
template <int kOutputs, int kRows, class T>
HWY_INLINE void Tile(const T* w, int64_t w_stride, int64_t num_outputs, const float* packed,
                     int64_t packed_stride, int64_t in_dim, const TileOutput& to) {
  const F32 d;
  const int64_t step = 2 * hn::Lanes(d);
  VecF32 acc[kOutputs][kRows];
  Unroll<kOutputs>(
      [&](auto m) HWY_ATTR { Unroll<kRows>([&](auto r) HWY_ATTR { acc[m][r] = hn::Zero(d); }); });
  // The last step of a row that is not whole is a copy with zeros behind.
  constexpr size_t kMaxStep{2 * hn::MaxLanes(F32())};
  HWY_ALIGN T tail[kOutputs * kMaxStep];
  int64_t end = in_dim / step * step;
  for (int64_t i = 0;;) {
    for (; i < end; i += step) {
      // The rows of a tile lie apart, which the hardware's prefetcher does not follow. What comes
      // next lies right behind them.
      const char* ahead = reinterpret_cast<const char*>(w + kOutputs * i) + kPrefetchBytes;
      for (size_t byte = 0; byte < kOutputs * kMaxStep * sizeof(T); byte += kCacheLine) {
        hwy::Prefetch(ahead + byte);
      }
      MultiplyHalf<0>(w + i, w_stride, packed + i, packed_stride, acc);
      MultiplyHalf<1>(w + i, w_stride, packed + i, packed_stride, acc);
    }
    if (HWY_LIKELY(i >= in_dim)) break;
    std::memset(tail, 0, sizeof(tail));
    for (int m = 0; m < kOutputs; ++m) {
      std::memcpy(tail + m * kMaxStep, w + m * w_stride + i, (in_dim - i) * sizeof(T));
    }
    w = tail - i;
    w_stride = kMaxStep;
    end = i + step;
  }
  HWY_ALIGN float sums[kOutputs / 4][kRows][4];
  Unroll<kOutputs / 4>([&](auto m) HWY_ATTR {
    Unroll<kRows>([&](auto r) HWY_ATTR {
      StoreSums4(acc[4 * m][r], acc[4 * m + 1][r], acc[4 * m + 2][r], acc[4 * m + 3][r],
                 sums[m][r]);
    });
  });
  for (int m = 0; m < kOutputs / 4; ++m) {
    const int64_t count = std::min<int64_t>(4, num_outputs - 4 * m);
    for (int r = 0; r < kRows; ++r) StoreOutputs(sums[m][r], count, to, r, 4 * m);
  }
}

template <int kRows, class T>
void TileRows(const LinearParams& p, const T* weight, const float* packed, int64_t packed_stride,
              int64_t row, int64_t begin, int64_t end) {
  constexpr int kOutputs{kRows <= 2 && kMaxTileRows > 2 ? 8 : 4};
  const float* x = packed + row * packed_stride;
  const auto output = [&](int64_t o) {
    return TileOutput{.output = p.output + row * p.output_stride + o,
                      .stride = p.output_stride,
                      .bias = p.bias != nullptr ? p.bias + o : nullptr,
                      .scale = p.scale != nullptr ? p.scale + o : nullptr,
                      .accumulate = p.accumulate};
  };
  int64_t o = begin;
  for (; o + kOutputs <= end; o += kOutputs) {
    Tile<kOutputs, kRows>(weight + o * p.in_dim, p.in_dim, kOutputs, x, packed_stride, p.in_dim,
                          output(o));
  }
  for (; o < end; ++o) {  // what is left over at the end of a matrix: the same row four times
    Tile<4, kRows>(weight + o * p.in_dim, 0, 1, x, packed_stride, p.in_dim, output(o));
  }
}

// Outputs [begin, end) of all tokens.
template <class T>
void Outputs(const LinearParams& p, const T* weight, const float* packed, int64_t packed_stride,
             int64_t num_rows, int64_t begin, int64_t end) {
  const int64_t num_tiles = (num_rows + kMaxTileRows - 1) / kMaxTileRows;
  const int64_t row_bytes = p.in_dim * sizeof(T);
  const int64_t block =
      num_tiles == 1 ? end - begin : std::max<int64_t>(1, kWeightBlockBytes / row_bytes / 8) * 8;
  for (int64_t o = begin; o < end; o += block) {
    const int64_t stop = std::min(end, o + block);
    for (int64_t tile = 0; tile < num_tiles; ++tile) {
      const int64_t row = tile * num_rows / num_tiles;
      switch ((tile + 1) * num_rows / num_tiles - row) {
        case 1:
          TileRows<1>(p, weight, packed, packed_stride, row, o, stop);
          break;
        case 2:
          TileRows<2>(p, weight, packed, packed_stride, row, o, stop);
          break;
#if HWY_TARGET == HWY_AVX3 || HWY_ARCH_ARM_A64
        case 3:
          TileRows<3>(p, weight, packed, packed_stride, row, o, stop);
          break;
        case 4:
          TileRows<4>(p, weight, packed, packed_stride, row, o, stop);
          break;
        case 5:
          TileRows<5>(p, weight, packed, packed_stride, row, o, stop);
          break;
        case 6:
          TileRows<6>(p, weight, packed, packed_stride, row, o, stop);
          break;
#endif
      }
    }
  }
}

void LinearOutputs(const LinearParams& p, int64_t num_rows, int64_t begin, int64_t end) {
#if HWY_TARGET == HWY_AVX3
  if (UsesAmx(p)) return LinearAmx(p, num_rows, begin, end);
#endif
  const int64_t step = 2 * hn::Lanes(F32());
  const int64_t packed_stride = (p.in_dim + step - 1) / step * step;
  static thread_local hwy::AlignedFreeUniquePtr<float[]> scratch;
  static thread_local int64_t scratch_size = 0;
  if (scratch_size < num_rows * packed_stride) {
    scratch_size = num_rows * packed_stride;
    scratch = hwy::AllocateAligned<float>(scratch_size);
  }
  float* packed = scratch.get();
  DispatchWeight(p.weight_dtype, p.weight, [&](const auto* weight) HWY_ATTR {
    using T = std::remove_cv_t<std::remove_pointer_t<decltype(weight)>>;
    // Up to where the prefetch within a tile begins.
    PrefetchAll(weight + begin * p.in_dim, kPrefetchBytes);
    for (int64_t r = 0; r < num_rows; ++r) {
      const int64_t from = p.row_index != nullptr ? p.row_index[r] : r;
      PackRow<T>(p.input + from * p.input_stride, packed + r * packed_stride, p.in_dim);
    }
    Outputs(p, weight, packed, packed_stride, num_rows, begin, end);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace sidewinder
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sidewinder {

HWY_EXPORT(LinearOutputs);

void LinearOutputsCpu(const LinearParams& params, int64_t num_rows, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(LinearOutputs)(params, num_rows, begin, end);
}

void LinearCpu(ExecutionContext& ctx, const LinearParams& params) {
  SW_CHECK(params.in_dim >= 1 && params.out_dim >= 1)
      << "in_dim=" << params.in_dim << " out_dim=" << params.out_dim;
  const int64_t num_rows = *params.num_rows;
  if (num_rows <= 0) return;
  constexpr int64_t kTile{16};
  // Bytes of weights, for few rows, that the caller streams until a worker has begun.
  constexpr int64_t kLeadBytes{65536};
  const int64_t row_bytes = params.in_dim * static_cast<int64_t>(SizeOf(params.weight_dtype));
  const int64_t lead = kLeadBytes / row_bytes / ((num_rows + 7) / 8);
  const auto outputs = HWY_DYNAMIC_DISPATCH(LinearOutputs);
  ctx.pool->ParallelFor(
      params.out_dim, kTile,
      // Copies: a worker fetches them with the region rather than one behind the other.
      [outputs, params, num_rows](int64_t begin, int64_t end, int) {
        outputs(params, num_rows, begin, end);
      },
      lead);
}

}  // namespace sidewinder
#endif  // HWY_ONCE
