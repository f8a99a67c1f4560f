// Attention over a bfloat16 cache on tensor cores:
//   S = K Q^T scaled, P = 2^(S - max of a segment's column), O = V^T P, segment by segment.
// Keys, and values transposed, are the 16-row operand and columns (a row's query head) the 8-column
// operand, so that a column's bits do not depend on the columns beside it. q and P are rounded to
// bfloat16; sums of P are of the rounded weights, so that weights add up to one.
//
// Grid: one dimension, dealt out by FindWork: a block has up to 64 columns of one head of the
// cache and all or some of the segments that they see. Four warps: for S a warp has 32 of a
// segment's 128 positions, for O every fourth 16 elements of the head; maxima, sums and P cross
// over in shared memory. Keys of the next segment arrive while this one's values are used; values
// have a buffer of one or two segments.
// Barriers a segment: after the maxima, after P (and the values' arrival), after O.
//
// Few columns are bound by the bytes of keys and values, hundreds of rows by the tensor cores.
#ifndef SIDEWINDER_KERNELS_ATTENTION_TILES_CUH_
#define SIDEWINDER_KERNELS_ATTENTION_TILES_CUH_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/attention.cuh"
#include "kernels/common/async_copy.cuh"
#include "kernels/common/last_block.cuh"
#include "kernels/common/launch.cuh"
#include "kernels/common/load_matrix.cuh"
#include "kernels/common/mma_m16n8k16.cuh"
#include "kernels/common/shared_memory.cuh"

namespace sidewinder {

constexpr int kTileWarps{4};
constexpr int kTileThreads{32 * kTileWarps};
constexpr int kWarpPositions{kSegment / kTileWarps};
constexpr int kPositionTiles{kWarpPositions / 16};  // of a warp
constexpr int kQueryBatch{4};                       // loads of two elements in flight
static_assert(kPage % kWarpPositions == 0 && kSegment == kTileThreads);

// Sizes that follow from the shape, and where things lie in dynamic shared memory, in bytes. Rows
// of keys, values, queries and P are an odd number of 16 bytes apart: 8 of them hit all banks.
struct TileLayout {
  int num_columns;    // of a block at most, a multiple of 8
  int padded_dim;     // head_dim to a multiple of 16
  int pitch;          // between keys, values, queries
  int weight_pitch;   // between positions of P
  int value_buffers;  // 1 or 2
  bool wide_copies;   // vectors are multiples of 16 bytes
  int keys, values, queries, weights, columns, total;
};

// What warps exchange of columns, per column.
constexpr int kMaxTileColumns{64};
struct TileColumns {
  AttentionWork work;
  float* output[kMaxTileColumns];  // the prepared query before
  float maxima[kTileWarps][kMaxTileColumns];
  float sums[kTileWarps][kMaxTileColumns];
  float keep[kMaxTileColumns], add[kMaxTileColumns];              // of the segment to its group
  float group_keep[kMaxTileColumns], group_add[kMaxTileColumns];  // of the group to all
  float inverse[kMaxTileColumns];
  int first[kMaxTileColumns], last[kMaxTileColumns];  // positions that the column sees
  bool arrived_last;
};

constexpr TileLayout MakeTileLayout(int head_dim, int column_tiles, int value_buffers) {
  TileLayout l = {};
  l.num_columns = 8 * column_tiles;
  l.padded_dim = (head_dim + 15) / 16 * 16;
  l.pitch = 2 * l.padded_dim + 16;
  l.weight_pitch = 16 * (column_tiles | 1);
  l.value_buffers = value_buffers;
  l.wide_copies = head_dim % 8 == 0;
  l.keys = 0;
  l.values = l.keys + kSegment * l.pitch;
  l.queries = l.values + value_buffers * kSegment * l.pitch;
  l.weights = l.queries + l.num_columns * l.pitch;
  l.columns = l.weights + kSegment * l.weight_pitch;
  l.total = l.columns + static_cast<int>(sizeof(TileColumns));
  return l;
}

// Copies the calling warp's positions of segments from the cache to shared memory.
class SegmentCopy {
 public:
  __device__ SegmentCopy(const AttentionParams& p, const TileLayout& layout,
                         const AttentionWork& work)
      : pages_(PagesOf(p.cache, work.sequence.slot)),
        first_page_(work.first_position / kPage),
        last_page_(work.last_position / kPage),
        first_position_(work.first_position),
        last_position_(work.last_position),
        row_bytes_(2 * static_cast<int>(p.head_dim)),
        pitch_(layout.pitch),
        wide_(layout.wide_copies),
        warp_(threadIdx.x / 32),
        lane_(threadIdx.x % 32) {
    const int unit = wide_ ? 16 : 4;
    units_ = row_bytes_ / unit;
    lane_row_ = lane_ / units_;
    lane_unit_ = lane_ % units_;
    head_offset_ = (int64_t{work.kv_head} * kPage + warp_ * kWarpPositions % kPage) * row_bytes_;
  }

