// The whole chunks of a prefill, Mamba-2 (multistep.h), as matrix products (Dao and Gu,
// arXiv 2405.21060). With s[i] the sum of a delta over the first rows of a chunk, to row i, and S
// the state before it:
//   M[i,j] = (sum_n C[i,n] B[j,n]) exp(s[i] - s[j]) delta[j]  for j <= i, otherwise 0
//   Y[i,p] = exp(s[i]) sum_n C[i,n] S[n,p] + sum_j M[i,j] x[j,p];   out[i,p] = Y[i,p] + D x[i,p]
//   S[n,p] <- exp(s[last]) S[n,p] + sum_j exp(s[last] - s[j]) delta[j] x[j,p] B[j,n]
// All exponents are sums over rows of a chunk, and none is positive.
//
// Grid: x over heads and 64 columns p of each, y over sequences; a block walks over the chunks of
// its sequence with the state in registers. Of the 8 warps, one has 16 columns and half of the
// state elements n. It keeps S and Y transposed, with p for the rows of the tensor cores' tiles, so
// that the S it sums up is an operand of the next product as it lies. Roles besides:
//   M            up to 3 tiles of 16 x 8 a warp, those above the diagonal left out
//   Y            a warp has the products with its half of S, and those with every other tile of M;
//                two warps exchange sums, and each finishes half of the rows
//   time steps   one warp, a chunk ahead; x, B and C are copied a chunk ahead by all
// Barriers a chunk: inputs have arrived (and the last chunk is done with); M; exchanged sums.
// A product of float32 numbers is three of TF32 (mma_m16n8k8.cuh). Sums start from zero for every
// chunk, as the tensor cores cut off what they add; the state is updated in float32, rounded.
//
// Bound: the tensor cores, 0.14 MFLOP of TF32 a row and head with 128 state elements, 0.08 with 64.
#include <algorithm>
#include <cstdint>

#include "kernels/common/async_copy.cuh"
#include "kernels/common/launch.cuh"
#include "kernels/common/load_matrix.cuh"
#include "kernels/common/mma_m16n8k8.cuh"
#include "kernels/common/replay.cuh"
#include "kernels/common/shared_memory.cuh"
#include "kernels/multistep_mamba2.cuh"

namespace sidewinder {
namespace {

constexpr int kWarp{32};
constexpr int kChunk{kScanChunk};
constexpr int kColumns{64};     // of a block
constexpr int kColumnTiles{4};  // of 16
constexpr int kWarps{2 * kColumnTiles};
constexpr int kThreads{kWarp * kWarps};
constexpr int kRowTiles{kChunk / 8};
constexpr int kMostScoreTiles{3};  // of M, a warp
constexpr int kStepsWarp{6};       // the one with the fewest of them
constexpr unsigned kAllLanes{0xffffffff};
static_assert(kChunk == 64 && kColumns == 16 * kColumnTiles);

// Strides of rows in shared memory: fragments of x, B and C, by rows or by columns, lie in
// different banks if it is 4 modulo 32, pairs of M if it is 8.
constexpr int kXStride{kColumns + 4};
constexpr int kMStride{kChunk + 8};

template <int kState>
struct Staged {
  static constexpr int kStride{kState + 4};
  alignas(16) float x[kChunk][kXStride];
  alignas(16) float b[kChunk][kStride];
  alignas(16) float c[kChunk][kStride];
};

// Of the rows of a chunk.
struct Steps {
  float2 sum[kChunk];  // s[i], as a float32 number and what it is off by
  float delta[kChunk];
  float from_start[kChunk];  // exp(s[i])
  float to_end[kChunk];      // exp(s[last] - s[j]) delta[j]
  float decay;               // exp(s[last])
};

template <int kState>
struct Shared {
  Staged<kState> staged[2];
  alignas(16) float m[kChunk][kMStride];
  float exchanged[kWarps][kRowTiles / 2 * 4][kWarp];
  Steps steps[2];
};

// A lane's place in the tiles of the tensor cores.
__device__ __forceinline__ int LaneRow() { return threadIdx.x % kWarp / 4; }
__device__ __forceinline__ int LanePair() { return threadIdx.x % 4; }

// What the block works on, besides the sequence.
struct Place {
  __device__ explicit Place(const MultiStepMamba2Params& p) {
    const uint32_t splits = static_cast<uint32_t>(p.head_dim) / kColumns;
    head = blockIdx.x / splits;
    first_column = blockIdx.x % splits * kColumns;
    const uint32_t heads_a_group =
        static_cast<uint32_t>(p.num_heads) / static_cast<uint32_t>(p.num_groups);
    x_channel = head * p.head_dim + first_column;
    b_channel = head / heads_a_group * p.state_dim;
  }

