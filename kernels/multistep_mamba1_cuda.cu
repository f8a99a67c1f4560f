// The recurrent step of Mamba-1 (multistep.h), alone or behind the product that gives its time
// steps: per channel c and state element n
//   delta = softplus(dt[c] + dt_bias[c]);  S <- exp(delta A[c,n]) S + (delta x[c]) B[n]
//   out[c] = (sum_n S C[n] + D[c] x[c]) silu(z[c]);   dt = W dt_low if fused
//
// Grid: x over blocks of 32 channels, y over sequences. A block of 4 warps takes the rows of its
// sequence in tiles of 8, replayed and new ones alike; state, A and the weights of W stay in
// registers. Three roles of a thread:
//   staging and time steps   warp = row of the tile (two turns), lane = channel
//   product (tensor cores)   warp = 16 channels and half of W's inputs; columns = rows of the tile
//   recurrence               4 threads a channel, a quarter of the state elements each, ascending
// Shared memory holds two tiles of inputs, so that the next one is under way while one is computed.
// Barriers a tile: inputs have arrived (and the last tile is done with); products; time steps.
// What the recurrence leaves is combined within a warp: (q0 + q1) + (q2 + q3) over the quarters.
// Where groups of channels have a B and C each, a block stages those of the groups that it touches,
// and a quarter reads its own group's.
//
// Log entries of x and delta belong to the channel's block. In a tile the block has read all log
// rows of that tile before it appends, and no later tile replays once a row is appended. That holds
// for B, too, if no group reaches beyond a block; else blocks share it: unless its entries may
// coincide with replayed ones, the block of a group's first channel appends it as it goes; else the
// block that is last to finish a sequence does.
//
// Bound: latency for one sequence; memory (the state) for many.
#include <algorithm>

#include "kernels/common/launch.cuh"
#include "kernels/common/math.cuh"
#include "kernels/common/mma_m16n8k16.cuh"
#include "kernels/common/replay.cuh"
#include "kernels/common/shared_memory.cuh"
#include "kernels/fused.h"
#include "kernels/pack_weights.h"

namespace sidewinder {
namespace {

constexpr int kWarp{32};
constexpr int kChannels{kWarp};  // of a block
constexpr int kParts{4};         // threads of a channel
constexpr int kThreads{kChannels * kParts};
constexpr int kWarps{kThreads / kWarp};
constexpr int kTileRows{8};
constexpr int kHalves{2};     // of W's inputs, summed apart
constexpr int kHeldTiles{5};  // weight tiles that a warp keeps in registers
constexpr int kUsualInputs{kHalves * kHeldTiles * static_cast<int>(kPackedTile)};
constexpr DType kNotFused{DType::kFloat32};

// Strides that spread what a warp touches at once over the banks.
constexpr int kProductStride{kChannels + 4};
constexpr int kPartStride{kChannels + 8};

// State elements of a thread, and whether there is more than one group.
template <int kPartStatesOfThread, bool kHasGroups>
struct Form {
  static constexpr int kPartStates{kPartStatesOfThread};
  static constexpr bool kGrouped{kHasGroups};
  static constexpr int kStates{kParts * kPartStates};
  // Elements of B that a block can stage: of as many groups as static shared memory allows.
  static constexpr int kStaged{kGrouped ? kStates * (kPartStates == 32 ? 2 : 4) : kStates};
};

template <class F>
struct Staged {
  float x[kTileRows][kChannels];
  float z[kTileRows][kChannels];
  float dt[kTileRows][kChannels];  // raw; of a replayed row the logged time step
  alignas(16) float b[kTileRows][F::kStaged];
  alignas(16) float c[kTileRows][F::kStaged];
};

template <class F>
struct Shared {
  Staged<F> staged[2];
  float product[kHalves][kTileRows][kProductStride];
  float delta[kTileRows][kChannels];
  float y[kTileRows][kParts][kPartStride];
};

// The elements of a row of B, and of C, that belong to the groups of the block's channels.
template <bool kGrouped>
struct BlockGroups {
  int64_t row = 0;     // elements of a whole row
  int64_t offset = 0;  // of the first one staged
  int count = 0;       // staged
  int append = 0;      // the staged elements from here on are the block's to append to the log
  int group_dim = 0, first_group = 0;