  // The page with the warp's positions of a segment. One that no column sees may not exist; the
  // nearest that some column sees then stands for it.
  __device__ const char* Page(int segment) const {
    const int page = (segment * kSegment + warp_ * kWarpPositions) / kPage;
    return LoadPointer(pages_ + min(max(page, first_page_), last_page_));
  }

  // What no column sees becomes zero: it may be anything, and zero weights do not undo a NaN.
  __device__ void Start(char* tile, const char* page, int64_t part_offset, int segment) const {
    const char* from = page + part_offset + head_offset_;
    char* to = tile + warp_ * kWarpPositions * pitch_;
    const int position = segment * kSegment + warp_ * kWarpPositions;
    int row = lane_row_, unit = lane_unit_;
    const int row_step = 32 / units_, unit_step = 32 % units_;
    if (wide_) {
      const uint32_t address = SharedAddress(to);
#pragma unroll 4
      for (int i = lane_; i < kWarpPositions * units_; i += 32) {
        CopyAsync16OrZero(address + row * pitch_ + unit * 16, from + i * 16, Sees(position + row));
        Advance(row, unit, row_step, unit_step);
      }
    } else {
      for (int i = lane_; i < kWarpPositions * units_; i += 32) {
        const unsigned two = __ldcg(reinterpret_cast<const unsigned*>(from) + i);
        *reinterpret_cast<unsigned*>(to + row * pitch_ + unit * 4) = Sees(position + row) ? two : 0;
        Advance(row, unit, row_step, unit_step);
      }
    }
  }

 private:
  __device__ bool Sees(int position) const {
    return position >= first_position_ && position <= last_position_;
  }
  __device__ void Advance(int& row, int& unit, int row_step, int unit_step) const {
    row += row_step;
    unit += unit_step;
    if (unit >= units_) {
      unit -= units_;
      ++row;
    }
  }

  char* const* pages_;
  int first_page_, last_page_;
  int first_position_, last_position_;
  int row_bytes_, pitch_;
  bool wide_;
  int warp_, lane_;
  int units_;  // of a vector: 16 or 4 bytes each
  int lane_row_, lane_unit_;
  int64_t head_offset_;
};

// Joins `count` partials, one behind the other, and calls store(column, element, sums of four
// elements, max, sum). A partial is [columns][padded_dim] sums and [columns] (max, sum).
template <class Store>
__device__ void JoinPartials(const float* from, int count, int stride, int columns, int padded_dim,
                             const Store& store) {
  constexpr int kBatch{4};  // partials in flight together
  const int fours = padded_dim / 4;
  for (int i = threadIdx.x; i < columns * fours; i += kTileThreads) {
    const int column = i / fours;
    float max = -INFINITY, sum = 0;
    float4 sums = {};
    for (int first = 0; first < count; first += kBatch) {
      float4 part[kBatch];
      float2 state[kBatch];
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        const float* at = from + int64_t{min(first + j, count - 1)} * stride;
        part[j] = __ldcg(reinterpret_cast<const float4*>(at) + i);
        state[j] = __ldcg(reinterpret_cast<const float2*>(at + columns * padded_dim) + column);
      }
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        if (first + j >= count) break;
        const JoinFactors f = JoinMaxima(max, state[j].x);
        sum = Joined(sum, f, state[j].y);
        sums = {Joined(sums.x, f, part[j].x), Joined(sums.y, f, part[j].y),
                Joined(sums.z, f, part[j].z), Joined(sums.w, f, part[j].w)};
      }
    }
    store(column, i % fours * 4, sums, max, sum);
  }
}