  uint32_t head;
  int first_column;
  int64_t x_channel, b_channel;  // first of the block's in x, and in B and C
};

// Starts the copies of kWidth elements of every row of a chunk; `from` is in the first one.
template <int kWidth, int kStride>
__device__ __forceinline__ void StageRows(float (&to)[kChunk][kStride], const float* from,
                                          int64_t stride, bool aligned) {
  if (aligned) {
    constexpr int kFours{kWidth / 4};
#pragma unroll
    for (int i = threadIdx.x; i < kChunk * kFours; i += kThreads) {
      const int r = i / kFours, n = i % kFours * 4;
      CopyAsync16(SharedAddress(&to[r][n]), from + r * stride + n);
    }
  } else {
    for (int i = threadIdx.x; i < kChunk * kWidth; i += kThreads) {
      const int r = i / kWidth, n = i % kWidth;
      CopyAsync(&to[r][n], from + r * stride + n);
    }
  }
}

template <int kState>
__device__ __forceinline__ void StageChunk(const MultiStepMamba2Params& p, const Place& place,
                                           int64_t row, bool aligned, Staged<kState>& to) {
  StageRows<kColumns>(to.x, p.x + row * p.x_stride + place.x_channel, p.x_stride, aligned);
  StageRows<kState>(to.b, p.b + row * p.b_stride + place.b_channel, p.b_stride, aligned);
  StageRows<kState>(to.c, p.c + row * p.c_stride + place.b_channel, p.c_stride, aligned);
  CommitCopies();
}

// Time steps and decays of the chunk that begins at `row`; one warp, two rows a lane. The sums are
// of double precision: their differences must be good where large decays stand before small ones.
// A row that forgets by e^-128 forgets everything, so that sums stay short.
__device__ void ComputeSteps(const MultiStepMamba2Params& p, const Place& place, int64_t row,
                             float a, float bias, Steps& steps) {
  constexpr float kForgetsAll{-128};
  const int lane = threadIdx.x % kWarp;
  float delta[2];
  double sum[2];
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const float raw = __ldcg(p.dt + (row + 2 * lane + k) * p.dt_stride + place.head);
    delta[k] = TimeStep(p, raw, bias);
    sum[k] = fmaxf(__fmul_rn(a, delta[k]), kForgetsAll);
  }
  sum[1] += sum[0];
  double before = sum[1];  // becomes the sum of all rows up to the lane's last
#pragma unroll
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const double other = __shfl_up_sync(kAllLanes, before, distance);
    if (lane >= distance) before += other;
  }
  const double last = __shfl_sync(kAllLanes, before, kWarp - 1);
  before -= sum[1];
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const int r = 2 * lane + k;
    sum[k] += before;
    const float rounded = static_cast<float>(sum[k]);
    steps.sum[r] = float2{rounded, static_cast<float>(sum[k] - rounded)};
    steps.delta[r] = delta[k];
    steps.from_start[r] = Exp(rounded);
    steps.to_end[r] = __fmul_rn(Exp(static_cast<float>(last - sum[k])), delta[k]);
  }
  if (lane == 0) steps.decay = Exp(static_cast<float>(last));
}

// An element of M from its sum over state elements.
__device__ __forceinline__ float Score(const Steps& steps, int i, int j, float sum) {
  if (j > i) return 0;
  const float2 a = steps.sum[i], b = steps.sum[j];
  const float exponent = __fadd_rn(__fsub_rn(a.x, b.x), __fsub_rn(a.y, b.y));
  return __fmul_rn(sum, __fmul_rn(Exp(exponent), steps.delta[j]));
}

// Of 16 rows that a lane's address is in, as LoadMatrices4 takes them: the 8 columns there.
__device__ __forceinline__ RowOperand LoadRows(uint32_t address) {
  const uint4 v = LoadMatrices4(address);
  return RowOperand(__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z),
                    __uint_as_float(v.w));
}