  __device__ explicit BlockGroups(const MultiStepMamba1Params& p) {
    const int state_dim = static_cast<int>(p.state_dim);
    row = count = state_dim;
    append = blockIdx.x == 0 ? 0 : count;
    if constexpr (kGrouped) {
      const int first = static_cast<int>(blockIdx.x) * kChannels;
      const int last = min(first + kChannels, static_cast<int>(p.inner_dim)) - 1;
      group_dim = static_cast<int>(p.inner_dim / p.num_groups);
      first_group = first / group_dim;
      row = p.num_groups * state_dim;
      offset = int64_t{first_group} * state_dim;
      count = (last / group_dim - first_group + 1) * state_dim;
      append = first % group_dim == 0 ? 0 : state_dim;
    }
  }

  // Whether other blocks read some of these elements of the log.
  __device__ bool Shared() const { return !kGrouped || kChannels % group_dim != 0; }

  // Where a channel's group begins among the staged elements.
  __device__ int Begin(int64_t channel, int state_dim) const {
    return kGrouped ? (static_cast<int>(channel) / group_dim - first_group) * state_dim : 0;
  }
};

// Weight tiles along a dimension.
__host__ __device__ constexpr int NumTiles(int64_t dim) {
  return static_cast<int>((dim + kPackedTile - 1) / kPackedTile);
}

// Elements between rows of the product's inputs in shared memory: 8 modulo 32.
__host__ __device__ constexpr int LowStride(int64_t in_dim) {
  return (NumTiles(in_dim) * static_cast<int>(kPackedTile) + 23) / 32 * 32 + 8;
}

// The share of one warp in dt = W dt_low for the block's channels and the rows of a tile.
template <DType kWeight>
class Product {
 public:
  __device__ explicit Product(const LinearParams& p)
      : group_(threadIdx.x / kWarp % 2), half_(threadIdx.x / kWarp / 2) {
    const int tiles = NumTiles(p.in_dim);
    const int split = (tiles + kHalves - 1) / kHalves;
    first_ = half_ * split;
    const int64_t row = int64_t{blockIdx.x} * (kChannels / kPackedTile) + group_;
    count_ = row < NumTiles(p.out_dim) ? min(split, tiles - first_) : 0;
    weights_ = static_cast<const uint4*>(p.weight) + (row * tiles + first_) * kWarp + Lane();
#pragma unroll
    for (int i = 0; i < kHeldTiles; ++i) {
      held_[i] = i < count_ ? weights_[i * kWarp] : uint4{0, 0, 0, 0};
    }
  }

  // `low`: the inputs of the tile's rows; `sums` gets those of this warp's half.
  __device__ void Run(const float* low, int low_stride,
                      float (&product)[kHalves][kTileRows][kProductStride]) const {
    const int g = Lane() / 4, t = Lane() % 4;
    const float* input = low + g * low_stride + first_ * static_cast<int>(kPackedTile) + 2 * t;
    float sums[4] = {};
    const auto add = [&](int i, uint4 weights) {
      const float* from = input + i * static_cast<int>(kPackedTile);
      MultiplyAdd<kWeight>(sums, weights,
                           PackInputs<kWeight>(*reinterpret_cast<const float2*>(from)),
                           PackInputs<kWeight>(*reinterpret_cast<const float2*>(from + 8)));
    };
#pragma unroll
    for (int i = 0; i < kHeldTiles; ++i) {
      if (i < count_) add(i, held_[i]);
    }
    for (int i = kHeldTiles; i < count_; ++i) add(i, weights_[i * kWarp]);
    const int channel = group_ * static_cast<int>(kPackedTile) + g;
    product[half_][2 * t][channel] = sums[0];
    product[half_][2 * t + 1][channel] = sums[1];
    product[half_][2 * t][channel + 8] = sums[2];
    product[half_][2 * t + 1][channel + 8] = sums[3];
  }

 private:
  __device__ static int Lane() { return threadIdx.x % kWarp; }