// Where column's element of the output (and, before that, of the prepared queries) is.
__device__ __forceinline__ float* OutputAt(const AttentionParams& p, const AttentionWork& work,
                                           int column) {
  const int heads = static_cast<int>(p.num_heads / p.num_kv_heads);
  const int row = (work.first_column + column) / heads, head = (work.first_column + column) % heads;
  return p.output + (work.sequence.first_row + row) * p.output_stride +
         (work.kv_head * heads + head) * p.head_dim;
}

// After a block has stored its partials: the last of a group's blocks joins the group's segments,
// the last of all joins the groups.
__device__ inline void FinishParts(const AttentionParams& p, const AttentionWork& work,
                                   int padded_dim, TileColumns& columns) {
  const auto store_output = [&](int column, int element, float4 sums, float, float sum) {
    float* output = columns.output[column] + element;
    const float inverse = __frcp_rn(sum);
    const float four[4] = {sums.x, sums.y, sums.z, sums.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (element + j < p.head_dim) output[j] = Quotient(four[j], inverse);
    }
  };
  __syncthreads();  // all of the block's partials are stored
  uint32_t arrivals = work.num_parts;
  if (work.StoresSegments()) {
    const int group = work.share_begin() / kGroupSegments;
    const int first = max(work.first_segment, group * kGroupSegments);
    const int last = min(work.last_segment, (group + 1) * kGroupSegments - 1);
    const uint32_t blocks = (last >> work.log_share) - (first >> work.log_share) + 1;
    uint32_t* counter = work.counters + 1 + group - work.first_group();
    if (!ArrivesLast(counter, blocks, &columns.arrived_last)) return;
    float* to = work.GroupPartial(group);
    const bool is_only_group = work.num_groups() == 1;
    JoinPartials(
        work.SegmentPartial(first), last - first + 1, work.partial_stride, work.num_columns,
        padded_dim, [&](int column, int element, float4 sums, float max, float sum) {
          if (is_only_group) {  // joined to nothing, as it would be with other groups
            const JoinFactors f = {0.0f, 1.0f};
            sums = {Joined(0.0f, f, sums.x), Joined(0.0f, f, sums.y), Joined(0.0f, f, sums.z),
                    Joined(0.0f, f, sums.w)};
            return store_output(column, element, sums, max, sum);
          }
          reinterpret_cast<float4*>(to)[(column * padded_dim + element) / 4] = sums;
          if (element == 0) {
            reinterpret_cast<float2*>(to + work.num_columns * padded_dim)[column] = {max, sum};
          }
        });
    if (is_only_group) return;
    __syncthreads();
    arrivals = work.num_groups();
  }
  if (!ArrivesLast(work.counters, arrivals, &columns.arrived_last)) return;
  JoinPartials(work.GroupPartial(work.first_group()), work.num_groups(), work.partial_stride,
               work.num_columns, padded_dim, store_output);
}

// Scores of the warp's positions of a segment, before scaling.
template <int kColumnTiles>
__device__ __forceinline__ void ComputeScores(const TileLayout& layout, const char* shared,
                                              int num_columns,
                                              float (&scores)[kPositionTiles][kColumnTiles][4]) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, pitch = layout.pitch;
  const uint32_t key = SharedAddress(shared + layout.keys) +
                       (warp * kWarpPositions + lane % 16) * pitch + lane / 16 * 16;
  const uint32_t query = SharedAddress(shared + layout.queries) +
                         (lane / 16 * 8 + lane % 8) * pitch + lane / 8 % 2 * 16;
  for (int k = 0; k < layout.padded_dim / 16; ++k) {
    uint4 a[kPositionTiles];
#pragma unroll
    for (int m = 0; m < kPositionTiles; ++m) {
      a[m] = LoadMatrices4(key + m * 16 * pitch + k * 32);
    }
    if constexpr (kColumnTiles == 1) {
      const uint2 b = LoadMatrices2(query + k * 32);
#pragma unroll
      for (int m = 0; m < kPositionTiles; ++m) {
        MultiplyAdd<DType::kBFloat16>(scores[m][0], a[m], b.x, b.y);
      }
    } else {
#pragma unroll
      for (int n = 0; n < kColumnTiles; n += 2) {
        if (8 * n >= num_columns) break;
        const uint4 b = LoadMatrices4(query + n * 8 * pitch + k * 32);
#pragma unroll
        for (int m = 0; m < kPositionTiles; ++m) {
          MultiplyAdd<DType::kBFloat16>(scores[m][n], a[m], b.x, b.y);
          MultiplyAdd<DType::kBFloat16>(scores[m][n + 1], a[m], b.z, b.w);
        }
      }
    }
  }
}

