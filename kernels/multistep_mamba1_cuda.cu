// The recurrent step of Mamba-1 (multistep.h), alone or behind the product that gives its time
// steps: per channel c and state element n
//   delta = softplus(dt[c] + dt_bias[c]);  S <- exp(delta A[c,n]) S + (delta x[c]) B[n]
//   out[c] = (sum_n S C[n] + D[c] x[c]) silu(z[c]);   dt = W dt_low if fused
//
// Grid: x over blocks of 16 channels, y over sequences. What a block has of A, D and W is loaded
// once; W lies in shared memory, where each lane reads what it copied. Replayed rows pass in tiles
// of 16, new ones in tiles of 8; the last of the former (all of them, as a rule) and the first of
// the latter are under way together, and one more tile of new rows while one is computed. Roles of
// the 128 threads:
//   product (tensor cores)   warp = quarter of W's inputs; columns = rows of the tile
//   rows                     thread = row of the tile and channel: time step, gate, output, log
//   recurrence               thread = channel and an eighth of the state elements, ascending
// Barriers a tile: products; time steps; partial outputs. A sum over state elements: in the thread
// in ascending order, then a balanced tree over the eighths.
//
// With one sequence, loads of its rows go out together with that of the plan's entry: the chain is
// entry, state, recurrence. A thread computes the decays of several rows before it chains them.
//
// Log entries of x and delta belong to the channel's block, which appends after it has read all
// that it replays. B is shared by all blocks: unless its entries may coincide with replayed ones,
// the first block appends it as it goes; else the block that is last to finish a sequence does.
//
// Bound: latency for one sequence; memory (the state) for many.
#include <algorithm>

#include "kernels/common/async_copy.cuh"
#include "kernels/common/launch.cuh"
#include "kernels/common/math.cuh"
#include "kernels/common/mma_m16n8k16.cuh"
#include "kernels/common/plan_loads.cuh"
#include "kernels/common/replay.cuh"
#include "kernels/common/shared_memory.cuh"
#include "kernels/fused.h"
#include "kernels/pack_weights.h"

namespace sidewinder {
namespace {

constexpr int kWarp{32};
constexpr int kChannels{static_cast<int>(kPackedTile)};  // of a block
constexpr int kParts{8};                                 // threads of a channel
constexpr int kThreads{kChannels * kParts};
constexpr int kWarps{kThreads / kWarp};
constexpr int kTileRows{8};    // new rows at a time
constexpr int kLogRows{16};    // replayed rows at a time
constexpr int kUsualTiles{4};  // of W's inputs, for a warp; their loads are ahead of their use
constexpr DType kNotFused{DType::kFloat32};
static_assert(kThreads == kTileRows * kChannels);

// Strides that spread what a warp touches at once over the banks.
constexpr int kProductStride{kChannels + 4};
constexpr int kOutputStride{kParts * kChannels + 16};

// Rows of the replayed tile lie at its end, rows of the new tile behind them. Of B and C two tiles
// of new rows.
template <int kPartStates>
struct Shared {
  float2 steps[kLogRows + kTileRows][kChannels];  // delta, delta x
  alignas(16) float b[kLogRows + 2 * kTileRows][kParts * kPartStates];
  alignas(16) float c[2 * kTileRows][kParts * kPartStates];
  float product[kWarps][kTileRows][kProductStride];
  float y[kTileRows][kOutputStride];
};

// Offset of a row; without 64-bit multiplications.
__device__ __forceinline__ int64_t Offset(int64_t row, int64_t stride) {
  return static_cast<int64_t>(static_cast<uint64_t>(static_cast<uint32_t>(row)) *
                              static_cast<uint32_t>(stride));
}

// Weight tiles along W's inputs.
__host__ __device__ constexpr int NumTiles(int64_t in_dim) {
  return static_cast<int>((in_dim + kPackedTile - 1) / kPackedTile);
}

// The share of one warp in dt = W dt_low for the block's channels and the rows of a tile.
template <DType kWeight>
class Product {
 public:
  // Starts copying the weights; they have arrived when the thread's copies have.
  __device__ explicit Product(const LinearParams& p) : in_dim_(static_cast<int>(p.in_dim)) {
    const int tiles = NumTiles(p.in_dim);
    const int split = (tiles + kWarps - 1) / kWarps;
    first_ = Warp() * split;
    count_ = max(min(split, tiles - first_), 0);
    const uint4* from = static_cast<const uint4*>(p.weight) + int64_t{blockIdx.x} * tiles * kWarp;
    for (int i = first_; i < first_ + count_; ++i) {
      CopyAsync16OrZero(SharedAddress(Weights() + i * kWarp), from + i * kWarp + Lane(), true);
    }
    CommitCopies();
  }

