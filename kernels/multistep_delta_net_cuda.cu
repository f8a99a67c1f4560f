// The recurrent step of gated DeltaNet (multistep.h): per value head h of key head j
//   g = a[h] softplus(dt[h] + dt_bias[h]);   S[n,p] <- exp(g) S[n,p]
//   m[p] = sigmoid(beta[h]) (v[p] - sum_n S[n,p] kh[n])
//   S[n,p] <- S[n,p] + kh[n] m[p];   out[p] = sum_n S[n,p] qh[n]
//
// The state is the traffic (2 MB a layer and sequence of Qwen3-Next-80B-A3B): it is read once,
// stays in registers through all rows, and is written only where the checkpoint falls.
//
// Grid: x over heads and 32 columns p of each, y over sequences. A warp owns 8 columns with all
// their state elements, so that a row, whose sums follow one another, needs no barrier: a thread
// has 4 columns and kPartStates consecutive elements, lanes 2 apart have neighbouring parts. Rows,
// replayed and new ones alike, pass in tiles of 8 through shared memory (v, k, q), one tile ahead.
// Roles besides:
//   staging       warp = row of the tile (two turns), lanes copy
//   norms         warp = row (two turns), lanes over the elements of key and query
//   g, beta       lane = row, by every warp for itself
// Barriers a tile: inputs have arrived (and the last tile is done with); keys and queries are
// normed. A sum over state elements: groups of 4 in ascending order, then a balanced binary tree
// over the groups, in the thread and between lanes. Its shape depends on the state's alone.
//
// What blocks share: keys and g in the log. They are written by one block as it goes (the first of
// its key head or value head), unless an entry may coincide with one that others still read; then
// by the block that is last to finish the sequence. Everything else belongs to one block, which
// reads old entries before it writes new ones.
//
// Bound: memory, 4 bytes a state element read, and written in passes that move the checkpoint.
#include <algorithm>
#include <cstdint>

#include "kernels/common/launch.cuh"
#include "kernels/common/math.cuh"
#include "kernels/common/replay.cuh"
#include "kernels/common/shared_memory.cuh"
#include "kernels/multistep.h"

namespace sidewinder {
namespace {

constexpr int kWarp{32};
constexpr int kColumns{32};    // of a block
constexpr int kOwnColumns{4};  // of a thread
constexpr int kParts{16};      // threads that share a column
constexpr int kThreads{kColumns / kOwnColumns * kParts};
constexpr int kWarps{kThreads / kWarp};
constexpr int kPartLanes{kWarp / kParts};  // lanes with the same part
constexpr int kTileRows{8};
constexpr unsigned kAllLanes{0xffffffff};
static_assert(kPartLanes == 2 && kTileRows <= kWarp);

template <int kPartStates>
constexpr int kPadded{kParts * kPartStates};  // state elements, with zeros behind the last

template <int kPartStates>
struct Staged {
  alignas(16) float v[kTileRows][kColumns];  // of a replayed row, m
  alignas(16) float k[kTileRows][kPadded<kPartStates>];
  alignas(16) float q[kTileRows][kPadded<kPartStates>];
};

template <int kPartStates>
struct Shared {
  Staged<kPartStates> staged[2];
  float2 scalars[kWarps][kTileRows];  // decay and beta, a copy a warp
};

// What the block works on, besides the sequence.
struct Place {
  __device__ explicit Place(const MultiStepDeltaNetParams& p) {
    const uint32_t splits = (static_cast<uint32_t>(p.head_dim) + kColumns - 1) / kColumns;
    const uint32_t heads_a_key =
        static_cast<uint32_t>(p.num_heads) / static_cast<uint32_t>(p.num_key_heads);
    head = blockIdx.x / splits;
    first_column = blockIdx.x % splits * kColumns;
    columns = min(static_cast<int>(p.head_dim) - first_column, kColumns);
    first_of_head = first_column == 0;
    first_of_key_head = first_of_head && head % heads_a_key == 0;
    key_dim = static_cast<int>(p.key_dim);
    inner_dim = p.num_heads * p.head_dim;
    keys_dim = p.num_key_heads * p.key_dim;
    channel = head * p.head_dim + first_column;
    key_channel = head / heads_a_key * p.key_dim;
  }