  int group_, half_;   // which 16 channels, which inputs
  int first_, count_;  // weight tiles of this warp
  const uint4* weights_;
  uint4 held_[kHeldTiles];
};

template <>
class Product<kNotFused> {
 public:
  __device__ explicit Product(const LinearParams&) {}
};

// Copies elements [0, count), usually at most kUsual, with the lanes of a warp.
template <int kUsual>
__device__ __forceinline__ void CopyRow(float* to, const float* from, int count, int lane) {
#pragma unroll
  for (int i = 0; i < kUsual; i += kWarp) {
    if (i + lane < count) CopyAsync(to + i + lane, from + i + lane);
  }
  for (int i = kUsual + lane; i < count; i += kWarp) CopyAsync(to + i, from + i);
}

// Starts the copies of the rows at [first, first + kTileRows).
template <bool kFused, class F>
__device__ void StageTile(const MultiStepMamba1Params& p, const LinearParams& dt_proj,
                          const BlockGroups<F::kGrouped>& groups, const DeviceReplay& replay,
                          int first, Staged<F>& to, float* low) {
  const int lane = threadIdx.x % kWarp;
  const int64_t channel = int64_t{blockIdx.x} * kChannels + lane;
  const bool live = channel < p.inner_dim;
  for (int r = threadIdx.x / kWarp; r < kTileRows; r += kWarps) {
    const int position = first + r;
    if (position >= replay.end) break;
    if (position < replay.first_new) {
      const int64_t entry = replay.LogEntry(position);
      if (live) CopyAsync(&to.x[r][lane], p.state.log_x + entry * p.inner_dim + channel);
      if (live) CopyAsync(&to.dt[r][lane], p.state.log_delta + entry * p.inner_dim + channel);
      CopyRow<F::kStates>(to.b[r], p.state.log_b + entry * groups.row + groups.offset, groups.count,
                          lane);
      continue;
    }
    const int64_t row = replay.Row(position);
    if constexpr (kFused) {
      const int in_dim = static_cast<int>(dt_proj.in_dim);
      CopyRow<kUsualInputs>(low + r * LowStride(in_dim), dt_proj.input + row * dt_proj.input_stride,
                            in_dim, lane);
    } else {
      if (live) CopyAsync(&to.dt[r][lane], p.dt + row * p.dt_stride + channel);
    }
    if (live) CopyAsync(&to.x[r][lane], p.x + row * p.x_stride + channel);
    if (live) CopyAsync(&to.z[r][lane], p.z + row * p.z_stride + channel);
    CopyRow<F::kStates>(to.b[r], p.b + row * p.b_stride + groups.offset, groups.count, lane);
    CopyRow<F::kStates>(to.c[r], p.c + row * p.c_stride + groups.offset, groups.count, lane);
  }
}

// Time steps of a staged tile, and what the tile appends to the log.
template <bool kFused, class F>
__device__ void TimeSteps(const MultiStepMamba1Params& p, const BlockGroups<F::kGrouped>& groups,
                          const DeviceReplay& replay, int first, float bias, float product_bias,
                          bool append_b, const Staged<F>& staged, Shared<F>& shared) {
  const int lane = threadIdx.x % kWarp;
  const int64_t channel = int64_t{blockIdx.x} * kChannels + lane;
  for (int r = threadIdx.x / kWarp; r < kTileRows; r += kWarps) {
    const int position = first + r;
    if (position >= replay.end) break;
    float delta = staged.dt[r][lane];
    if (position >= replay.first_new) {
      if constexpr (kFused) {
        delta = __fadd_rn(__fadd_rn(shared.product[0][r][lane], shared.product[1][r][lane]),
                          product_bias);
      }
      delta = Softplus(__fadd_rn(delta, bias));
    }
    shared.delta[r][lane] = delta;
    if (position < replay.first_append) continue;
    const int64_t entry = replay.LogEntry(position);
    if (channel < p.inner_dim) {
      p.state.log_x[entry * p.inner_dim + channel] = staged.x[r][lane];
      p.state.log_delta[entry * p.inner_dim + channel] = delta;
    }
    if (!append_b) continue;
    for (int n = groups.append + lane; n < groups.count; n += kWarp) {
      p.state.log_b[entry * groups.row + groups.offset + n] = staged.b[r][n];
    }
  }
}

// The share of one thread in the recurrence: kPartStates state elements of a channel.
template <class F>
class Recurrence {
  static constexpr int kPartStates{F::kPartStates};

 public:
  __device__ Recurrence(const MultiStepMamba1Params& p, const BlockGroups<F::kGrouped>& groups)
      : column_(threadIdx.x / kWarp * (kWarp / kParts) + threadIdx.x % (kWarp / kParts)),
        part_(threadIdx.x % kWarp / (kWarp / kParts)) {
    const int64_t channel = int64_t{blockIdx.x} * kChannels + column_;
    live_ = channel < p.inner_dim
                ? min(max(static_cast<int>(p.state_dim) - Element(), 0), kPartStates)
                : 0;
    offset_ = Element() * p.inner_dim + channel;
    group_ = groups.Begin(channel, static_cast<int>(p.state_dim));
    Load(p.a, p.inner_dim, a_);
#pragma unroll
    for (int i = 0; i < kPartStates; ++i) a_[i] = __fmul_rn(a_[i], kLog2E);
  }