  // Starts loading the inputs of a tile: rows of `input` from `first` on, below `end`.
  __device__ void Load(const LinearParams& p, int first, int end) {
    const int row = first + Lane() / 4;
    live_ = row < end;
    input_ = p.input + Offset(live_ ? row : 0, p.input_stride) + Element();
#pragma unroll
    for (int i = 0; i < kUsualTiles; ++i) LoadTile(i, inputs_[i]);
  }

  // Sums of the loaded tile over this warp's inputs.
  __device__ void Run(float (&product)[kWarps][kTileRows][kProductStride]) const {
    const uint4* weights = Weights() + first_ * kWarp;
    float sums[4] = {};
#pragma unroll
    for (int i = 0; i < kUsualTiles; ++i) {
      if (i < count_) Add(sums, weights[i * kWarp], inputs_[i]);
    }
#pragma unroll 1
    for (int i = kUsualTiles; i < count_; ++i) {
      float inputs[4];
      LoadTile(i, inputs);
      Add(sums, weights[i * kWarp], inputs);
    }
    const int g = Lane() / 4, t = Lane() % 4;
    product[Warp()][2 * t][g] = sums[0];
    product[Warp()][2 * t + 1][g] = sums[1];
    product[Warp()][2 * t][g + 8] = sums[2];
    product[Warp()][2 * t + 1][g + 8] = sums[3];
  }

 private:
  __device__ static int Warp() { return threadIdx.x / kWarp; }
  __device__ static int Lane() { return threadIdx.x % kWarp; }
  // The lane's part of the tiles' weights.
  __device__ static uint4* Weights() { return reinterpret_cast<uint4*>(DynamicShared()) + Lane(); }
  // First of W's inputs that this lane loads.
  __device__ int Element() const { return first_ * static_cast<int>(kPackedTile) + Lane() % 4 * 2; }

  __device__ void LoadTile(int i, float (&to)[4]) const {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int k = i * static_cast<int>(kPackedTile) + j / 2 * 8 + j % 2;
      to[j] = live_ && i < count_ && Element() + k < in_dim_ ? input_[k] : 0.0f;
    }
  }

  __device__ static void Add(float (&sums)[4], uint4 weights, const float (&inputs)[4]) {
    MultiplyAdd<kWeight>(sums, weights, PackInputs<kWeight>(float2{inputs[0], inputs[1]}),
                         PackInputs<kWeight>(float2{inputs[2], inputs[3]}));
  }