// sums[16 x 8] += rows[16 x 16] * the transposed 8 rows of 16 elements at `address`.
__device__ __forceinline__ void MultiplyAddTransposed(float (&sums)[4], const RowOperand (&rows)[2],
                                                      uint32_t address) {
  const uint4 v = LoadMatrices4(address);
  MultiplyAddSplit(sums, rows[0], ColumnOperand(__uint_as_float(v.x), __uint_as_float(v.y)));
  MultiplyAddSplit(sums, rows[1], ColumnOperand(__uint_as_float(v.z), __uint_as_float(v.w)));
}

// The warp's share of M: up to 3 tiles of 8 columns in one block of 16 rows.
template <int kState>
__device__ __forceinline__ void ComputeScores(const Staged<kState>& in, const Steps& steps,
                                              float (&m)[kChunk][kMStride]) {
  // Block b has 2 b + 2 tiles that are not above the diagonal, 20 in all. A digit a warp, from the
  // right: its block, and the first of its tiles.
  constexpr uint32_t kBlocks{0x01122333}, kFirstTiles{0x03030630};
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int block = kBlocks >> 4 * warp & 0xf, first = kFirstTiles >> 4 * warp & 0xf;
  const int count = min(2 * block + 2 - first, kMostScoreTiles);
  const uint32_t c = SharedAddress(&in.c[16 * block + lane % 16][lane / 16 * 4]);
  const uint32_t b = SharedAddress(&in.b[8 * first + lane % 8][lane / 8 * 4]);
  constexpr uint32_t kTileBytes{8 * Staged<kState>::kStride * sizeof(float)};
  float sums[kMostScoreTiles][4] = {};
#pragma unroll 2
  for (uint32_t n = 0; n < kState; n += 16) {
    const RowOperand rows[2]{LoadRows(c + n * sizeof(float)),
                             LoadRows(c + (n + 8) * sizeof(float))};
#pragma unroll
    for (int i = 0; i < kMostScoreTiles; ++i) {
      if (i < count) MultiplyAddTransposed(sums[i], rows, b + i * kTileBytes + n * sizeof(float));
    }
  }
#pragma unroll
  for (int i = 0; i < kMostScoreTiles; ++i) {
    if (i >= count) break;
    const int column = 8 * (first + i) + 2 * LanePair();
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const int row = 16 * block + LaneRow() + 8 * k;
      *reinterpret_cast<float2*>(&m[row][column]) =
          float2{Score(steps, row, column, sums[i][2 * k]),
                 Score(steps, row, column + 1, sums[i][2 * k + 1])};
    }
  }
}

// The share of one warp: 16 columns by half of the state elements, of the state transposed. A tile
// is of 8 elements; its column s is element s / 2 + s % 2 * 4, so that what a lane sums up is what
// it gives to the product with C.
template <int kState>
class ChunkScan {
 public:
  __device__ ChunkScan(const MultiStepMamba2Params& p, const Place& place)
      : column_(Warp() % kColumnTiles * 16 + LaneRow()),
        half_(Warp() / kColumnTiles),
        head_dim_(p.head_dim),
        state_offset_((static_cast<int64_t>(place.head) * kState + FirstElement() + LanePair()) *
                          p.head_dim +
                      place.first_column + column_) {}

  __device__ void LoadState(const float* state) {
    ForEachElement([&](float& value, int64_t offset) { value = __ldcg(state + offset); });
  }
  __device__ void StoreState(float* state) {
    ForEachElement([&](float& value, int64_t offset) { state[offset] = value; });
  }

  // Y transposed, the warp's sums.
  __device__ void Outputs(const Staged<kState>& in, const Steps& steps,
                          const float (&m)[kChunk][kMStride]) {
    const int lane = threadIdx.x % kWarp;
    const uint32_t c = SharedAddress(&in.c[lane % 8][FirstElement() + lane / 8 * 4]);
    constexpr uint32_t kTileBytes{8 * Staged<kState>::kStride * sizeof(float)};
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) {
#pragma unroll
      for (int k = 0; k < 4; ++k) y_[tile][k] = 0;
    }
#pragma unroll
    for (int i = 0; i < kStateTiles; i += 2) {
      const RowOperand rows[2]{StateRows(state_[i]), StateRows(state_[i + 1])};
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) {
        MultiplyAddTransposed(y_[tile], rows, c + tile * kTileBytes + i * 8 * sizeof(float));
      }
    }
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) {
      const float2 decay =
          *reinterpret_cast<const float2*>(&steps.from_start[8 * tile + 2 * LanePair()]);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        y_[tile][k] = __fmul_rn(y_[tile][k], k % 2 == 0 ? decay.x : decay.y);
      }
    }
    // The tiles of M in a column of them, from the diagonal down.
