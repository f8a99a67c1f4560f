// Two launches: PrepareKernel norms and rotates queries and keys, stores keys and values in the
// cache and leaves the queries in the output's memory; then the rows attend.
//
// PrepareKernel: a warp a head of a row. Bound: launch latency when decoding.
// AttendTilesKernel (attention_tiles.cuh): a bfloat16 cache, on tensor cores.
// AttendPlainKernel: a float32 cache, the path of goldens and tiny models, and heads too large for
// the shared memory of small GPUs. A block a row and query head: a thread a position for scores, a
// thread an element of the head for sums.
#include <algorithm>
#include <cmath>

#include "kernels/attention.cuh"
#include "kernels/attention_tiles.cuh"
#include "kernels/common/launch.cuh"

namespace sidewinder {
namespace {

constexpr int kWarps{4};
constexpr int kThreads{32 * kWarps};
constexpr int kMaxHeadDim{256};

__device__ void StoreInCache(DType dtype, char* head, int element, float value) {
  if (dtype == DType::kFloat32) {
    reinterpret_cast<float*>(head)[element] = value;
  } else {
    reinterpret_cast<__nv_bfloat16*>(head)[element] = __float2bfloat16_rn(value);
  }
}

__global__ void __launch_bounds__(kThreads)
    PrepareKernel(const __grid_constant__ AttentionParams p) {
  constexpr int kPerLane{kMaxHeadDim / 32};
  __shared__ float shared[kWarps][kMaxHeadDim];
  LaunchDependents();
  WaitForDependencies();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int num_heads = static_cast<int>(p.num_heads), kv_heads = static_cast<int>(p.num_kv_heads);
  const int dim = static_cast<int>(p.head_dim), half = static_cast<int>(p.rotary_dim) / 2;
  const int row = blockIdx.x;
  const int head = blockIdx.y * kWarps + warp;  // of queries, then of keys, then of values
  if (row >= __ldcg(p.plan.num_rows) || head >= num_heads + 2 * kv_heads) return;
  const bool is_query = head < num_heads, is_value = head >= num_heads + kv_heads;
  const int kv_head = is_value ? head - num_heads - kv_heads : head - num_heads;
  const float* input = is_query   ? p.query + row * p.query_stride + int64_t{head} * dim
                       : is_value ? p.value + row * p.value_stride + int64_t{kv_head} * dim
                                  : p.key + row * p.key_stride + int64_t{kv_head} * dim;
  float x[kPerLane];
#pragma unroll
  for (int j = 0; j < kPerLane; ++j) {
    const int i = lane + 32 * j;
    x[j] = i < dim ? __ldcg(input + i) : 0.0f;
  }
  const SequenceView sequence = SequenceOfRow(p.plan, row);
  const int position = sequence.consumed + row - sequence.first_row;

  const float* norm = is_query ? p.query_norm : is_value ? nullptr : p.key_norm;
  if (norm != nullptr) {
    float squares = 0;
#pragma unroll
    for (int j = 0; j < kPerLane; ++j) squares = __fmaf_rn(x[j], x[j], squares);
    for (int step = 16; step > 0; step /= 2) {
      squares = __fadd_rn(squares, __shfl_xor_sync(~0u, squares, step));
    }
    const float mean = __fdiv_rn(squares, static_cast<float>(dim));
    const float scale = __frcp_rn(__fsqrt_rn(__fadd_rn(mean, p.norm_eps)));
#pragma unroll
    for (int j = 0; j < kPerLane; ++j) {
      const int i = lane + 32 * j;
      if (i < dim) x[j] = __fmul_rn(__fmul_rn(x[j], scale), norm[i]);
    }
  }
  if (half > 0 && !is_value) {
#pragma unroll
    for (int j = 0; j < kPerLane; ++j) shared[warp][lane + 32 * j] = x[j];
    __syncwarp();
#pragma unroll
    for (int j = 0; j < kPerLane; ++j) {
      const int i = lane + 32 * j;
      if (i >= 2 * half) break;
      const bool is_first = i < half;
      const float angle =
          __fmul_rn(static_cast<float>(position), p.inv_freq[is_first ? i : i - half]);
      const float other = shared[warp][is_first ? i + half : i - half];
      float sine, cosine;
      sincosf(angle, &sine, &cosine);
      x[j] = __fadd_rn(__fmul_rn(x[j], cosine), __fmul_rn(is_first ? -other : other, sine));
    }
  }

  if (is_query) {
    float* output = p.output + row * p.output_stride + int64_t{head} * dim;
#pragma unroll
    for (int j = 0; j < kPerLane; ++j) {
      const int i = lane + 32 * j;
      if (i < dim) output[i] = x[j];
    }
    return;
  }
  char* const page = LoadPointer(PagesOf(p.cache, sequence.slot) + position / kPage);
  const int64_t vector = int64_t{kv_head} * kPage + position % kPage;
  char* const to = page + (is_value ? p.cache.value_offset : p.cache.key_offset) +
                   vector * dim * (p.cache.dtype == DType::kFloat32 ? 4 : 2);
#pragma unroll
  for (int j = 0; j < kPerLane; ++j) {
    const int i = lane + 32 * j;
    if (i < dim) StoreInCache(p.cache.dtype, to, i, x[j]);
  }
}

__device__ __forceinline__ float LoadCached(const float* from) { return __ldcg(from); }
__device__ __forceinline__ float LoadCached(const __nv_bfloat16* from) {
  return __bfloat162float(__ldcg(from));
}

// The maximum, or the sum in a fixed order, over the block, for all threads.
template <class Reduce>
__device__ float ReduceBlock(float value, float (&shared)[kWarps], const Reduce& reduce) {
  for (int step = 16; step > 0; step /= 2) {
    value = reduce(value, __shfl_xor_sync(~0u, value, step));
  }
  __syncthreads();  // of an earlier call
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
  __syncthreads();
  value = shared[0];
  for (int w = 1; w < kWarps; ++w) value = reduce(value, shared[w]);
  return value;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    AttendPlainKernel(const __grid_constant__ AttentionParams p) {
  constexpr int kPerThread{kMaxHeadDim / kThreads};
  static_assert(kThreads == kSegment);
  __shared__ float query[kMaxHeadDim], weights[kSegment], reduction[kWarps];
  LaunchDependents();
  WaitForDependencies();
  const int row = blockIdx.x, head = blockIdx.y, dim = static_cast<int>(p.head_dim);
  if (row >= __ldcg(p.plan.num_rows)) return;
  const SequenceView sequence = SequenceOfRow(p.plan, row);
  const int position = sequence.consumed + row - sequence.first_row;
  const int begin = p.window > 0 ? max(0, position + 1 - static_cast<int>(p.window)) : 0;
  const int64_t kv_head = head / (p.num_heads / p.num_kv_heads);
  char* const* pages = PagesOf(p.cache, sequence.slot);
  const auto cached = [&](int at, int64_t part_offset) {
    return reinterpret_cast<const T*>(LoadPointer(pages + at / kPage) + part_offset) +
           (kv_head * kPage + at % kPage) * dim;
  };
  float* output = p.output + row * p.output_stride + int64_t{head} * dim;  // the query so far
  for (int i = threadIdx.x; i < dim; i += kThreads) query[i] = __ldcg(output + i);
  __syncthreads();

  const float scale = __fmul_rn(p.scale, kLog2E);
  float group[kPerThread] = {}, all[kPerThread] = {};
  float group_max = -INFINITY, group_sum = 0, all_max = -INFINITY, all_sum = 0;
  for (int segment = begin / kSegment; segment <= position / kSegment; ++segment) {
    const int at = segment * kSegment + threadIdx.x;
    float score = -INFINITY;
    if (at >= begin && at <= position) {
      const T* key = cached(at, p.cache.key_offset);
      float dot = 0;
      for (int i = 0; i < dim; ++i) dot = __fmaf_rn(query[i], LoadCached(key + i), dot);
      score = __fmul_rn(dot, scale);
    }
    const float max = ReduceBlock(score, reduction, [](float a, float b) { return fmaxf(a, b); });
    const float weight = Exp2(__fsub_rn(score, max));
    weights[threadIdx.x] = weight;
    const float sum =
        ReduceBlock(weight, reduction, [](float a, float b) { return __fadd_rn(a, b); });
    const JoinFactors f = JoinMaxima(group_max, max);
    group_sum = Joined(group_sum, f, sum);
    const int first = ::max(begin - segment * kSegment, 0);
    const int stop = min(position + 1 - segment * kSegment, kSegment);
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) {
      const int i = threadIdx.x + j * kThreads;
      if (i >= dim) break;
      float values = 0;
      for (int s = first; s < stop; ++s) {
        values =
            __fmaf_rn(weights[s],
                      LoadCached(cached(segment * kSegment + s, p.cache.value_offset) + i), values);
      }
      group[j] = Joined(group[j], f, values);
    }
    __syncthreads();  // the weights have been used
    if (segment != position / kSegment && (segment + 1) % kGroupSegments != 0) continue;
    const JoinFactors g = JoinMaxima(all_max, group_max);
    all_sum = Joined(all_sum, g, group_sum);
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) {
      all[j] = Joined(all[j], g, group[j]);
      group[j] = 0;
    }
    group_max = -INFINITY;
    group_sum = 0;
  }
  const float inverse = __frcp_rn(all_sum);
#pragma unroll
  for (int j = 0; j < kPerThread; ++j) {
    const int i = threadIdx.x + j * kThreads;
    if (i < dim) output[i] = Quotient(all[j], inverse);
  }
}

using TilesKernel = void (*)(AttentionParams, TileLayout, AttentionScratch);

template <int kColumnTiles>
TilesKernel SelectTilesKernel(int padded_dim) {
  constexpr int kHalfTiles{kColumnTiles == 1 ? 1 : kColumnTiles / 2};
  return padded_dim <= 128 ? TilesKernel{AttendTilesKernel<2, kColumnTiles>}
                           : TilesKernel{AttendTilesKernel<4, kHalfTiles>};
}

// Launches on tensor cores if the device's blocks can have the shared memory.
CudaError LaunchTiles(CudaContext& ctx, const AttentionParams& p, bool* launched) {
  constexpr int kWideTiles{8}, kBlocksPerMultiprocessor{4};
  int limit = 0;
  if (const cudaError_t error =
          cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, ctx.device_index);
      error != cudaSuccess) {
    return error;
  }
  const int dim = static_cast<int>(p.head_dim),
            heads = static_cast<int>(p.num_heads / p.num_kv_heads);
  const int64_t sequences = std::min(p.plan.max_sequences, p.plan.max_rows);
  TileLayout layout = MakeTileLayout(dim, 1, 1);
  *launched = layout.total <= limit;  // whatever the rows are: their bits depend on it
  if (!*launched) return cudaSuccess;
  // Few columns a sequence: blocks of 8 columns that fetch two segments ahead. More columns: blocks
  // that are small enough for two to share a multiprocessor.
  const int64_t mean_columns = (p.plan.max_rows + sequences - 1) / sequences * heads;
  if (mean_columns <= 8) {
    const TileLayout deep = MakeTileLayout(dim, 1, 2);
    if (deep.total <= limit) layout = deep;
  } else {
    int tiles = 2;
    while (tiles < (dim <= 128 ? kWideTiles : kWideTiles / 2) && 8 * tiles < mean_columns) {
      tiles *= 2;
    }
    for (; tiles > 1; tiles /= 2) {
      const TileLayout wide = MakeTileLayout(dim, tiles, 1);
      if (wide.total > limit) continue;
      layout = wide;
      break;
    }
  }
  // Every sequence has one tile at least.
  const int64_t tiles =
      sequences + (p.plan.max_rows * int64_t{heads} - sequences) / layout.num_columns;
  const int64_t pairs = tiles * p.num_kv_heads;
  const int64_t segments = std::max<int64_t>(1, (p.max_position + kSegment - 1) / kSegment);
  const int64_t blocks =
      std::max(pairs, std::min<int64_t>(int64_t{kBlocksPerMultiprocessor} * ctx.num_multiprocessors,
                                        pairs * segments));
  if (blocks > INT32_MAX) return cudaErrorInvalidConfiguration;
  char* const workspace = static_cast<char*>(ctx.workspace);
  const AttentionScratch scratch = {
      .counters = reinterpret_cast<uint32_t*>(workspace),
      .partials = reinterpret_cast<float*>(workspace + kWorkspaceCounterBytes),
      .num_counters = static_cast<int>(kWorkspaceCounterBytes / sizeof(uint32_t)),
      .num_floats =
          static_cast<int64_t>((ctx.workspace_bytes - kWorkspaceCounterBytes) / sizeof(float))};
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(blocks)),
                          .block = dim3(kTileThreads),
                          .shared_bytes = static_cast<size_t>(layout.total)};
  const TilesKernel kernel = layout.num_columns == 8
                                 ? SelectTilesKernel<1>(layout.padded_dim)
                                 : SelectTilesKernel<kWideTiles>(layout.padded_dim);
  return LaunchKernel(ctx, kernel, shape, p, layout, scratch);
}

}  // namespace

