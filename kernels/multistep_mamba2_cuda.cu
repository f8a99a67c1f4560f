// The recurrent step of Mamba-2 (multistep.h), alone or with the convolution before it: per head h
// of group g
//   delta = clamp(softplus(dt[h] + dt_bias[h])), decay = exp(a[h] delta)
//   S[n,p] <- decay S[n,p] + (delta x[p]) B[n];   out[p] = sum_n S[n,p] C[n] + D x[p]
//
// The state is the traffic (2.6 MB a layer and sequence of mamba2-2.7b): it is read once, stays in
// registers through all rows, and is written only where the checkpoint falls.
//
// Grid: x over heads and 32 columns p of each, y over sequences. Of the block's 4 warps a thread
// owns 4 columns and kPartStates consecutive state elements (8 x 16 threads). Rows, replayed and
// new ones alike, pass in tiles of 8 through shared memory (x, B, C), one tile ahead. Roles
// besides:
//   staging       warp = row of the tile (two turns), lanes copy; or, with the convolution, a
//                 thread a channel: x of the block and B, C of its group, recomputed by every block
//   time steps    lane = row, by every warp for itself
//   outputs       warp = row (two turns), lane = column
// Barriers a tile: inputs have arrived (and the last tile is done with); partial outputs.
// A sum over state elements: groups of 4 in ascending order, then a balanced binary tree over the
// groups: in the thread, between lanes, between warps. Its shape depends on the state's alone.
//
// What blocks share: B and time steps in the log, raw inputs of B and C in the window's ring. They
// are written by one block as it goes (the first of its group or head), unless an entry may
// coincide with one that others still read; then by the block that is last to finish the sequence.
// Everything else belongs to one block, which reads old entries before it writes new ones.
//
// Bound: memory, 4 bytes a state element read, and written in passes that move the checkpoint.
#include <algorithm>
#include <cstdint>

#include "kernels/causal_conv.cuh"
#include "kernels/common/launch.cuh"
#include "kernels/common/math.cuh"
#include "kernels/common/replay.cuh"
#include "kernels/common/shared_memory.cuh"
#include "kernels/fused.h"
#include "kernels/multistep_mamba2.cuh"

namespace sidewinder {
namespace {

constexpr int kWarp{32};
constexpr int kColumns{kWarp};  // of a block
constexpr int kOwnColumns{4};   // of a thread
constexpr int kParts{16};       // threads that share a column
constexpr int kThreads{kColumns / kOwnColumns * kParts};
constexpr int kWarps{kThreads / kWarp};
constexpr int kTileRows{8};
constexpr int kConvWidth{4};
constexpr unsigned kAllLanes{0xffffffff};

template <int kPartStates>
constexpr int kPadded{kParts * kPartStates};  // state elements, with zeros behind the last

template <int kPartStates>
struct Staged {
  alignas(16) float x[kTileRows][kColumns];
  alignas(16) float b[kTileRows][kPadded<kPartStates>];
  alignas(16) float c[kTileRows][kPadded<kPartStates>];
};

template <int kPartStates>
struct Shared {
  Staged<kPartStates> staged[2];
  float2 steps[kWarps][kTileRows];  // delta and decay, a copy a warp
  float y[kTileRows][kWarps][kColumns];
};

// What the block works on, besides the sequence.
struct Place {
  __device__ explicit Place(const MultiStepMamba2Params& p) {
    const uint32_t splits = (static_cast<uint32_t>(p.head_dim) + kColumns - 1) / kColumns;
    const uint32_t heads_a_group =
        static_cast<uint32_t>(p.num_heads) / static_cast<uint32_t>(p.num_groups);
    head = blockIdx.x / splits;
    group = head / heads_a_group;
    first_column = blockIdx.x % splits * kColumns;
    columns = min(static_cast<int>(p.head_dim) - first_column, kColumns);
    first_of_head = first_column == 0;
    first_of_group = first_of_head && head % heads_a_group == 0;
    inner_dim = p.num_heads * p.head_dim;
    state_dim = static_cast<int>(p.state_dim);
    b_dim = p.num_groups * p.state_dim;
    x_channel = head * p.head_dim + first_column;
    b_channel = group * p.state_dim;
  }