  uint32_t head;
  int first_column, columns;
  bool first_of_head, first_of_key_head;
  int key_dim;
  int64_t inner_dim, keys_dim;
  int64_t channel, key_channel;  // first of the block's in v, and in k and q
};

// The share of one thread: kPartStates state elements by kOwnColumns columns. kVector: columns come
// in whole, aligned fours.
template <int kPartStates, bool kVector>
class Recurrence {
 public:
  __device__ Recurrence(const MultiStepDeltaNetParams& p, const Place& place)
      : lane_(threadIdx.x % kWarp),
        column_((threadIdx.x / kWarp * kPartLanes + lane_ % kPartLanes) * kOwnColumns),
        element_(lane_ / kPartLanes * kPartStates),
        elements_(min(max(place.key_dim - element_, 0), kPartStates)),
        columns_(min(max(place.columns - column_, 0), kOwnColumns)),
        sum_column_(column_ + (lane_ & 2) + (lane_ & 4) / 4),
        writes_((lane_ & 24) == 0 && sum_column_ < place.columns),
        head_dim_(p.head_dim),
        offset_((static_cast<int64_t>(place.head) * place.key_dim + element_) * p.head_dim +
                place.first_column + column_) {}

  __device__ void LoadState(const float* state) {
#pragma unroll
    for (int i = 0; i < kPartStates; ++i) {
      const float* from = state + offset_ + i * head_dim_;
      const int count = i < elements_ ? columns_ : 0;
      if constexpr (kVector) {
        Unpack(count > 0 ? __ldcg(reinterpret_cast<const float4*>(from)) : float4{0, 0, 0, 0},
               state_[i]);
      } else {
#pragma unroll
        for (int j = 0; j < kOwnColumns; ++j) state_[i][j] = j < count ? __ldcg(from + j) : 0.0f;
      }
    }
  }

  __device__ void StoreState(float* state) const {
#pragma unroll
    for (int i = 0; i < kPartStates; ++i) {
      float* to = state + offset_ + i * head_dim_;
      const int count = i < elements_ ? columns_ : 0;
      if constexpr (kVector) {
        if (count > 0) {
          *reinterpret_cast<float4*>(to) =
              float4{state_[i][0], state_[i][1], state_[i][2], state_[i][3]};
        }
      } else {
#pragma unroll
        for (int j = 0; j < kOwnColumns; ++j) {
          if (j < count) to[j] = state_[i][j];
        }
      }
    }
  }

  // Row r of the tile, from the log.
  __device__ void Replay(const Staged<kPartStates>& staged, float decay, int r) {
    float key[kPartStates], m[kOwnColumns];
    LoadPart(staged.k[r], key);
    Unpack(*reinterpret_cast<const float4*>(&staged.v[r][column_]), m);
    Decay(decay);
    Update(key, m);
  }

  // A new row: writes its outputs and, unless log_x is null, what the log keeps of v. Both point to
  // the block's first column.
  __device__ void Step(const Staged<kPartStates>& staged, float2 scalars, int r, float* output,
                       float* log_x) {
    float key[kPartStates], query[kPartStates], m[kOwnColumns];
    LoadPart(staged.k[r], key);
    Decay(scalars.x);
    const float seen = Sum(key);
    const float corrected = __fmul_rn(scalars.y, __fsub_rn(staged.v[r][sum_column_], seen));
#pragma unroll
    for (int j = 0; j < kOwnColumns; ++j) {
      m[j] = __shfl_sync(kAllLanes, corrected, lane_ % kPartLanes + (j & 2) + (j & 1) * 4);
    }
    Update(key, m);
    LoadPart(staged.q[r], query);
    const float out = Sum(query);
    if (writes_) {
      output[sum_column_] = out;
      if (log_x != nullptr) log_x[sum_column_] = corrected;
    }
  }