  __device__ void LoadState(const float* state, int64_t inner_dim) {
    Load(state, inner_dim, state_);
  }
  __device__ void StoreState(float* state, int64_t inner_dim) const {
#pragma unroll
    for (int i = 0; i < kPartStates; ++i) {
      if (i < live_) state[offset_ + i * inner_dim] = state_[i];
    }
  }

  __device__ void Update(const Staged<F>& staged, const float* delta_row, int r) {
    const float delta = delta_row[column_];
    const float delta_x = __fmul_rn(delta, staged.x[r][column_]);
    float b[kPartStates];
    LoadPart(staged.b[r], b);
#pragma unroll
    for (int i = 0; i < kPartStates; ++i) {
      const float decay = Exp2(__fmul_rn(delta, a_[i]));
      state_[i] = __fmaf_rn(delta_x, b[i], __fmul_rn(decay, state_[i]));
    }
  }

  __device__ void Output(const Staged<F>& staged, float (&y)[kParts][kPartStride], int r) const {
    float c[kPartStates];
    LoadPart(staged.c[r], c);
    float sum = __fmul_rn(state_[0], c[0]);
#pragma unroll
    for (int i = 1; i < kPartStates; ++i) sum = __fmaf_rn(state_[i], c[i], sum);
    y[part_][column_] = sum;
  }

 private:
  __device__ int Element() const { return part_ * kPartStates; }

  // This thread's elements of [state_dim, inner_dim], zero beyond its edges.
  __device__ void Load(const float* from, int64_t inner_dim, float (&to)[kPartStates]) const {
#pragma unroll
    for (int i = 0; i < kPartStates; ++i) {
      to[i] = i < live_ ? from[offset_ + i * inner_dim] : 0.0f;
    }
  }

  // Of a staged row of B or C.
  __device__ void LoadPart(const float* row, float (&to)[kPartStates]) const {
    if constexpr (F::kGrouped) {  // the next group lies behind, without zeros in between
#pragma unroll
      for (int i = 0; i < kPartStates; ++i) {
        to[i] = i < live_ ? row[group_ + Element() + i] : 0.0f;
      }
    } else {
#pragma unroll
      for (int i = 0; i < kPartStates; i += 4) {
        const float4 four = *reinterpret_cast<const float4*>(row + Element() + i);
        to[i] = four.x;
        to[i + 1] = four.y;
        to[i + 2] = four.z;
        to[i + 3] = four.w;
      }
    }
  }