  int in_dim_;
  int first_, count_;  // weight tiles of this warp
  bool live_;          // whether the lane has a row
  const float* input_;
  float inputs_[kUsualTiles][4];
};

template <>
class Product<kNotFused> {
 public:
  __device__ explicit Product(const LinearParams&) {}
  __device__ void Load(const LinearParams&, int, int) {}
};

// The share of one thread in the recurrence: kPartStates state elements of a channel.
template <int kPartStates>
class Recurrence {
 public:
  __device__ explicit Recurrence(const MultiStepMamba1Params& p)
      : column_(threadIdx.x % kChannels), part_(threadIdx.x / kChannels) {
    const int64_t channel = int64_t{blockIdx.x} * kChannels + column_;
    live_ = channel < p.inner_dim
                ? min(max(static_cast<int>(p.state_dim) - Element(), 0), kPartStates)
                : 0;
    offset_ = Element() * p.inner_dim + channel;
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

  // Runs the rows [begin, end) of shared memory, of which those from kLogRows on have an output.
  // `shift`: of B and C of new rows. Calls after_row(row) behind each.
  template <class AfterRow>
  __device__ void Run(Shared<kPartStates>& shared, int begin, int end, int shift,
                      const AfterRow& after_row) {
    constexpr int kChunk{kPartStates <= 4 ? 8 / kPartStates : 1};
    int row = begin;
    for (; row + 1 < end; row += kChunk) {
      RunChunk<kChunk>(shared, row, min(kChunk, end - row), shift, after_row);
    }
    if (row < end) RunChunk<1>(shared, row, 1, shift, after_row);
  }

 private:
  __device__ int Element() const { return part_ * kPartStates; }

  // `count` of kRows rows from `first` on.
  template <int kRows, class AfterRow>
  __device__ void RunChunk(Shared<kPartStates>& shared, int first, int count, int shift,
                           const AfterRow& after_row) {
    float delta_x[kRows], decay[kRows][kPartStates], b[kRows][kPartStates], c[kRows][kPartStates];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int row = first + min(r, count - 1);
      const bool is_new = row >= kLogRows;
      const float2 step = shared.steps[row][column_];
      delta_x[r] = step.y;
      LoadPart(shared.b[is_new ? row + shift : row], b[r]);
      LoadPart(shared.c[is_new ? row + shift - kLogRows : 0], c[r]);
#pragma unroll
      for (int i = 0; i < kPartStates; ++i) decay[r][i] = Exp2(__fmul_rn(step.x, a_[i]));
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (r >= count) break;
#pragma unroll
      for (int i = 0; i < kPartStates; ++i) {
        state_[i] = __fmaf_rn(delta_x[r], b[r][i], __fmul_rn(decay[r][i], state_[i]));
      }
      if (first + r >= kLogRows) {
        float sum = __fmul_rn(state_[0], c[r][0]);
#pragma unroll
        for (int i = 1; i < kPartStates; ++i) sum = __fmaf_rn(state_[i], c[r][i], sum);
        shared.y[first + r - kLogRows][threadIdx.x] = sum;
      }
      after_row(first + r);
    }
  }

  // This thread's elements of [state_dim, inner_dim], zero beyond its edges.
  __device__ void Load(const float* from, int64_t inner_dim, float (&to)[kPartStates]) const {
#pragma unroll
    for (int i = 0; i < kPartStates; ++i) {
      to[i] = i < live_ ? from[offset_ + i * inner_dim] : 0.0f;
    }
  }

  __device__ void LoadPart(const float* row, float (&to)[kPartStates]) const {
#pragma unroll
    for (int i = 0; i < kPartStates; i += 2) {
      const float2 two = *reinterpret_cast<const float2*>(row + Element() + i);
      to[i] = two.x;
      to[i + 1] = two.y;
    }
  }