 private:
  __device__ static void Unpack(float4 four, float* to) {
    to[0] = four.x;
    to[1] = four.y;
    to[2] = four.z;
    to[3] = four.w;
  }

  __device__ void LoadPart(const float* row, float (&to)[kPartStates]) const {
#pragma unroll
    for (int i = 0; i < kPartStates; i += 4) {
      Unpack(*reinterpret_cast<const float4*>(row + element_ + i), to + i);
    }
  }

  __device__ void Decay(float decay) {
#pragma unroll
    for (int i = 0; i < kPartStates; ++i) {
#pragma unroll
      for (int j = 0; j < kOwnColumns; ++j) state_[i][j] = __fmul_rn(decay, state_[i][j]);
    }
  }

  __device__ void Update(const float (&key)[kPartStates], const float (&m)[kOwnColumns]) {
#pragma unroll
    for (int i = 0; i < kPartStates; ++i) {
#pragma unroll
      for (int j = 0; j < kOwnColumns; ++j) state_[i][j] = __fmaf_rn(key[i], m[j], state_[i][j]);
    }
  }

  // sum_n S[n,p] factor[n] of column sum_column_, to the same bits in all lanes that have it.
  __device__ float Sum(const float (&factor)[kPartStates]) const {
    constexpr int kGroups{kPartStates / 4};
    float sums[kGroups][kOwnColumns];
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
#pragma unroll
      for (int j = 0; j < kOwnColumns; ++j) {
        sums[i][j] = __fmul_rn(state_[4 * i][j], factor[4 * i]);
#pragma unroll
        for (int k = 1; k < 4; ++k) {
          sums[i][j] = __fmaf_rn(state_[4 * i + k][j], factor[4 * i + k], sums[i][j]);
        }
      }
    }
#pragma unroll
    for (int distance = 1; distance < kGroups; distance *= 2) {
#pragma unroll
      for (int i = 0; i < kGroups; i += 2 * distance) {
#pragma unroll
        for (int j = 0; j < kOwnColumns; ++j) {
          sums[i][j] = __fadd_rn(sums[i][j], sums[i + distance][j]);
        }
      }
    }
    // Lanes exchange halves: each adds up two columns first, then one.
    const float(&own)[kOwnColumns] = sums[0];
    const bool upper_two = lane_ & 2, upper_one = lane_ & 4;
    const float first = Exchange(own[0], own[2], upper_two, 2);
    const float second = Exchange(own[1], own[3], upper_two, 2);
    float sum = Exchange(first, second, upper_one, 4);
    sum = __fadd_rn(sum, __shfl_xor_sync(kAllLanes, sum, 8));
    return __fadd_rn(sum, __shfl_xor_sync(kAllLanes, sum, 16));
  }

  // Of the values `low` and `high` of two lanes, `distance` apart, the sum of one kind: the upper
  // lane's is the sum of the high ones.
  __device__ static float Exchange(float low, float high, bool upper, int distance) {
    const float kept = upper ? high : low, given = upper ? low : high;
    return __fadd_rn(kept, __shfl_xor_sync(kAllLanes, given, distance));
  }