#pragma unroll
    for (int i = 0; i < kRowTiles; i += 2) {
      const int first = 8 * (i + half_) + 2 * LanePair();
      const RowOperand x(in.x[first][column_], in.x[first][column_ + 8], in.x[first + 1][column_],
                         in.x[first + 1][column_ + 8]);
#pragma unroll
      for (int tile = i; tile < kRowTiles; ++tile) {
        if (tile < i + half_) continue;
        const float2 pair = *reinterpret_cast<const float2*>(&m[8 * tile + LaneRow()][first]);
        MultiplyAddSplit(y_[tile], x, ColumnOperand(pair.x, pair.y));
      }
    }
  }

  // Gives the other half's warp the sums of the rows that it finishes.
  __device__ void Give(float (&to)[kRowTiles / 2 * 4][kWarp]) const {
#pragma unroll
    for (int i = 0; i < kRowTiles / 2 * 4; ++i) {
      to[i][threadIdx.x % kWarp] = half_ == 0 ? y_[kRowTiles / 2 + i / 4][i % 4] : y_[i / 4][i % 4];
    }
  }
  // Finishes its own: rows of `output`, whose first is the chunk's, from the block's first column.
  __device__ void Finish(const Staged<kState>& in, const float (&given)[kRowTiles / 2 * 4][kWarp],
                         const float2& d, float* output, int64_t stride) const {
#pragma unroll
    for (int i = 0; i < kRowTiles / 2 * 4; ++i) {
      const int row = 8 * (kRowTiles / 2 * half_ + i / 4) + 2 * LanePair() + i % 2;
      const int column = column_ + i % 4 / 2 * 8;
      const float own = half_ == 0 ? y_[i / 4][i % 4] : y_[kRowTiles / 2 + i / 4][i % 4];
      const float sum = __fadd_rn(own, given[i][threadIdx.x % kWarp]);
      output[row * stride + column] = __fmaf_rn(i % 4 < 2 ? d.x : d.y, in.x[row][column], sum);
    }
  }

  __device__ void Update(const Staged<kState>& in, const Steps& steps) {
    constexpr int kTilesAtOnce{4};
    const int element = FirstElement() + LaneRow() / 2 + LaneRow() % 2 * 4;
#pragma unroll
    for (int first = 0; first < kStateTiles; first += kTilesAtOnce) {
      float sums[kTilesAtOnce][4] = {};
#pragma unroll 2
      for (int j = 2 * LanePair(); j < kChunk; j += 8) {
        const float2 w = *reinterpret_cast<const float2*>(&steps.to_end[j]);
        const RowOperand x(__fmul_rn(w.x, in.x[j][column_]), __fmul_rn(w.x, in.x[j][column_ + 8]),
                           __fmul_rn(w.y, in.x[j + 1][column_]),
                           __fmul_rn(w.y, in.x[j + 1][column_ + 8]));
#pragma unroll
        for (int i = 0; i < kTilesAtOnce; ++i) {
          const int n = element + 8 * (first + i);
          MultiplyAddSplit(sums[i], x, ColumnOperand(in.b[j][n], in.b[j + 1][n]));
        }
      }
#pragma unroll
      for (int i = 0; i < kTilesAtOnce; ++i) {
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          state_[first + i][k] = __fmaf_rn(steps.decay, state_[first + i][k], sums[i][k]);
        }
      }
    }
  }

  __device__ int column() const { return column_; }

 private:
  static constexpr int kStateTiles{kState / 2 / 8};

  __device__ static int Warp() { return threadIdx.x / kWarp; }
  __device__ int FirstElement() const { return half_ * (kState / 2); }

  __device__ static RowOperand StateRows(const float (&tile)[4]) {
    return RowOperand(tile[0], tile[2], tile[1], tile[3]);
  }

  template <class Visit>
  __device__ __forceinline__ void ForEachElement(const Visit& visit) {
#pragma unroll
    for (int i = 0; i < kStateTiles; ++i) {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        visit(state_[i][k], state_offset_ + (8 * i + k % 2 * 4) * head_dim_ + k / 2 * 8);
      }
    }
  }

  int column_;  // of the block's, the lane's first; the other one is 8 behind
  int half_;    // of the state elements, and of the rows that it finishes
  int64_t head_dim_, state_offset_;
  float state_[kStateTiles][4];
  float y_[kRowTiles][4];
};