// Scales the scores of the warp's positions from `position` on, takes out what a column does not
// see, and leaves the maxima.
template <int kColumnTiles>
__device__ __forceinline__ void ScaleScores(TileColumns& columns, int num_columns, int position,
                                            float scale,
                                            float (&scores)[kPositionTiles][kColumnTiles][4]) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int row_in_tile = lane / 4, pair_in_tile = 2 * (lane % 4);
  position += row_in_tile;
#pragma unroll
  for (int n = 0; n < kColumnTiles; ++n) {
    if (8 * n >= num_columns) break;
    const int column = 8 * n + pair_in_tile;
    const int2 first = *reinterpret_cast<const int2*>(&columns.first[column]);
    const int2 last = *reinterpret_cast<const int2*>(&columns.last[column]);
    float2 max = {-INFINITY, -INFINITY};
#pragma unroll
    for (int m = 0; m < kPositionTiles; ++m) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int at = position + 16 * m + 8 * i;
        float* score = scores[m][n] + 2 * i;
        score[0] = at >= first.x && at <= last.x ? __fmul_rn(score[0], scale) : -INFINITY;
        score[1] = at >= first.y && at <= last.y ? __fmul_rn(score[1], scale) : -INFINITY;
        max = {fmaxf(max.x, score[0]), fmaxf(max.y, score[1])};
      }
    }
#pragma unroll
    for (int step = 4; step < 32; step *= 2) {
      max.x = fmaxf(max.x, __shfl_xor_sync(~0u, max.x, step));
      max.y = fmaxf(max.y, __shfl_xor_sync(~0u, max.y, step));
    }
    if (row_in_tile == 0) *reinterpret_cast<float2*>(&columns.maxima[warp][column]) = max;
  }
}

// Scores to weights, rounded to bfloat16, in shared memory; leaves their sums.
template <int kColumnTiles>
__device__ __forceinline__ void StoreWeights(
    const TileLayout& layout, char* shared, TileColumns& columns, int num_columns,
    const float (&scores)[kPositionTiles][kColumnTiles][4]) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int row_in_tile = lane / 4, pair_in_tile = 2 * (lane % 4);
#pragma unroll
  for (int n = 0; n < kColumnTiles; ++n) {
    if (8 * n >= num_columns) break;
    const int column = 8 * n + pair_in_tile;
    float2 max = *reinterpret_cast<const float2*>(&columns.maxima[0][column]);
#pragma unroll
    for (int w = 1; w < kTileWarps; ++w) {
      const float2 other = *reinterpret_cast<const float2*>(&columns.maxima[w][column]);
      max = {fmaxf(max.x, other.x), fmaxf(max.y, other.y)};
    }
    if (max.x == -INFINITY) max.x = 0.0f;  // it sees nothing: weights are 2^-infinity
    if (max.y == -INFINITY) max.y = 0.0f;
    float2 sum = {};
    char* to = shared + layout.weights +
               (warp * kWarpPositions + row_in_tile) * layout.weight_pitch + 2 * column;
#pragma unroll
    for (int m = 0; m < kPositionTiles; ++m) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float* score = scores[m][n] + 2 * i;
        const unsigned two = PackInputs<DType::kBFloat16>(
            make_float2(Exp2(__fsub_rn(score[0], max.x)), Exp2(__fsub_rn(score[1], max.y))));
        *reinterpret_cast<unsigned*>(to + (16 * m + 8 * i) * layout.weight_pitch) = two;
        sum.x = __fadd_rn(sum.x, __uint_as_float(two << 16));
        sum.y = __fadd_rn(sum.y, __uint_as_float(two & 0xffff0000u));
      }
    }