  int lane_;
  int column_, element_;    // first of the thread's
  int elements_, columns_;  // how many of them exist
  int sum_column_;          // the column whose sums the lane ends up with
  bool writes_;             // what belongs to that column, for all lanes that have it
  int64_t head_dim_, offset_;
  float state_[kPartStates][kOwnColumns];
};

// Copies elements [0, count), at most kMost, with the lanes of a warp.
template <int kMost>
__device__ __forceinline__ void CopyRow(float* to, const float* from, int count, int lane) {
#pragma unroll
  for (int i = 0; i < kMost; i += kWarp) {
    if (i + lane < count) CopyAsync(to + i + lane, from + i + lane);
  }
}

// Starts the copies of the rows at [first, first + kTileRows).
template <int kPartStates>
__device__ void StageRows(const MultiStepDeltaNetParams& p, const Place& place,
                          const DeviceReplay& replay, int first, Staged<kPartStates>& to) {
  constexpr int kMost{kPadded<kPartStates>};
  const int lane = threadIdx.x % kWarp;
  const int stop = min(first + kTileRows, replay.end);
  for (int position = first + static_cast<int>(threadIdx.x) / kWarp; position < stop;
       position += kWarps) {
    const int r = position - first;
    if (position < replay.first_new) {
      const int64_t entry = replay.LogEntry(position);
      CopyRow<kColumns>(to.v[r], p.state.log_x + entry * place.inner_dim + place.channel,
                        place.columns, lane);
      CopyRow<kMost>(to.k[r], p.state.log_b + entry * place.keys_dim + place.key_channel,
                     place.key_dim, lane);
    } else {
      const int64_t row = replay.Row(position);
      CopyRow<kColumns>(to.v[r], p.v + row * p.v_stride + place.channel, place.columns, lane);
      CopyRow<kMost>(to.k[r], p.k + row * p.k_stride + place.key_channel, place.key_dim, lane);
      CopyRow<kMost>(to.q[r], p.q + row * p.q_stride + place.key_channel, place.key_dim, lane);
    }
  }
}

// factor / sqrt(sum row^2 + eps), with all lanes of a warp.
template <int kMost>
__device__ float NormScale(const float* row, int dim, float factor, int lane) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kMost; i += kWarp) {
    const float x = i + lane < dim ? row[i + lane] : 0.0f;
    sum = __fmaf_rn(x, x, sum);
  }
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    sum = __fadd_rn(sum, __shfl_xor_sync(kAllLanes, sum, distance));
  }
  return __fdiv_rn(factor, __fsqrt_rn(__fadd_rn(sum, kDeltaNetNormEps)));
}

// Norms keys and queries of a tile's new rows; appends the keys to the log if they are the block's
// to write.
template <int kPartStates>
__device__ void NormRows(const MultiStepDeltaNetParams& p, const Place& place,
                         const DeviceReplay& replay, int first, bool write_keys, float query_scale,
                         Staged<kPartStates>& staged) {
  constexpr int kMost{kPadded<kPartStates>};
  const int lane = threadIdx.x % kWarp;
  const int stop = min(first + kTileRows, replay.end);
  for (int position = first + static_cast<int>(threadIdx.x) / kWarp; position < stop;
       position += kWarps) {
    if (position < replay.first_new) continue;
    float* key = staged.k[position - first];
    float* query = staged.q[position - first];
    const float of_key = NormScale<kMost>(key, place.key_dim, 1.0f, lane);
    const float of_query = NormScale<kMost>(query, place.key_dim, query_scale, lane);
    float* log =
        write_keys && position >= replay.first_append
            ? p.state.log_b + replay.LogEntry(position) * place.keys_dim + place.key_channel
            : nullptr;
    for (int n = lane; n < place.key_dim; n += kWarp) {
      const float normed = __fmul_rn(key[n], of_key);
      key[n] = normed;
      query[n] = __fmul_rn(query[n], of_query);
      if (log != nullptr) log[n] = normed;
    }
  }
}

__device__ __forceinline__ float LogDecay(float a, float raw, float bias) {
  return __fmul_rn(a, Softplus(__fadd_rn(raw, bias)));
}

// What lane `lane` holds of the tile at `first`: of a replayed row g, of a new one the raw time
// step and the raw beta.
__device__ __forceinline__ float2 LoadScalars(const MultiStepDeltaNetParams& p, int head,
                                              const DeviceReplay& replay, int first) {
  const int lane = threadIdx.x % kWarp;
  const int position = first + lane;
  if (lane >= kTileRows || position >= replay.end) return {0, 0};
  if (position < replay.first_new) {
    return {__ldcg(p.state.log_delta + replay.LogEntry(position) * p.num_heads + head), 0};
  }
  const int64_t row = replay.Row(position);
  return {__ldcg(p.dt + row * p.dt_stride + head), __ldcg(p.beta + row * p.beta_stride + head)};
}