  int column_, part_;
  int live_;  // state elements that exist
  int64_t offset_;
  float a_[kPartStates];  // A log2 e
  float state_[kPartStates];
};

// The row that a thread has of a tile.
struct Row {
  float x = 0, z = 0;
  float dt = 0;  // raw, unless it is computed here
};

// Starts loading the rows [first, first + kTileRows) of the pass below `end`.
template <bool kFused>
__device__ Row LoadRow(const MultiStepMamba1Params& p, int64_t channel, int first, int end) {
  Row row;
  const int r = first + threadIdx.x / kChannels;
  if (r >= end || channel >= p.inner_dim) return row;
  row.x = p.x[Offset(r, p.x_stride) + channel];
  row.z = p.z[Offset(r, p.z_stride) + channel];
  if constexpr (!kFused) row.dt = p.dt[Offset(r, p.dt_stride) + channel];
  return row;
}

// Calls f(n) for the thread's share of a row's state elements: one of each 16.
template <int kStates, class F>
__device__ __forceinline__ void ForElements(int64_t state_dim, const F& f) {
#pragma unroll
  for (int i = 0; i < kStates; i += kChannels) {
    const int n = i + threadIdx.x % kChannels;
    if (n < state_dim) f(n);
  }
}

// Starts copying their B and C.
template <int kStates>
__device__ void CopyInputs(const MultiStepMamba1Params& p, int first, int end, float (*b)[kStates],
                           float (*c)[kStates]) {
  const int r = threadIdx.x / kChannels, row = first + r;
  if (row >= end) return;
  ForElements<kStates>(p.state_dim, [&](int n) {
    CopyAsync(&b[r][n], p.b + Offset(row, p.b_stride) + n);
    CopyAsync(&c[r][n], p.c + Offset(row, p.c_stride) + n);
  });
}

// What a thread has of a tile of replayed rows: two rows of a channel.
struct LoggedRows {
  float x[2] = {}, delta[2] = {};
};

// Starts loading the log rows of `count` positions from `first` on, and copying their B, to the end
// of the tile.
template <int kPartStates>
__device__ LoggedRows LoadLogged(const MultiStepMamba1Params& p, const DeviceReplay& replay,
                                 int64_t channel, int first, int count,
                                 Shared<kPartStates>& shared) {
  LoggedRows rows;
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const int r = threadIdx.x / kChannels + k * kTileRows;  // of the tile
    if (r < kLogRows - count) continue;
    const int64_t entry = replay.LogEntry(first + r - (kLogRows - count));
    if (channel < p.inner_dim) {
      rows.x[k] = p.state.log_x[Offset(entry, p.inner_dim) + channel];
      rows.delta[k] = p.state.log_delta[Offset(entry, p.inner_dim) + channel];
    }
    ForElements<kParts * kPartStates>(p.state_dim, [&](int n) {
      CopyAsync(&shared.b[r][n], p.state.log_b + Offset(entry, p.state_dim) + n);
    });
  }
  return rows;
}

template <int kPartStates>
__device__ void PutLogged(const LoggedRows& rows, Shared<kPartStates>& shared) {
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    shared.steps[threadIdx.x / kChannels + k * kTileRows][threadIdx.x % kChannels] =
        float2{rows.delta[k], __fmul_rn(rows.delta[k], rows.x[k])};
  }
}

// dt of the thread's row and channel.
template <int kPartStates>
__device__ float SumOfProducts(const Shared<kPartStates>& shared, float bias) {
  const int r = threadIdx.x / kChannels, column = threadIdx.x % kChannels;
  const float low = __fadd_rn(shared.product[0][r][column], shared.product[1][r][column]);
  const float high = __fadd_rn(shared.product[2][r][column], shared.product[3][r][column]);
  return __fadd_rn(__fadd_rn(low, high), bias);
}

// The sum over the state elements of the thread's row and channel.
template <int kPartStates>
__device__ float SumOfParts(const Shared<kPartStates>& shared) {
  const float* y = shared.y[threadIdx.x / kChannels] + threadIdx.x % kChannels;
  float sums[kParts];
#pragma unroll
  for (int i = 0; i < kParts; ++i) sums[i] = y[i * kChannels];
#pragma unroll
  for (int distance = 1; distance < kParts; distance *= 2) {
#pragma unroll
    for (int i = 0; i < kParts; i += 2 * distance) {
      sums[i] = __fadd_rn(sums[i], sums[i + distance]);
    }
  }
  return sums[0];
}

// Appends B after all blocks have replayed.
__device__ void AppendB(const MultiStepMamba1Params& p, const DeviceReplay& replay) {
  const int state_dim = static_cast<int>(p.state_dim);
  const int count = (replay.end - replay.first_append) * state_dim;
  for (int i = threadIdx.x; i < count; i += kThreads) {
    const int position = replay.first_append + i / state_dim, n = i % state_dim;
    p.state.log_b[replay.LogEntry(position) * state_dim + n] =
        p.b[replay.Row(position) * p.b_stride + n];
  }
}