#pragma unroll
    for (int step = 4; step < 32; step *= 2) {
      sum.x = __fadd_rn(sum.x, __shfl_xor_sync(~0u, sum.x, step));
      sum.y = __fadd_rn(sum.y, __shfl_xor_sync(~0u, sum.y, step));
    }
    if (row_in_tile == 0) *reinterpret_cast<float2*>(&columns.sums[warp][column]) = sum;
  }
}

// Sums of weighted values over a segment, for the warp's elements of the head.
template <int kDimTiles, int kColumnTiles>
__device__ __forceinline__ void AddValues(const TileLayout& layout, const char* shared,
                                          const char* value_tile, int num_columns,
                                          float (&values)[kDimTiles][kColumnTiles][4]) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, pitch = layout.pitch;
  const uint32_t value =
      SharedAddress(value_tile) + (lane / 16 * 8 + lane % 8) * pitch + lane / 8 % 2 * 16;
  const uint32_t weight =
      SharedAddress(shared + layout.weights) + lane % 16 * layout.weight_pitch + lane / 16 * 16;
#pragma unroll 2
  for (int k = 0; k < kSegment / 16; ++k) {
    uint4 b[(kColumnTiles + 1) / 2];
    if constexpr (kColumnTiles == 1) {
      const uint2 two = LoadMatrices2Transposed(weight + k * 16 * layout.weight_pitch);
      b[0] = {two.x, two.y, 0, 0};
    } else {
#pragma unroll
      for (int n = 0; n < kColumnTiles; n += 2) {
        if (8 * n >= num_columns) break;
        b[n / 2] = LoadMatrices4Transposed(weight + k * 16 * layout.weight_pitch + n * 16);
      }
    }
#pragma unroll
    for (int j = 0; j < kDimTiles; ++j) {
      const int dim_tile = warp + j * kTileWarps;
      if (dim_tile >= layout.padded_dim / 16) break;
      const uint4 a = LoadMatrices4Transposed(value + k * 16 * pitch + dim_tile * 32);
#pragma unroll
      for (int n = 0; n < kColumnTiles; ++n) {
        if (8 * n >= num_columns) break;
        const uint4 two = b[n / 2];
        MultiplyAdd<DType::kBFloat16>(values[j][n], a, n % 2 == 0 ? two.x : two.z,
                                      n % 2 == 0 ? two.y : two.w);
      }
    }
  }
}