// Writes what blocks share after all of them have replayed.
template <int kPartStates>
__device__ void WriteShared(const MultiStepDeltaNetParams& p, const Place& place,
                            const DeviceReplay& replay) {
  const int lane = threadIdx.x % kWarp;
  const int appended = replay.end - replay.first_append;
  const int key_heads = static_cast<int>(p.num_key_heads), heads = static_cast<int>(p.num_heads);
  for (int i = threadIdx.x / kWarp; i < appended * key_heads; i += kWarps) {
    const int position = replay.first_append + i / key_heads;
    const int64_t channel = i % key_heads * p.key_dim;
    const float* key = p.k + replay.Row(position) * p.k_stride + channel;
    float* log = p.state.log_b + replay.LogEntry(position) * place.keys_dim + channel;
    const float scale = NormScale<kPadded<kPartStates>>(key, place.key_dim, 1.0f, lane);
    for (int n = lane; n < place.key_dim; n += kWarp) log[n] = __fmul_rn(key[n], scale);
  }
  for (int i = threadIdx.x; i < appended * heads; i += kThreads) {
    const int position = replay.first_append + i / heads, head = i % heads;
    p.state.log_delta[replay.LogEntry(position) * heads + head] =
        LogDecay(p.a[head], p.dt[replay.Row(position) * p.dt_stride + head], p.dt_bias[head]);
  }
}

// `arrivals` [max_sequences] are zero.
template <int kPartStates, bool kVector>
__global__ void __launch_bounds__(kThreads, kPartStates > 8 ? 2 : 3)
    MultiStepDeltaNetKernel(const __grid_constant__ MultiStepDeltaNetParams p, unsigned* arrivals) {
  __shared__ Shared<kPartStates> shared;
  LaunchDependents();

  const Place place(p);
  Recurrence<kPartStates, kVector> recurrence(p, place);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const float a = p.a[place.head], bias = p.dt_bias[place.head];
  const float query_scale = __fdiv_rn(1.0f, __fsqrt_rn(static_cast<float>(place.key_dim)));
  for (int r = warp; r < 2 * kTileRows; r += kWarps) {  // zeros behind the last element
    Staged<kPartStates>& staged = shared.staged[r / kTileRows];
    for (int n = place.key_dim + lane; n < kPadded<kPartStates>; n += kWarp) {
      staged.k[r % kTileRows][n] = 0;
      staged.q[r % kTileRows][n] = 0;
    }
  }

  const Ring log(p.state.log_rows), snapshot_ring(p.state.snapshot_rows);
  WaitForDependencies();
  int s = blockIdx.y;
  SequenceRows sequence = p.plan.sequences[s];  // there is memory for it, if not a sequence
  const int num_sequences = *p.plan.num_sequences;
  const int64_t elements = place.inner_dim * place.key_dim;
  while (s < num_sequences) {
    const DeviceReplay replay(p.state, log, sequence);
    const bool snapshots = p.state.snapshots != nullptr;
    const bool deferred = replay.AppendsOntoReplayed();
    float* checkpoint = p.state.checkpoint + replay.slot * elements;
    recurrence.LoadState(snapshots ? p.state.snapshots + SnapshotOffset(snapshot_ring, replay.slot,
                                                                        replay.begin, elements)
                                   : checkpoint);
    const auto stage = [&](int first, Staged<kPartStates>& to) {
      const float2 raw = LoadScalars(p, place.head, replay, first);
      StageRows(p, place, replay, first, to);
      return raw;
    };
    float2 next = stage(replay.begin, shared.staged[0]);
    int buffer = 0;
    for (int first = replay.begin; first < replay.end; first += kTileRows, buffer ^= 1) {
      const int stop = min(replay.end, first + kTileRows);
      Staged<kPartStates>& staged = shared.staged[buffer];
      const float2 raw = next;
      WaitForCopies();
      __syncthreads();
      if (stop < replay.end) next = stage(stop, shared.staged[buffer ^ 1]);
      NormRows(p, place, replay, first, place.first_of_key_head && !deferred, query_scale, staged);
      if (const int position = first + lane; lane < kTileRows && position < stop) {
        const bool is_new = position >= replay.first_new;
        const float g = is_new ? LogDecay(a, raw.x, bias) : raw.x;
        shared.scalars[warp][lane] = float2{Exp(g), Sigmoid(raw.y)};
        if (warp == 0 && place.first_of_head && !deferred && position >= replay.first_append) {
          p.state.log_delta[replay.LogEntry(position) * p.num_heads + place.head] = g;
        }
      }
      __syncthreads();
      for (int position = first; position < stop;) {
        const int run_end = replay.RunEnd(position, stop, snapshots);
        if (position < replay.first_new) {
          for (; position < run_end; ++position) {
            const int r = position - first;
            recurrence.Replay(staged, shared.scalars[warp][r].x, r);
          }
        } else {
          for (; position < run_end; ++position) {
            const int r = position - first;
            float* output = p.output + replay.Row(position) * p.output_stride + place.channel;
            float* log_x =
                position < replay.first_append
                    ? nullptr
                    : p.state.log_x + replay.LogEntry(position) * place.inner_dim + place.channel;
            recurrence.Step(staged, shared.scalars[warp][r], r, output, log_x);
          }
        }
        if (position == replay.store_at) recurrence.StoreState(checkpoint);
        if (snapshots) {
          recurrence.StoreState(p.state.snapshots +
                                SnapshotOffset(snapshot_ring, replay.slot, position, elements));
        }
      }
    }
    if (deferred && ArrivesLast(arrivals + s, gridDim.x)) {
      WriteShared<kPartStates>(p, place, replay);
    }
    s += gridDim.y;
    if (s >= num_sequences) break;
    sequence = p.plan.sequences[s];
    __syncthreads();  // everybody is done with the buffers
  }
}