  int column_, part_;
  int live_;  // state elements that exist
  int64_t offset_;
  int group_;             // where the channel's group begins in a staged row
  float a_[kPartStates];  // A log2 e
  float state_[kPartStates];
};

// Outputs of the new rows of a tile, for the columns of this warp.
template <class F>
__device__ void WriteOutputs(const MultiStepMamba1Params& p, const DeviceReplay& replay, int first,
                             float d, const Staged<F>& staged, const Shared<F>& shared) {
  constexpr int kColumns{kWarp / kParts};
  const int column = threadIdx.x / kWarp * kColumns + threadIdx.x % kColumns;
  const int64_t channel = int64_t{blockIdx.x} * kChannels + column;
  if (channel >= p.inner_dim) return;
#pragma unroll
  for (int r = threadIdx.x % kWarp / kColumns; r < kTileRows; r += kParts) {
    const int position = first + r;
    if (position >= replay.end || position < replay.first_new) continue;
    const float sum = __fadd_rn(__fadd_rn(shared.y[r][0][column], shared.y[r][1][column]),
                                __fadd_rn(shared.y[r][2][column], shared.y[r][3][column]));
    const float y = __fmaf_rn(d, staged.x[r][column], sum);
    p.output[replay.Row(position) * p.output_stride + channel] =
        __fmul_rn(y, Silu(staged.z[r][column]));
  }
}

// Appends B after all blocks have replayed.
__device__ void AppendB(const MultiStepMamba1Params& p, const DeviceReplay& replay) {
  const int row = static_cast<int>(p.num_groups * p.state_dim);
  const int count = (replay.end - replay.first_append) * row;
  for (int i = threadIdx.x; i < count; i += kThreads) {
    const int position = replay.first_append + i / row, n = i % row;
    p.state.log_b[replay.LogEntry(position) * row + n] = p.b[replay.Row(position) * p.b_stride + n];
  }
}

// `arrivals` [max_sequences] are zero. dt_proj counts only if fused.
template <class F, DType kWeight>
__global__ void __launch_bounds__(kThreads, F::kPartStates <= 8 ? 4 : 2)
    MultiStepMamba1Kernel(const __grid_constant__ MultiStepMamba1Params p,
                          const __grid_constant__ LinearParams dt_proj, unsigned* arrivals) {
  constexpr bool kFused{kWeight != kNotFused};
  __shared__ Shared<F> shared;
  LaunchDependents();

  const Product<kWeight> product(dt_proj);
  const BlockGroups<F::kGrouped> groups(p);
  Recurrence<F> recurrence(p, groups);
  const int lane = threadIdx.x % kWarp;
  const int64_t staged_channel = int64_t{blockIdx.x} * kChannels + lane;
  const int64_t output_channel = int64_t{blockIdx.x} * kChannels +
                                 threadIdx.x / kWarp * (kWarp / kParts) + lane % (kWarp / kParts);
  float bias = 0, product_bias = 0, d = 0;
  if (staged_channel < p.inner_dim) {
    bias = p.dt_bias[staged_channel];
    if (kFused && dt_proj.bias != nullptr) product_bias = dt_proj.bias[staged_channel];
  }
  if (output_channel < p.inner_dim) d = p.d[output_channel];

  // Zeros where a row of B, C or dt_low ends and the registers or weight tiles do not. With groups,
  // registers without an element take zeros by themselves.
  const int low_stride = kFused ? LowStride(dt_proj.in_dim) : 0;
  float* low = kFused ? DynamicShared() : nullptr;
  for (int r = threadIdx.x / kWarp; r < 2 * kTileRows; r += kWarps) {
    Staged<F>& staged = shared.staged[r / kTileRows];
    for (int n = groups.count + lane; !F::kGrouped && n < F::kStates; n += kWarp) {
      staged.b[r % kTileRows][n] = 0;
      staged.c[r % kTileRows][n] = 0;
    }
    for (int k = static_cast<int>(dt_proj.in_dim) + lane; k < low_stride; k += kWarp) {
      low[r * low_stride + k] = 0;
    }
  }

  const Ring log(p.state.log_rows), snapshot_ring(p.state.snapshot_rows);
  WaitForDependencies();
  int s = blockIdx.y;
  SequenceRows sequence = p.plan.sequences[s];  // there is memory for it, if not a sequence
  const int num_sequences = *p.plan.num_sequences;
  const int64_t elements = p.inner_dim * p.state_dim;
  while (s < num_sequences) {
    const DeviceReplay replay(p.state, log, sequence);
    const bool deferred = groups.Shared() && replay.AppendsOntoReplayed();
    const bool snapshots = p.state.snapshots != nullptr;
    float* checkpoint = p.state.checkpoint + replay.slot * elements;
    recurrence.LoadState(snapshots ? p.state.snapshots + SnapshotOffset(snapshot_ring, replay.slot,
                                                                        replay.begin, elements)
                                   : checkpoint,
                         p.inner_dim);
    StageTile<kFused>(p, dt_proj, groups, replay, replay.begin, shared.staged[0], low);
    int buffer = 0;
    for (int first = replay.begin; first < replay.end; first += kTileRows, buffer ^= 1) {
      const int stop = min(replay.end, first + kTileRows);
      const Staged<F>& staged = shared.staged[buffer];
      WaitForCopies();
      __syncthreads();
      if (stop < replay.end) {
        StageTile<kFused>(p, dt_proj, groups, replay, stop, shared.staged[buffer ^ 1],
                          low + (buffer ^ 1) * kTileRows * low_stride);
      }
      if constexpr (kFused) {
        if (stop > replay.first_new) {
          product.Run(low + buffer * kTileRows * low_stride, low_stride, shared.product);
          __syncthreads();
        }
      }
      TimeSteps<kFused>(p, groups, replay, first, bias, product_bias, !deferred, staged, shared);
      __syncthreads();
      for (int position = first; position < stop;) {
        const int run_end = replay.RunEnd(position, stop, snapshots);
        if (position < replay.first_new) {
          for (; position < run_end; ++position) {
            const int r = position - first;
            recurrence.Update(staged, shared.delta[r], r);
          }
        } else {
          for (; position < run_end; ++position) {
            const int r = position - first;
            recurrence.Update(staged, shared.delta[r], r);
            recurrence.Output(staged, shared.y[r], r);
          }
        }
        if (position == replay.store_at) recurrence.StoreState(checkpoint, p.inner_dim);
        if (snapshots) {
          recurrence.StoreState(
              p.state.snapshots + SnapshotOffset(snapshot_ring, replay.slot, position, elements),
              p.inner_dim);
        }
      }
      __syncwarp();
      WriteOutputs(p, replay, first, d, staged, shared);
    }
    if (deferred && ArrivesLast(arrivals + s, gridDim.x)) AppendB(p, replay);
    s += gridDim.y;
    if (s >= num_sequences) break;
    sequence = p.plan.sequences[s];
    __syncthreads();  // everybody is done with the buffers
  }
}

// The most elements of B that the groups of a block's channels have.
int64_t StagedElements(const MultiStepMamba1Params& p) {
  const int64_t group_dim = p.inner_dim / p.num_groups;
  const int64_t whole = kChannels % group_dim == 0   ? kChannels / group_dim
                        : group_dim % kChannels == 0 ? 1
                                                     : (kChannels - 2) / group_dim + 2;
  return std::min(whole, p.num_groups) * p.state_dim;
}

template <bool kGrouped, DType kWeight>
cudaError_t LaunchOf(CudaContext& ctx, const MultiStepMamba1Params& p, const LinearParams& dt_proj,
                     int max_blocks_a_channel) {
  if (p.plan.max_sequences <= 0) return cudaSuccess;
  if (static_cast<size_t>(p.plan.max_sequences) > kWorkspaceCounterBytes / sizeof(unsigned)) {
    return cudaErrorNotSupported;
  }
  const LaunchShape shape{
      .grid = dim3(static_cast<unsigned>((p.inner_dim + kChannels - 1) / kChannels),
                   static_cast<unsigned>(std::min(p.plan.max_sequences, max_blocks_a_channel))),
      .block = dim3(kThreads),
      .shared_bytes =
          kWeight == kNotFused ? 0 : 2 * kTileRows * LowStride(dt_proj.in_dim) * sizeof(float)};
  unsigned* arrivals = static_cast<unsigned*>(ctx.workspace);
  const int64_t staged = StagedElements(p);
  cudaError_t error = cudaSuccess;
  const auto launch = [&]<class F>(F) {
    if (p.state_dim > F::kStates || staged > F::kStaged) return false;
    error = LaunchKernel(ctx, MultiStepMamba1Kernel<F, kWeight>, shape, p, dt_proj, arrivals);
    return true;
  };
  const bool fits =
      launch(Form<4, kGrouped>()) || launch(Form<8, kGrouped>()) || launch(Form<32, kGrouped>());
  return fits ? error : cudaErrorNotSupported;
}

}  // namespace

CudaError LaunchMultiStepMamba1(CudaContext& ctx, const MultiStepMamba1Params& params) {
  constexpr int kAllSequences{65535};
  const auto launch =
      params.num_groups > 1 ? LaunchOf<true, kNotFused> : LaunchOf<false, kNotFused>;
  return launch(ctx, params, {}, kAllSequences);
}

CudaError LaunchLinearMultiStepMamba1(CudaContext& ctx, const LinearParams& linear,
                                      const MultiStepMamba1Params& multistep) {
  // With many sequences a block takes several in turn, so that W is not read once for each.
  constexpr int kSequencesAtOnce{8};
  if (multistep.num_groups == 1 && linear.scale == nullptr) {
    switch (linear.weight_dtype) {
      case DType::kBFloat16:
        return LaunchOf<false, DType::kBFloat16>(ctx, multistep, linear, kSequencesAtOnce);
      case DType::kFloat16:
        return LaunchOf<false, DType::kFloat16>(ctx, multistep, linear, kSequencesAtOnce);
      case DType::kFloat32:
        break;
    }
  }
  const CudaError launched = LaunchLinear(ctx, linear);
  return launched != cudaSuccess ? launched : LaunchMultiStepMamba1(ctx, multistep);
}

}  // namespace sidewinder