// kDimTiles, of 16 elements of the head: a warp has them at most. kColumnTiles, of 8 columns: a
// block has them at most; layout.num_columns may be less, but not odd beyond one.
template <int kDimTiles, int kColumnTiles>
__global__ void __launch_bounds__(kTileThreads)
    AttendTilesKernel(const __grid_constant__ AttentionParams p, const TileLayout layout,
                      const AttentionScratch scratch) {
  static_assert(8 * kColumnTiles <= kMaxTileColumns && kMaxTileColumns <= kTileThreads);
  LaunchDependents();
  WaitForDependencies();
  char* const shared = reinterpret_cast<char*>(DynamicShared());
  auto& columns = *reinterpret_cast<TileColumns*>(shared + layout.columns);
  {  // in shared memory, since registers are scarce
    AttentionWork found;
    if (!FindWork(p, scratch, layout.num_columns, layout.padded_dim, &found)) return;
    if (threadIdx.x == 0) columns.work = found;
    __syncthreads();
  }
  const AttentionWork& work = columns.work;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int row_in_tile = lane / 4, pair_in_tile = 2 * (lane % 4);  // of the sums of an mma
  const int pitch = layout.pitch, num_columns = work.num_columns;
  const int dim_tiles = layout.padded_dim / 16;
  const int heads = static_cast<int>(p.num_heads / p.num_kv_heads);
  const float scale = __fmul_rn(p.scale, kLog2E);

  const int begin = max(work.first_segment, work.share_begin());
  const int end = min(work.last_segment + 1, work.share_begin() + (1 << work.log_share));
  const SegmentCopy copy(p, layout, work);
  const auto value_tile = [&](int segment) {
    const int buffer = layout.value_buffers == 2 ? (segment - begin) % 2 : 0;
    return shared + layout.values + buffer * kSegment * pitch;
  };
  const char* page = copy.Page(begin);
  copy.Start(shared + layout.keys, page, p.cache.key_offset, begin);
  CommitCopies();
  copy.Start(value_tile(begin), page, p.cache.value_offset, begin);
  CommitCopies();
  const char* next_page = begin + 1 < end ? copy.Page(begin + 1) : page;

  // Zeros behind the vectors: the padding of keys meets that of queries.
  for (int i = 2 * static_cast<int>(p.head_dim); i < 2 * layout.padded_dim; i += 4) {
    for (int tile = 0; tile <= layout.value_buffers; ++tile) {
      *reinterpret_cast<unsigned*>(shared + (tile * kSegment + threadIdx.x) * pitch + i) = 0;
    }
  }
  if (threadIdx.x < layout.num_columns) {
    const int column = threadIdx.x;
    columns.output[column] = OutputAt(p, work, min(column, num_columns - 1));
    const int position = work.sequence.consumed + (work.first_column + column) / heads;
    columns.last[column] = column < num_columns ? position : -1;
    columns.first[column] = p.window > 0 ? max(0, position + 1 - static_cast<int>(p.window)) : 0;
  }
  __syncthreads();
  const int query_pairs = layout.padded_dim / 2, all_pairs = layout.num_columns * query_pairs;
  for (int first = threadIdx.x; first < all_pairs; first += kQueryBatch * kTileThreads) {
    float2 two[kQueryBatch];
#pragma unroll
    for (int j = 0; j < kQueryBatch; ++j) {
      const int at = first + j * kTileThreads;
      const int column = at / query_pairs, i = at % query_pairs * 2;
      two[j] = {};
      if (column < num_columns && i < p.head_dim) {
        const float* query = columns.output[column] + i;
        two[j] = {__ldcg(query), __ldcg(query + 1)};
      }
    }
#pragma unroll
    for (int j = 0; j < kQueryBatch; ++j) {
      const int at = first + j * kTileThreads;
      if (at >= all_pairs) break;
      char* to = shared + layout.queries + at / query_pairs * pitch + at % query_pairs * 4;
      *reinterpret_cast<unsigned*>(to) = PackInputs<DType::kBFloat16>(two[j]);
    }
  }

  // Sums of the group so far. The thread of a column keeps the group's maximum and sum, and those
  // of the groups before.
  float sums[kDimTiles][kColumnTiles][4] = {};
  float group_max = -INFINITY, group_sum = 0, all_max = -INFINITY, all_sum = 0;
  const bool is_alone = work.IsAlone(), stores_segments = work.StoresSegments();

  // Elements of the head and columns of the calling thread's sums: fn(element, column, sum).
  const auto for_sums = [&](auto& values, const auto& fn) {
#pragma unroll
    for (int j = 0; j < kDimTiles; ++j) {
      const int dim_tile = warp + j * kTileWarps;
      if (dim_tile >= dim_tiles) break;
#pragma unroll
      for (int n = 0; n < kColumnTiles; ++n) {
        if (8 * n >= num_columns) break;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int column = 8 * n + pair_in_tile + i % 2;
          if (column < num_columns) {
            fn(16 * dim_tile + row_in_tile + i / 2 * 8, column, values[j][n][i]);
          }
        }
      }
    }
  };
  const auto store_partial = [&](float* to, auto& values, float max, float sum) {
    for_sums(values, [&](int element, int column, float value) {
      to[column * layout.padded_dim + element] = value;
    });
    if (threadIdx.x < num_columns) {
      reinterpret_cast<float2*>(to + num_columns * layout.padded_dim)[threadIdx.x] = {max, sum};
    }
  };
  __syncthreads();

  for (int segment = begin; segment < end; ++segment) {
    WaitForCopyGroups<1>();  // the keys; the values may be on their way
    __syncwarp();            // other lanes' copies

    float scores[kPositionTiles][kColumnTiles][4] = {};
    ComputeScores(layout, shared, num_columns, scores);
    ScaleScores(columns, num_columns, segment * kSegment + warp * kWarpPositions, scale, scores);
    __syncthreads();

    const char* this_page = next_page;
    if (segment + 1 < end) {
      copy.Start(shared + layout.keys, this_page, p.cache.key_offset, segment + 1);
      CommitCopies();
      if (layout.value_buffers == 2) {
        copy.Start(value_tile(segment + 1), this_page, p.cache.value_offset, segment + 1);
        CommitCopies();
      }
      if (segment + 2 < end) next_page = copy.Page(segment + 2);
    } else {  // as many groups as in every turn
      CommitCopies();
      if (layout.value_buffers == 2) CommitCopies();
    }

    StoreWeights(layout, shared, columns, num_columns, scores);
    if (layout.value_buffers == 2) {
      WaitForCopyGroups<2>();
    } else {
      WaitForCopyGroups<1>();
    }
    __syncthreads();

    const bool ends_group = segment + 1 == end || (segment + 1) % kGroupSegments == 0;
    float segment_max = -INFINITY, segment_sum = 0;
    if (threadIdx.x < num_columns) {
      const int column = threadIdx.x;
#pragma unroll
      for (int w = 0; w < kTileWarps; ++w) {
        segment_max = fmaxf(segment_max, columns.maxima[w][column]);
        segment_sum = __fadd_rn(segment_sum, columns.sums[w][column]);
      }
      if (!stores_segments) {
        const JoinFactors f = JoinMaxima(group_max, segment_max);
        group_sum = Joined(group_sum, f, segment_sum);
        columns.keep[column] = f.keep;
        columns.add[column] = f.add;
        if (ends_group && is_alone) {
          const JoinFactors all = JoinMaxima(all_max, group_max);
          all_sum = Joined(all_sum, all, group_sum);
          columns.group_keep[column] = all.keep;
          columns.group_add[column] = all.add;
          columns.inverse[column] = __frcp_rn(all_sum);
        }
      }
    }

    float values[kDimTiles][kColumnTiles][4] = {};
    AddValues(layout, shared, value_tile(segment), num_columns, values);
    __syncthreads();
    if (layout.value_buffers == 1) {
      if (segment + 1 < end) {
        copy.Start(value_tile(segment + 1), this_page, p.cache.value_offset, segment + 1);
      }
      CommitCopies();
    }

    if (stores_segments) {
      store_partial(work.SegmentPartial(segment), values, segment_max, segment_sum);
      continue;
    }
#pragma unroll
    for (int j = 0; j < kDimTiles; ++j) {
#pragma unroll
      for (int n = 0; n < kColumnTiles; ++n) {
        if (8 * n >= num_columns) break;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int column = 8 * n + pair_in_tile + i % 2;
          const JoinFactors f = {columns.keep[column], columns.add[column]};
          sums[j][n][i] = Joined(sums[j][n][i], f, values[j][n][i]);
        }
      }
    }
    if (!ends_group) continue;
    if (is_alone) {
      // The output's memory holds what the groups so far give.
      const bool is_first = segment / kGroupSegments == work.first_group();
      const bool is_last = segment + 1 == end;
      for_sums(sums, [&](int element, int column, float sum) {
        if (element >= p.head_dim) return;
        float* output = columns.output[column] + element;
        const JoinFactors f = {columns.group_keep[column], columns.group_add[column]};
        const float all = Joined(is_first ? 0.0f : *output, f, sum);
        *output = is_last ? Quotient(all, columns.inverse[column]) : all;
      });
    } else {
      store_partial(work.GroupPartial(segment / kGroupSegments), sums, group_max, group_sum);
    }
    group_max = -INFINITY;
    group_sum = 0;
#pragma unroll
    for (int j = 0; j < kDimTiles; ++j) {
#pragma unroll
      for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[j][n][i] = 0;
      }
    }
  }
  if (!is_alone) FinishParts(p, work, layout.padded_dim, columns);
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_ATTENTION_TILES_CUH_