CudaError LaunchAttention(CudaContext& ctx, const AttentionParams& p) {
  constexpr int64_t kMaxGridY{65535};
  const bool known = p.cache.dtype == DType::kFloat32 || p.cache.dtype == DType::kBFloat16;
  if (!known || p.head_dim < 2 || p.head_dim > kMaxHeadDim || p.head_dim % 2 != 0 ||
      p.rotary_dim < 0 || p.rotary_dim > p.head_dim || p.rotary_dim % 2 != 0 ||
      p.num_kv_heads < 1 || p.num_heads % p.num_kv_heads != 0 || p.num_heads > kMaxGridY) {
    return cudaErrorNotSupported;
  }
  if (p.plan.max_sequences <= 0 || p.plan.max_rows <= 0) return cudaSuccess;
  const unsigned rows = static_cast<unsigned>(p.plan.max_rows);
  const int64_t heads = p.num_heads + 2 * p.num_kv_heads;
  const LaunchShape prepare{
      .grid = dim3(rows, static_cast<unsigned>((heads + kWarps - 1) / kWarps)),
      .block = dim3(kThreads)};
  if (const cudaError_t error = LaunchKernel(ctx, PrepareKernel, prepare, p);
      error != cudaSuccess) {
    return error;
  }
  bool launched = false;
  if (p.cache.dtype == DType::kBFloat16) {
    const CudaError error = LaunchTiles(ctx, p, &launched);
    if (launched || error != cudaSuccess) return error;
  }
  const LaunchShape plain{.grid = dim3(rows, static_cast<unsigned>(p.num_heads)),
                          .block = dim3(kThreads)};
  return LaunchKernel(ctx,
                      p.cache.dtype == DType::kFloat32 ? AttendPlainKernel<float>
                                                       : AttendPlainKernel<__nv_bfloat16>,
                      plain, p);
}

}  // namespace sidewinder