  uint32_t head, group;
  int first_column, columns;
  bool first_of_head, first_of_group;
  int state_dim;
  int64_t inner_dim, b_dim;
  int64_t x_channel, b_channel;  // first of the block's in x, and in B and C
};

// The share of one thread: kPartStates state elements by kOwnColumns columns. kVector: columns come
// in whole, aligned fours.
template <int kPartStates, bool kVector>
class Recurrence {
 public:
  __device__ Recurrence(const MultiStepMamba2Params& p, const Place& place)
      : column_(threadIdx.x % (kColumns / kOwnColumns) * kOwnColumns),
        element_(threadIdx.x / (kColumns / kOwnColumns) * kPartStates),
        elements_(min(max(place.state_dim - element_, 0), kPartStates)),
        columns_(min(max(place.columns - column_, 0), kOwnColumns)),
        head_dim_(p.head_dim),
        offset_((static_cast<int64_t>(place.head) * place.state_dim + element_) * p.head_dim +
                place.first_column + column_) {}

  __device__ void LoadState(const float* state) {
#pragma unroll
    for (int i = 0; i < kPartStates; ++i) {
      const float* from = state + offset_ + i * head_dim_;
      const int count = i < elements_ ? columns_ : 0;
      if constexpr (kVector) {
        const float4 four = count > 0 ? *reinterpret_cast<const float4*>(from) : float4{0, 0, 0, 0};
        Unpack(four, state_[i]);
      } else {
#pragma unroll
        for (int j = 0; j < kOwnColumns; ++j) state_[i][j] = j < count ? from[j] : 0.0f;
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

  __device__ void Update(const Staged<kPartStates>& staged, float2 step, int r) {
    float x[kOwnColumns];
    Unpack(*reinterpret_cast<const float4*>(&staged.x[r][column_]), x);
#pragma unroll
    for (int j = 0; j < kOwnColumns; ++j) x[j] = __fmul_rn(step.x, x[j]);
#pragma unroll
    for (int i = 0; i < kPartStates; i += 4) {
      float b[4];
      Unpack(*reinterpret_cast<const float4*>(&staged.b[r][element_ + i]), b);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
#pragma unroll
        for (int j = 0; j < kOwnColumns; ++j) {
          state_[i + k][j] = __fmaf_rn(x[j], b[k], __fmul_rn(step.y, state_[i + k][j]));
        }
      }
    }
  }

  // Adds up what the warp has of the row's outputs.
  __device__ void Output(const Staged<kPartStates>& staged, float (&to)[kColumns], int r) const {
    constexpr int kGroups{kPartStates / 4};
    float sums[kGroups][kOwnColumns];
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      float c[4];
      Unpack(*reinterpret_cast<const float4*>(&staged.c[r][element_ + 4 * i]), c);
#pragma unroll
      for (int j = 0; j < kOwnColumns; ++j) {
        sums[i][j] = __fmul_rn(state_[4 * i][j], c[0]);
#pragma unroll
        for (int k = 1; k < 4; ++k) {
          sums[i][j] = __fmaf_rn(state_[4 * i + k][j], c[k], sums[i][j]);
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
    // Lanes 8 apart hold neighbouring parts of the same four columns, lanes 16 apart pairs of
    // parts. They exchange halves: each adds up two columns first, then one.
    const float(&own)[kOwnColumns] = sums[0];
    const bool second = threadIdx.x & 8, fourth = threadIdx.x & 16;
    const float first_of_two = Exchange(own[0], own[2], second, 8);
    const float second_of_two = Exchange(own[1], own[3], second, 8);
    to[column_ + (second ? 2 : 0) + (fourth ? 1 : 0)] =
        Exchange(first_of_two, second_of_two, fourth, 16);
  }

 private:
  __device__ static void Unpack(float4 four, float (&to)[4]) {
    to[0] = four.x;
    to[1] = four.y;
    to[2] = four.z;
    to[3] = four.w;
  }

  // Of the values `low` and `high` of two lanes, `distance` apart, the sum of one kind: the upper
  // lane's is the sum of the high ones.
  __device__ static float Exchange(float low, float high, bool upper, int distance) {
    const float kept = upper ? high : low, given = upper ? low : high;
    return __fadd_rn(kept, __shfl_xor_sync(kAllLanes, given, distance));
  }

  int column_, element_;    // first of the thread's
  int elements_, columns_;  // how many of them exist
  int64_t head_dim_, offset_;
  float state_[kPartStates][kOwnColumns];
};

// The convolution in front of the recurrence, for the channels of the block: x, B and C, a thread a
// channel in several turns.
template <int kPartStates>
class Convolution {
 public:
  __device__ Convolution(const CausalConvParams& p, const Place& place) {
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      const int i = turn * kThreads + static_cast<int>(threadIdx.x);
      channel_[turn] = Channel(place, i);
      bias_[turn] = channel_[turn] >= 0 && p.bias != nullptr ? p.bias[channel_[turn]] : 0.0f;
#pragma unroll
      for (int k = 0; k < kConvWidth; ++k) {
        weight_[turn][k] = channel_[turn] >= 0 ? p.weight[k * p.dim + channel_[turn]] : 0.0f;
      }
    }
  }

  // The new rows among those at [first, first + kTileRows). Raw inputs that are kept go to the
  // ring: those of x, and those of B and C if `write_shared`.
  __device__ void Stage(const ConvInputs& inputs, int first, bool write_shared,
                        Staged<kPartStates>& to) const {
    const int begin = max(first, inputs.first_new);
    const int stop = min(first + kTileRows, inputs.end);
    if (begin >= stop) return;
    float u[kTurns][kConvWidth - 1 + kTileRows];
#pragma unroll
    for (int k = 0; k < kConvWidth - 1; ++k) {
      const int position = begin - kConvWidth + 1 + k;
      const float* row = inputs.Row(max(position, 0));
#pragma unroll
      for (int turn = 0; turn < kTurns; ++turn) {  // where there is no channel, any
        u[turn][k] = position < 0 ? 0.0f : row[max(channel_[turn], 0)];
      }
    }
    const float* from[kTurns];
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      from[turn] = inputs.input + begin * inputs.input_stride + max(channel_[turn], 0);
    }
#pragma unroll
    for (int j = 0; j < kTileRows; ++j) {
      if (begin + j >= stop) break;
#pragma unroll
      for (int turn = 0; turn < kTurns; ++turn) {
        u[turn][kConvWidth - 1 + j] = *from[turn];
        from[turn] += inputs.input_stride;
      }
    }
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      if (channel_[turn] < 0) continue;
      const int i = turn * kThreads + static_cast<int>(threadIdx.x);
      float* row = i < kColumns                          ? &to.x[begin - first][i]
                   : i < kColumns + kPadded<kPartStates> ? &to.b[begin - first][i - kColumns]
                                                         : &to.c[begin - first][i - kFirstC];
      const int stride = i < kColumns ? kColumns : kPadded<kPartStates>;
#pragma unroll
      for (int j = 0; j < kTileRows; ++j) {
        if (begin + j >= stop) break;
        row[j * stride] = ConvOutput<kConvWidth>(bias_[turn], weight_[turn], u[turn] + j);
      }
    }
#pragma unroll
    for (int j = 0; j < kTileRows; ++j) {
      const int position = begin + j;
      if (position >= stop) break;
      if (!inputs.Kept(position)) continue;
      float* row = inputs.RingRow(position);
#pragma unroll
      for (int turn = 0; turn < kTurns; ++turn) {
        const bool of_x = turn * kThreads + static_cast<int>(threadIdx.x) < kColumns;
        if (channel_[turn] >= 0 && (of_x || write_shared)) {
          row[channel_[turn]] = u[turn][kConvWidth - 1 + j];
        }
      }
    }
  }

 private:
  static constexpr int kFirstC{kColumns + kPadded<kPartStates>};
  static constexpr int kTurns{(kFirstC + kPadded<kPartStates> + kThreads - 1) / kThreads};

  // Channel of the convolution that is the block's i-th, or -1 for none.
  __device__ static int Channel(const Place& place, int i) {
    if (i < kColumns) return i < place.columns ? static_cast<int>(place.x_channel) + i : -1;
    const int first = static_cast<int>(place.inner_dim + place.b_channel);
    const int n = i < kFirstC ? i - kColumns : i - kFirstC;
    if (n >= place.state_dim) return -1;
    return i < kFirstC ? first + n : first + static_cast<int>(place.b_dim) + n;
  }

  int channel_[kTurns];
  float bias_[kTurns];
  float weight_[kTurns][kConvWidth];
};

// Copies elements [0, count), at most kMost, with the lanes of a warp.
template <int kMost>
__device__ __forceinline__ void CopyRow(float* to, const float* from, int count, int lane) {
#pragma unroll
  for (int i = 0; i < kMost; i += kWarp) {
    if (i + lane < count) CopyAsync(to + i + lane, from + i + lane);
  }
}

// Starts the copies of the rows at [first, first + kTileRows): all, or replayed ones only.
template <int kPartStates>
__device__ void StageRows(const MultiStepMamba2Params& p, const Place& place,
                          const DeviceReplay& replay, int first, bool replayed_only,
                          Staged<kPartStates>& to) {
  const int lane = threadIdx.x % kWarp;
  const int stop = min(first + kTileRows, replayed_only ? replay.first_new : replay.end);
  for (int position = first + static_cast<int>(threadIdx.x) / kWarp; position < stop;
       position += kWarps) {
    const int r = position - first;
    if (position < replay.first_new) {
      const int64_t entry = replay.LogEntry(position);
      CopyRow<kColumns>(to.x[r], p.state.log_x + entry * place.inner_dim + place.x_channel,
                        place.columns, lane);
      CopyRow<kPadded<kPartStates>>(to.b[r], p.state.log_b + entry * place.b_dim + place.b_channel,
                                    place.state_dim, lane);
    } else {
      const int64_t row = replay.Row(position);
      CopyRow<kColumns>(to.x[r], p.x + row * p.x_stride + place.x_channel, place.columns, lane);
      CopyRow<kPadded<kPartStates>>(to.b[r], p.b + row * p.b_stride + place.b_channel,
                                    place.state_dim, lane);
      CopyRow<kPadded<kPartStates>>(to.c[r], p.c + row * p.c_stride + place.b_channel,
                                    place.state_dim, lane);
    }
  }
}

// What lane `lane` holds of the tile at `first`: of a replayed row the logged time step, of a new
// one what was projected.
__device__ __forceinline__ float LoadRawStep(const MultiStepMamba2Params& p, int head,
                                             const DeviceReplay& replay, int first) {
  const int lane = threadIdx.x % kWarp;
  const int position = first + lane;
  if (lane >= kTileRows || position >= replay.end) return 0;
  return position < replay.first_new
             ? p.state.log_delta[replay.LogEntry(position) * p.num_heads + head]
             : p.dt[replay.Row(position) * p.dt_stride + head];
}

// Outputs of a tile's new rows, and what the block appends to the log.
template <int kPartStates>
__device__ void FinishTile(const MultiStepMamba2Params& p, const Place& place,
                           const DeviceReplay& replay, int first, bool write_shared, float d,
                           const Staged<kPartStates>& staged, const Shared<kPartStates>& shared) {
  const int lane = threadIdx.x % kWarp;
  for (int r = threadIdx.x / kWarp; r < kTileRows; r += kWarps) {
    const int position = first + r;
    if (position >= replay.end) break;
    if (position < replay.first_new) continue;
    const float x = staged.x[r][lane];
    if (lane < place.columns) {
      const float(&y)[kWarps][kColumns] = shared.y[r];
      const float sum =
          __fadd_rn(__fadd_rn(y[0][lane], y[1][lane]), __fadd_rn(y[2][lane], y[3][lane]));
      p.output[replay.Row(position) * p.output_stride + place.x_channel + lane] =
          __fmaf_rn(d, x, sum);
    }
    if (position < replay.first_append) continue;
    const int64_t entry = replay.LogEntry(position);
    if (lane < place.columns) {
      p.state.log_x[entry * place.inner_dim + place.x_channel + lane] = x;
    }
    if (!write_shared) continue;
    if (place.first_of_head && lane == 0) {
      p.state.log_delta[entry * p.num_heads + place.head] = shared.steps[0][r].x;
    }
    for (int n = lane; place.first_of_group && n < place.state_dim; n += kWarp) {
      p.state.log_b[entry * place.b_dim + place.b_channel + n] = staged.b[r][n];
    }
  }
}

// Writes what blocks share after all of them have replayed: B and time steps of the log first,
// which still need the old window, then the window.
template <bool kConv>
__device__ void WriteShared(const MultiStepMamba2Params& p, const CausalConvParams& conv,
                            const Place& place, const DeviceReplay& replay,
                            const ConvInputs& inputs) {
  const int appended = replay.end - replay.first_append;
  const int b_dim = static_cast<int>(place.b_dim), num_heads = static_cast<int>(p.num_heads);
  for (int i = threadIdx.x; i < appended * b_dim; i += kThreads) {
    const int position = replay.first_append + i / b_dim, n = i % b_dim;
    float* to = p.state.log_b + replay.LogEntry(position) * b_dim + n;
    if constexpr (kConv) {
      *to = ConvOutput(conv, inputs, position, place.inner_dim + n);
    } else {
      *to = p.b[replay.Row(position) * p.b_stride + n];
    }
  }
  for (int i = threadIdx.x; i < appended * num_heads; i += kThreads) {
    const int position = replay.first_append + i / num_heads, head = i % num_heads;
    p.state.log_delta[replay.LogEntry(position) * num_heads + head] =
        TimeStep(p, p.dt[replay.Row(position) * p.dt_stride + head], p.dt_bias[head]);
  }
  if constexpr (kConv) {
    __syncthreads();
    const int first = max(inputs.first_new, inputs.first_kept);
    for (int i = threadIdx.x; i < (inputs.end - first) * 2 * b_dim; i += kThreads) {
      const int position = first + i / (2 * b_dim);
      const int64_t channel = place.inner_dim + i % (2 * b_dim);
      inputs.RingRow(position)[channel] = inputs.New(position, channel);
    }
  }
}

template <int kPartStates>
struct NoConvolution {
  __device__ NoConvolution(const CausalConvParams&, const Place&) {}
};

// `arrivals` [max_sequences] are zero. conv counts only if kConv; then x, B and C come from it.
template <int kPartStates, bool kVector, bool kConv>
__global__ void __launch_bounds__(kThreads, !kConv && kPartStates <= 8 ? 5 : 1)
    MultiStepMamba2Kernel(const __grid_constant__ MultiStepMamba2Params p,
                          const __grid_constant__ CausalConvParams conv, unsigned* arrivals,
                          RowsPart part) {
  __shared__ Shared<kPartStates> shared;
  LaunchDependents();

  const Place place(p);
  Recurrence<kPartStates, kVector> recurrence(p, place);
  const std::conditional_t<kConv, Convolution<kPartStates>, NoConvolution<kPartStates>> convolution(
      conv, place);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const float d = lane < place.columns ? p.d[place.x_channel + lane] : 0.0f;
  const float a = p.a[place.head], bias = p.dt_bias[place.head];
  for (int r = warp; r < 2 * kTileRows; r += kWarps) {  // zeros behind the last element
    Staged<kPartStates>& staged = shared.staged[r / kTileRows];
    for (int n = place.state_dim + lane; n < kPadded<kPartStates>; n += kWarp) {
      staged.b[r % kTileRows][n] = 0;
      staged.c[r % kTileRows][n] = 0;
    }
  }

  const Ring log(p.state.log_rows), snapshot_ring(p.state.snapshot_rows), window(conv.ring_rows);
  WaitForDependencies();
  int s = blockIdx.y;
  SequenceRows sequence =
      PartOf(p.plan.sequences[s], part);  // there is memory for it, if not a sequence
  const int num_sequences = *p.plan.num_sequences;
  const int64_t elements = place.inner_dim * place.state_dim;
  while (s < num_sequences) {
    const DeviceReplay replay(p.state, log, sequence);
    const ConvInputs inputs(conv, window, sequence);
    const bool snapshots = p.state.snapshots != nullptr;
    const bool deferred =
        replay.AppendsOntoReplayed() || (kConv && inputs.KeepsOntoNeeded(kConvWidth));
    float* checkpoint = p.state.checkpoint + replay.slot * elements;
    if (replay.begin < replay.end) {
      recurrence.LoadState(snapshots
                               ? p.state.snapshots + SnapshotOffset(snapshot_ring, replay.slot,
                                                                    replay.begin, elements)
                               : checkpoint);
    }
    const auto stage = [&](int first, Staged<kPartStates>& to) {
      const float raw_step = LoadRawStep(p, place.head, replay, first);
      StageRows(p, place, replay, first, kConv, to);
      if constexpr (kConv) {
        convolution.Stage(inputs, first, place.first_of_group && !deferred, to);
      }
      return raw_step;
    };
    float next_step = stage(replay.begin, shared.staged[0]);
    int buffer = 0;
    for (int first = replay.begin; first < replay.end; first += kTileRows, buffer ^= 1) {
      const int stop = min(replay.end, first + kTileRows);
      const Staged<kPartStates>& staged = shared.staged[buffer];
      float step = next_step;
      WaitForCopies();
      __syncthreads();
      if (stop < replay.end) next_step = stage(stop, shared.staged[buffer ^ 1]);
      if (lane < kTileRows) {
        if (first + lane >= replay.first_new) step = TimeStep(p, step, bias);
        shared.steps[warp][lane] = float2{step, Exp(__fmul_rn(a, step))};
      }
      __syncwarp();
      for (int position = first; position < stop;) {
        const int run_end = replay.RunEnd(position, stop, snapshots);
        if (position < replay.first_new) {
          for (; position < run_end; ++position) {
            const int r = position - first;
            recurrence.Update(staged, shared.steps[warp][r], r);
          }
        } else {
          for (; position < run_end; ++position) {
            const int r = position - first;
            recurrence.Update(staged, shared.steps[warp][r], r);
            recurrence.Output(staged, shared.y[r][warp], r);
          }
        }
        if (position == replay.store_at) recurrence.StoreState(checkpoint);
        if (snapshots) {
          recurrence.StoreState(p.state.snapshots +
                                SnapshotOffset(snapshot_ring, replay.slot, position, elements));
        }
      }
      __syncthreads();
      FinishTile(p, place, replay, first, !deferred, d, staged, shared);
    }
    if (deferred && ArrivesLast(arrivals + s, gridDim.x)) {
      WriteShared<kConv>(p, conv, place, replay, inputs);
    }
    s += gridDim.y;
    if (s >= num_sequences) break;
    sequence = PartOf(p.plan.sequences[s], part);
    __syncthreads();  // everybody is done with the buffers
  }
}

bool IsAligned(const float* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

template <int kPartStates, bool kConv>
cudaError_t LaunchOf(CudaContext& ctx, const MultiStepMamba2Params& p, const CausalConvParams& conv,
                     RowsPart part) {
  constexpr int kMaxGrid{65535};
  const int64_t splits = (p.head_dim + kColumns - 1) / kColumns;
  const LaunchShape shape{
      .grid = dim3(static_cast<unsigned>(p.num_heads * splits),
                   static_cast<unsigned>(std::min(p.plan.max_sequences, kMaxGrid))),
      .block = dim3(kThreads)};
  unsigned* arrivals = static_cast<unsigned*>(ctx.workspace);
  const bool vector = p.head_dim % kOwnColumns == 0 && IsAligned(p.state.checkpoint) &&
                      IsAligned(p.state.snapshots);
  return vector ? LaunchKernel(ctx, MultiStepMamba2Kernel<kPartStates, true, kConv>, shape, p, conv,
                               arrivals, part)
                : LaunchKernel(ctx, MultiStepMamba2Kernel<kPartStates, false, kConv>, shape, p,
                               conv, arrivals, part);
}

bool TooManySequences(const RowPlan& plan) {
  return static_cast<size_t>(std::max(plan.max_sequences, 0)) >
         kWorkspaceCounterBytes / sizeof(unsigned);
}

cudaError_t LaunchInTokenOrder(CudaContext& ctx, const MultiStepMamba2Params& params,
                               RowsPart part) {
  if (params.state_dim <= 4 * kParts) return LaunchOf<4, false>(ctx, params, {}, part);
  if (params.state_dim <= 8 * kParts) return LaunchOf<8, false>(ctx, params, {}, part);
  if (params.state_dim <= 16 * kParts) return LaunchOf<16, false>(ctx, params, {}, part);
  return cudaErrorNotSupported;
}

// Whether a sequence may have whole chunks, as far as the host knows.
bool MayHaveChunks(const MultiStepMamba2Params& p) {
  return p.plan.prefill && p.plan.max_rows >= kScanChunk &&
         MultiStepMamba2Chunk(p.head_dim, p.state_dim) == kScanChunk;
}

}  // namespace

CudaError LaunchMultiStepMamba2(CudaContext& ctx, const MultiStepMamba2Params& params) {
  if (params.plan.max_sequences <= 0) return cudaSuccess;
  if (TooManySequences(params.plan)) return cudaErrorNotSupported;
  if (!MayHaveChunks(params)) return LaunchInTokenOrder(ctx, params, RowsPart::kAll);
  cudaError_t launched = LaunchInTokenOrder(ctx, params, RowsPart::kBeforeChunks);
  if (launched == cudaSuccess) launched = LaunchMultiStepMamba2Chunks(ctx, params);
  if (launched != cudaSuccess) return launched;
  return LaunchInTokenOrder(ctx, params, RowsPart::kBehindChunks);
}

CudaError LaunchConvMultiStepMamba2(CudaContext& ctx, const CausalConvParams& conv,
                                    const MultiStepMamba2Params& multistep) {
  // Every block recomputes the convolution of B and C, which is worth a launch until there are many
  // rows, or so many blocks that a multiprocessor should hold more of them at a time than the
  // registers of this form allow. Both ways give the same bits.
  constexpr int kMostRowsFused{32}, kMostSequencesFused{4};
  const RowPlan& plan = multistep.plan;
  const bool fused = conv.width == kConvWidth && multistep.state_dim <= 8 * kParts &&
                     plan.max_sequences <= kMostSequencesFused &&
                     (plan.max_sequences > 1 || plan.max_rows <= kMostRowsFused) &&
                     !MayHaveChunks(multistep);
  if (!fused) {
    const CudaError launched = LaunchCausalConv(ctx, conv);
    return launched != cudaSuccess ? launched : LaunchMultiStepMamba2(ctx, multistep);
  }
  if (plan.max_sequences <= 0) return cudaSuccess;
  if (TooManySequences(plan)) return cudaErrorNotSupported;
  return multistep.state_dim <= 4 * kParts
             ? LaunchOf<4, true>(ctx, multistep, conv, RowsPart::kAll)
             : LaunchOf<8, true>(ctx, multistep, conv, RowsPart::kAll);
}

}  // namespace sidewinder