// `arrivals` [max_sequences] are zero. dt_proj counts only if fused.
template <int kPartStates, DType kWeight>
__global__ void __launch_bounds__(kThreads, kPartStates <= 2 ? 5 : 2)
    MultiStepMamba1Kernel(const __grid_constant__ MultiStepMamba1Params p,
                          const __grid_constant__ LinearParams dt_proj, unsigned* arrivals) {
  constexpr bool kFused{kWeight != kNotFused};
  __shared__ Shared<kPartStates> shared;
  LaunchDependents();

  Product<kWeight> product(dt_proj);
  Recurrence<kPartStates> recurrence(p);
  const int r = threadIdx.x / kChannels;
  const int64_t channel = int64_t{blockIdx.x} * kChannels + threadIdx.x % kChannels;
  float bias = 0, product_bias = 0, d = 0;
  if (channel < p.inner_dim) {
    bias = p.dt_bias[channel];
    if (kFused && dt_proj.bias != nullptr) product_bias = dt_proj.bias[channel];
    d = p.d[channel];
  }
  // Zeros where a row of B or C ends and the registers do not.
  constexpr int kStates{kParts * kPartStates};
  for (int row = r; row < kLogRows + 2 * kTileRows; row += kTileRows) {
    for (int n = static_cast<int>(p.state_dim) + threadIdx.x % kChannels; n < kStates;
         n += kChannels) {
      shared.b[row][n] = 0;
      if (row < 2 * kTileRows) shared.c[row][n] = 0;
    }
  }
  const Ring log(p.state.log_rows), snapshot_ring(p.state.snapshot_rows);
  const bool snapshots = p.state.snapshots != nullptr;
  const int64_t elements = p.inner_dim * p.state_dim;
  WaitForDependencies();

  int s = blockIdx.y;
  SequenceRows sequence = LoadSequence(p.plan, s);
  const bool any = s < LoadNow(p.plan.num_sequences);
  // Starts loading the tile of rows [first, end) of the pass; B and C apart.
  Row next;
  const auto load = [&](int first, int end) {
    product.Load(dt_proj, first, end);
    next = LoadRow<kFused>(p, channel, first, end);
  };
  const EarlyRows early(p.plan, s);
  load(early.first_row, early.first_row + early.count);
  CopyInputs(p, early.first_row, early.first_row + early.count, shared.b + kLogRows, shared.c);
  CommitCopies();

  if (!any) return;
  for (;;) {
    const DeviceReplay replay(p.state, log, sequence);
    const bool deferred = replay.AppendsOntoReplayed();
    float* checkpoint = p.state.checkpoint + replay.slot * elements;
    recurrence.LoadState(snapshots ? p.state.snapshots + SnapshotOffset(snapshot_ring, replay.slot,
                                                                        replay.begin, elements)
                                   : checkpoint,
                         p.inner_dim);
    // Runs rows of shared memory, of which row kLogRows is the one of position `base`.
    const auto run = [&](int begin, int end, int shift, int base) {
      recurrence.Run(shared, begin, end, shift, [&](int row) {
        const int position = base + row - kLogRows + 1;
        float* to = position == replay.store_at ? checkpoint : nullptr;
        if (snapshots) {
          to = p.state.snapshots + SnapshotOffset(snapshot_ring, replay.slot, position, elements);
        }
        if (to != nullptr) recurrence.StoreState(to, p.inner_dim);
      });
    };
    const int last_row = sequence.first_row + sequence.num_rows;
    int replayed = replay.begin;
    if (replay.first_new - replayed > kLogRows) {
      for (; replay.first_new - replayed > kLogRows; replayed += kLogRows) {
        PutLogged(LoadLogged(p, replay, channel, replayed, kLogRows, shared), shared);
        WaitForCopies();
        __syncthreads();
        run(0, kLogRows, 0, replayed + kLogRows);
        __syncthreads();
      }
      load(sequence.first_row, last_row);  // once more: held through the loop, it would spill
    }
    int begin = kLogRows - (replay.first_new - replayed);
    const LoggedRows logged =
        LoadLogged(p, replay, channel, replayed, replay.first_new - replayed, shared);
    CommitCopies();

    int shift = 0;
    for (int first = replay.first_new;; first += kTileRows, shift ^= kTileRows, begin = kLogRows) {
      const Row row = next;
      const int next_row = static_cast<int>(replay.Row(first)) + kTileRows;
      if constexpr (kFused) {
        WaitForCopyGroups<2>();  // all but the last two: the weights
        product.Run(shared.product);
      }
      if (next_row < last_row) load(next_row, last_row);
      if constexpr (kFused) __syncthreads();
      const float raw = kFused ? SumOfProducts(shared, product_bias) : row.dt;
      const float delta = Softplus(__fadd_rn(raw, bias));
      shared.steps[kLogRows + r][threadIdx.x % kChannels] = float2{delta, __fmul_rn(delta, row.x)};
      if (first == replay.first_new) PutLogged(logged, shared);
      const float gate = Silu(row.z);
      WaitForCopies();
      __syncthreads();
      if (next_row < last_row) {
        CopyInputs(p, next_row, last_row, shared.b + kLogRows + (shift ^ kTileRows),
                   shared.c + (shift ^ kTileRows));
      }
      run(begin, kLogRows + min(kTileRows, replay.end - first), shift, first);
      __syncthreads();

      const int position = first + r;
      if (position < replay.end) {
        if (channel < p.inner_dim) {
          p.output[Offset(replay.Row(position), p.output_stride) + channel] =
              __fmul_rn(__fmaf_rn(d, row.x, SumOfParts(shared)), gate);
        }
        if (position >= replay.first_append) {
          const int64_t entry = replay.LogEntry(position);
          if (channel < p.inner_dim) {
            p.state.log_x[Offset(entry, p.inner_dim) + channel] = row.x;
            p.state.log_delta[Offset(entry, p.inner_dim) + channel] = delta;
          }
          if (blockIdx.x == 0 && !deferred) {
            ForElements<kStates>(p.state_dim, [&](int n) {
              p.state.log_b[Offset(entry, p.state_dim) + n] = shared.b[kLogRows + shift + r][n];
            });
          }
        }
      }
      if (next_row >= last_row) break;
    }
    if (deferred && ArrivesLast(arrivals + s, gridDim.x)) AppendB(p, replay);
    s += gridDim.y;
    if (s >= p.plan.max_sequences || s >= LoadNow(p.plan.num_sequences)) break;
    sequence = p.plan.sequences[s];
    __syncthreads();  // everybody is done with the buffers
    load(sequence.first_row, sequence.first_row + sequence.num_rows);
    CopyInputs(p, sequence.first_row, sequence.first_row + sequence.num_rows, shared.b + kLogRows,
               shared.c);
  }
}