bool IsAligned(const float* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

template <int kPartStates>
cudaError_t LaunchOf(CudaContext& ctx, const MultiStepDeltaNetParams& p) {
  constexpr int kMaxGrid{65535};
  const int64_t splits = (p.head_dim + kColumns - 1) / kColumns;
  const LaunchShape shape{
      .grid = dim3(static_cast<unsigned>(p.num_heads * splits),
                   static_cast<unsigned>(std::min(p.plan.max_sequences, kMaxGrid))),
      .block = dim3(kThreads)};
  unsigned* arrivals = static_cast<unsigned*>(ctx.workspace);
  const bool vector = p.head_dim % kOwnColumns == 0 && IsAligned(p.state.checkpoint) &&
                      IsAligned(p.state.snapshots);
  return vector
             ? LaunchKernel(ctx, MultiStepDeltaNetKernel<kPartStates, true>, shape, p, arrivals)
             : LaunchKernel(ctx, MultiStepDeltaNetKernel<kPartStates, false>, shape, p, arrivals);
}

}  // namespace

CudaError LaunchMultiStepDeltaNet(CudaContext& ctx, const MultiStepDeltaNetParams& params) {
  if (params.plan.max_sequences <= 0) return cudaSuccess;
  if (static_cast<size_t>(params.plan.max_sequences) > kWorkspaceCounterBytes / sizeof(unsigned)) {
    return cudaErrorNotSupported;
  }
  if (params.key_dim <= 4 * kParts) return LaunchOf<4>(ctx, params);
  if (params.key_dim <= 8 * kParts) return LaunchOf<8>(ctx, params);
  if (params.key_dim <= 16 * kParts) return LaunchOf<16>(ctx, params);
  return cudaErrorNotSupported;
}

}  // namespace sidewinder