// `aligned`: rows of x, B and C come in whole, aligned fours.
template <int kState>
__global__ void __launch_bounds__(kThreads, 1)
    MultiStepMamba2ChunksKernel(const __grid_constant__ MultiStepMamba2Params p, bool aligned) {
  Shared<kState>& shared = *reinterpret_cast<Shared<kState>*>(DynamicShared());
  LaunchDependents();

  const Place place(p);
  ChunkScan<kState> scan(p, place);
  const int warp = threadIdx.x / kWarp;
  const float a = p.a[place.head], bias = p.dt_bias[place.head];
  const float* const skip = p.d + place.x_channel + scan.column();
  const float2 d{skip[0], skip[8]};
  const Ring snapshot_ring(p.state.snapshot_rows);
  const int64_t elements = p.num_heads * p.head_dim * p.state_dim;
  WaitForDependencies();
  const int num_sequences = __ldcg(p.plan.num_sequences);
  for (int s = blockIdx.y; s < num_sequences; s += gridDim.y) {
    const SequenceRows sequence = p.plan.sequences[s];
    const ChunkSpan chunks(sequence);
    if (chunks.empty()) continue;
    const auto state_at = [&](int position) {
      return p.state.snapshots != nullptr
                 ? p.state.snapshots +
                       SnapshotOffset(snapshot_ring, sequence.slot, position, elements)
                 : p.state.checkpoint + sequence.slot * elements;
    };
    int64_t row = int64_t{sequence.first_row} - sequence.consumed + chunks.begin;
    StageChunk(p, place, row, aligned, shared.staged[0]);
    if (warp == kStepsWarp) ComputeSteps(p, place, row, a, bias, shared.steps[0]);
    scan.LoadState(state_at(chunks.begin));
    int buffer = 0;
    for (int first = chunks.begin; first < chunks.end; first += kChunk, buffer ^= 1) {
      const Staged<kState>& in = shared.staged[buffer];
      const Steps& steps = shared.steps[buffer];
      const bool another = first + kChunk < chunks.end;
      WaitForCopies();
      __syncthreads();
      if (another) StageChunk(p, place, row + kChunk, aligned, shared.staged[buffer ^ 1]);
      ComputeScores(in, steps, shared.m);
      if (another && warp == kStepsWarp) {
        ComputeSteps(p, place, row + kChunk, a, bias, shared.steps[buffer ^ 1]);
      }
      __syncthreads();
      scan.Outputs(in, steps, shared.m);
      scan.Give(shared.exchanged[warp]);
      scan.Update(in, steps);
      __syncthreads();
      scan.Finish(in, shared.exchanged[warp ^ kColumnTiles], d,
                  p.output + row * p.output_stride + place.x_channel, p.output_stride);
      row += kChunk;
    }
    scan.StoreState(state_at(chunks.end));
    __syncthreads();  // everybody is done with the buffers
  }
}

bool InFours(const float* pointer, int64_t stride) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0 && stride % 4 == 0;
}

template <int kState>
cudaError_t LaunchOf(CudaContext& ctx, const MultiStepMamba2Params& p) {
  constexpr int kMaxGrid{65535};
  const LaunchShape shape{
      .grid = dim3(static_cast<unsigned>(p.num_heads * (p.head_dim / kColumns)),
                   static_cast<unsigned>(std::min(p.plan.max_sequences, kMaxGrid))),
      .block = dim3(kThreads),
      .shared_bytes = sizeof(Shared<kState>)};
  const bool aligned =
      InFours(p.x, p.x_stride) && InFours(p.b, p.b_stride) && InFours(p.c, p.c_stride);
  return LaunchKernel(ctx, MultiStepMamba2ChunksKernel<kState>, shape, p, aligned);
}

}  // namespace

cudaError_t LaunchMultiStepMamba2Chunks(CudaContext& ctx, const MultiStepMamba2Params& params) {
  if (params.plan.max_sequences <= 0) return cudaSuccess;
  if (params.head_dim % kColumns != 0) return cudaErrorNotSupported;
  if (params.state_dim == 64) return LaunchOf<64>(ctx, params);
  if (params.state_dim == 128) return LaunchOf<128>(ctx, params);
  return cudaErrorNotSupported;
}

}  // namespace sidewinder