template <DType kWeight>
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
      .shared_bytes = kWeight == kNotFused ? 0 : NumTiles(dt_proj.in_dim) * kWarp * sizeof(uint4)};
  unsigned* arrivals = static_cast<unsigned*>(ctx.workspace);
  if (p.state_dim <= 2 * kParts) {
    return LaunchKernel(ctx, MultiStepMamba1Kernel<2, kWeight>, shape, p, dt_proj, arrivals);
  }
  if (p.state_dim <= 4 * kParts) {
    return LaunchKernel(ctx, MultiStepMamba1Kernel<4, kWeight>, shape, p, dt_proj, arrivals);
  }
  if (p.state_dim <= 16 * kParts) {
    return LaunchKernel(ctx, MultiStepMamba1Kernel<16, kWeight>, shape, p, dt_proj, arrivals);
  }
  return cudaErrorNotSupported;
}

}  // namespace

CudaError LaunchMultiStepMamba1(CudaContext& ctx, const MultiStepMamba1Params& params) {
  constexpr int kAllSequences{65535};
  return LaunchOf<kNotFused>(ctx, params, {}, kAllSequences);
}

CudaError LaunchLinearMultiStepMamba1(CudaContext& ctx, const LinearParams& linear,
                                      const MultiStepMamba1Params& multistep) {
  // With many sequences a block takes several in turn, so that W is not read once for each.
  constexpr int kSequencesAtOnce{8};
  switch (linear.weight_dtype) {
    case DType::kBFloat16:
      return LaunchOf<DType::kBFloat16>(ctx, multistep, linear, kSequencesAtOnce);
    case DType::kFloat16:
      return LaunchOf<DType::kFloat16>(ctx, multistep, linear, kSequencesAtOnce);
    case DType::kFloat32:
      break;
  }
  const CudaError launched = LaunchLinear(ctx, linear);
  return launched != cudaSuccess ? launched : LaunchMultiStepMamba1(ctx, multistep);
}

}  // namespace sidewinder
