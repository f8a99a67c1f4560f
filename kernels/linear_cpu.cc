// Tiles of four output rows by up to kMaxTileRows token rows live in registers. One accumulator
// vector belongs to each (output, token) pair and takes the products of its row in order of the
// input index; four of them are summed over lanes together by one transposing tree. Both orders
// depend on the lane count and in_dim alone, hence the bits of a row on nothing else.
#include <algorithm>
#include <cstring>
#include <memory>
#include <type_traits>

#include "kernels/common/check.h"
#include "kernels/common/simd_targets.h"
#include "kernels/linear.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear_cpu.cc"
#include "hwy/aligned_allocator.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/common/weight_load-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sidewinder {
namespace HWY_NAMESPACE {

constexpr int kTileOutputs{4};
#if HWY_TARGET == HWY_AVX3 || HWY_ARCH_ARM_A64
constexpr int kMaxTileRows{6};  // 32 registers
#else
constexpr int kMaxTileRows{2};  // 16 registers
#endif

// Two vectors of consecutive products: weights of bfloat16 are widened in place by a shift and a
// mask, which yields elements 0 2 4 ... and 1 3 5 ...; PackRow puts the inputs in the same order.
struct VecPair {
  VecF32 first, second;
};

HWY_INLINE VecPair LoadPair(const float* from) {
  return {LoadWide(from), LoadWide(from + hn::Lanes(F32()))};
}
HWY_INLINE VecPair LoadPair(const hwy::float16_t* from) {
  return {LoadWide(from), LoadWide(from + hn::Lanes(F32()))};
}
HWY_INLINE VecPair LoadPair(const hwy::bfloat16_t* from) {
#if HWY_TARGET == HWY_SCALAR
  return {LoadWide(from), LoadWide(from + 1)};
#else
  const F32 d;
  const hn::RebindToUnsigned<F32> du;
  const hn::Repartition<uint16_t, F32> du16;
  const auto bits = hn::BitCast(du, hn::LoadU(du16, reinterpret_cast<const uint16_t*>(from)));
  return {hn::BitCast(d, hn::ShiftLeft<16>(bits)),
          hn::BitCast(d, hn::And(bits, hn::Set(du, 0xffff0000u)))};
#endif
}

// The pair with the last `count` elements of a row, zeros behind.
template <class T>
HWY_INLINE VecPair LoadTail(const T* from, size_t count) {
  HWY_ALIGN T padded[2 * hn::MaxLanes(F32())];
  std::memset(padded, 0, sizeof(padded));
  std::memcpy(padded, from, count * sizeof(T));
  return LoadPair(padded);
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

// Inputs of one token, padded with zeros to whole pairs and in the order of LoadPair.
template <class T>
void PackRow(const float* from, float* to, int64_t in_dim) {
  const F32 d;
  const int64_t lanes = hn::Lanes(d);
  for (int64_t i = 0; i < in_dim; i += 2 * lanes, to += 2 * lanes) {
    const int64_t count = std::min(2 * lanes, in_dim - i);
    if constexpr (HWY_TARGET != HWY_SCALAR && std::is_same_v<T, hwy::bfloat16_t>) {
      for (int64_t k = 0; k < lanes; ++k) {
        to[k] = 2 * k < count ? from[i + 2 * k] : 0;
        to[lanes + k] = 2 * k + 1 < count ? from[i + 2 * k + 1] : 0;
      }
    } else {
      for (int64_t k = 0; k < 2 * lanes; ++k) to[k] = k < count ? from[i + k] : 0;
    }
  }
}

// kRows tokens times four rows of weights -> sums[token][4].
template <int kRows, class T>
HWY_INLINE void Tile(const T* const (&w)[kTileOutputs], const float* packed, int64_t packed_stride,
                     int64_t in_dim, float* sums) {
  const F32 d;
  const int64_t step = 2 * hn::Lanes(d);
  VecF32 acc[kTileOutputs][kRows];
  for (auto& row : acc) {
    for (VecF32& v : row) v = hn::Zero(d);
  }
  const auto multiply = [&](int m, const VecPair& weights, const float* x) HWY_ATTR {
    for (int r = 0; r < kRows; ++r) {
      acc[m][r] = hn::MulAdd(weights.first, hn::Load(d, x + r * packed_stride), acc[m][r]);
    }
    for (int r = 0; r < kRows; ++r) {
      acc[m][r] =
          hn::MulAdd(weights.second, hn::Load(d, x + r * packed_stride + step / 2), acc[m][r]);
    }
  };
  int64_t i = 0;
  for (; i + step <= in_dim; i += step) {
    for (int m = 0; m < kTileOutputs; ++m) multiply(m, LoadPair(w[m] + i), packed + i);
  }
  if (i < in_dim) {
    for (int m = 0; m < kTileOutputs; ++m) multiply(m, LoadTail(w[m] + i, in_dim - i), packed + i);
  }
  for (int r = 0; r < kRows; ++r) {
    StoreSums4(acc[0][r], acc[1][r], acc[2][r], acc[3][r], sums + kTileOutputs * r);
  }
}

template <class T>
void OutputTiles(const LinearParams& p, const T* weight, const float* packed, int64_t packed_stride,
                 int64_t num_rows, int64_t tile_begin, int64_t tile_end) {
  HWY_ALIGN float sums[kMaxTileRows * kTileOutputs];
  for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
    const int64_t first = tile * kTileOutputs;
    const int64_t count = std::min<int64_t>(kTileOutputs, p.out_dim - first);
    const T* w[kTileOutputs];
    for (int m = 0; m < kTileOutputs; ++m) {
      w[m] = weight + (first + std::min<int64_t>(m, count - 1)) * p.in_dim;
    }
    for (int64_t row = 0; row < num_rows;) {
      const int64_t rows = std::min<int64_t>(kMaxTileRows, num_rows - row);
      const float* x = packed + row * packed_stride;
      switch (rows) {
        case 1:
          Tile<1>(w, x, packed_stride, p.in_dim, sums);
          break;
        case 2:
          Tile<2>(w, x, packed_stride, p.in_dim, sums);
          break;
#if HWY_TARGET == HWY_AVX3 || HWY_ARCH_ARM_A64
        case 3:
          Tile<3>(w, x, packed_stride, p.in_dim, sums);
          break;
        case 4:
          Tile<4>(w, x, packed_stride, p.in_dim, sums);
          break;
        case 5:
          Tile<5>(w, x, packed_stride, p.in_dim, sums);
          break;
        case 6:
          Tile<6>(w, x, packed_stride, p.in_dim, sums);
          break;
#endif
      }
      for (int64_t r = 0; r < rows; ++r) {
        float* out = p.output + (row + r) * p.output_stride + first;
        for (int64_t m = 0; m < count; ++m) {
          float sum = sums[r * kTileOutputs + m];
          if (p.bias != nullptr) sum += p.bias[first + m];
          if (p.accumulate) sum += out[m];
          out[m] = sum;
        }
      }
      row += rows;
    }
  }
}

void LinearTiles(const LinearParams& p, int64_t num_rows, int64_t tile_begin, int64_t tile_end) {
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
    for (int64_t r = 0; r < num_rows; ++r) {
      const int64_t from = p.row_index != nullptr ? p.row_index[r] : r;
      PackRow<T>(p.input + from * p.input_stride, packed + r * packed_stride, p.in_dim);
    }
    OutputTiles(p, weight, packed, packed_stride, num_rows, tile_begin, tile_end);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace sidewinder
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sidewinder {

HWY_EXPORT(LinearTiles);

void Linear(ExecutionContext& ctx, const LinearParams& params) {
  SW_CHECK(ctx.device == DeviceType::kCpu);
  SW_CHECK(params.in_dim >= 1 && params.out_dim >= 1)
      << "in_dim=" << params.in_dim << " out_dim=" << params.out_dim;
  const int64_t num_rows = *params.num_rows;
  if (num_rows <= 0) return;
  constexpr int64_t kTile{4};
  constexpr int64_t kGrainBytes{16384};  // about the time of a fork
  const int64_t tile_bytes = kTile * params.in_dim * SizeOf(params.weight_dtype);
  const int64_t grain = std::max<int64_t>(1, kGrainBytes / tile_bytes / ((num_rows + 7) / 8));
  const auto tiles = HWY_DYNAMIC_DISPATCH(LinearTiles);
  ctx.pool->ParallelFor(
      (params.out_dim + kTile - 1) / kTile, grain,
      [&](int64_t begin, int64_t end, int) { tiles(params, num_rows, begin, end); });
}

}  // namespace sidewinder
#endif  // HWY_ONCE
