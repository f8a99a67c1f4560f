// Lanes are channels. The state elements of a vector of channels pass through registers in tiles of
// kTileStates: a tile is loaded once, runs over all replayed and new rows, and is stored where the
// checkpoint falls. Outputs accumulate in memory from tile to tile, state elements in ascending
// order, so that their bits do not depend on the tiling. The exponentials are the cost. A vector
// ends where its group of channels does.
#include <algorithm>
#include <vector>

#include "kernels/common/check.h"
#include "kernels/common/replay.h"
#include "kernels/common/simd_targets.h"
#include "kernels/multistep.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/multistep_mamba1_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/common/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sidewinder {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_AVX3 || HWY_ARCH_ARM_A64
constexpr int kTileStates{16};  // 32 registers
#else
constexpr int kTileStates{4};  // 16 registers
#endif

// One row of one sequence; x, delta, z and out point at channel 0.
struct Mamba1Row {
  const float* x;
  const float* delta;  // raw for a new row
  const float* b;
  const float* c;
  const float* z;
  float* out;    // null for a replayed row
  float* store;  // where the state after this row goes, or null
};

// State elements [n, n + kStates) of channels [channel, channel + count), all of `group`. `deltas`
// keeps a vector a row from the first tile on.
template <int kStates>
HWY_INLINE void StateTile(const MultiStepMamba1Params& p, const std::vector<Mamba1Row>& rows,
                          const float* state, float* deltas, int64_t n, int64_t group,
                          int64_t channel, size_t count) {
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  VecF32 s[kStates];
  for (int i = 0; i < kStates; ++i) {
    s[i] = LoadFirst(state + (n + i) * p.inner_dim + channel, count);
  }
  const int64_t first = group * p.state_dim + n;  // of B and C
  for (const Mamba1Row& row : rows) {
    const VecF32 x = LoadFirst(row.x + channel, count);
    VecF32 delta;
    if (n > 0) {
      delta = hn::Load(d, deltas);
    } else {
      delta = LoadFirst(row.delta + channel, count);
      if (row.out != nullptr) {
        delta = Softplus(hn::Add(delta, LoadFirst(p.dt_bias + channel, count)));
      }
      hn::Store(delta, d, deltas);
    }
    deltas += lanes;
    const VecF32 delta_x = hn::Mul(delta, x);
    for (int i = 0; i < kStates; ++i) {
      const VecF32 a = LoadFirst(p.a + (n + i) * p.inner_dim + channel, count);
      const VecF32 decay = ExpF32(hn::Mul(delta, a));
      s[i] = hn::MulAdd(delta_x, hn::Set(d, row.b[first + i]), hn::Mul(decay, s[i]));
    }
    if (row.out != nullptr) {
      VecF32 y = n == 0 ? hn::Mul(LoadFirst(p.d + channel, count), x)
                        : LoadFirst(row.out + channel, count);
      for (int i = 0; i < kStates; ++i) y = hn::MulAdd(s[i], hn::Set(d, row.c[first + i]), y);
      if (n + kStates == p.state_dim) y = hn::Mul(y, Silu(LoadFirst(row.z + channel, count)));
      StoreFirst(y, row.out + channel, count);
    }
    if (HWY_UNLIKELY(row.store != nullptr)) {
      for (int i = 0; i < kStates; ++i) {
        StoreFirst(s[i], row.store + (n + i) * p.inner_dim + channel, count);
      }
    }
  }
}

// Channels [begin, end) of one sequence.
void Mamba1Channels(const MultiStepMamba1Params& p, const SequenceRows& sequence, int64_t begin,
                    int64_t end) {
  const RecurrentState& st = p.state;
  const Replay replay(st, sequence);
  const int64_t elements = p.inner_dim * p.state_dim;
  float* checkpoint = st.checkpoint + sequence.slot * elements;
  const auto snapshot = [&](int64_t position) {
    return st.snapshots + SnapshotEntry(st, sequence, position) * elements;
  };

  static thread_local std::vector<Mamba1Row> rows;
  static thread_local std::vector<float> delta_scratch;
  rows.clear();
  for (int64_t position = replay.begin; position < replay.end; ++position) {
    Mamba1Row row = {};
    if (position < replay.first_new) {
      const int64_t entry = replay.LogEntry(position);
      row.x = st.log_x + entry * p.inner_dim;
      row.b = st.log_b + entry * p.num_groups * p.state_dim;
      row.delta = st.log_delta + entry * p.inner_dim;
    } else {
      const int64_t r = replay.Row(position);
      row.x = p.x + r * p.x_stride;
      row.b = p.b + r * p.b_stride;
      row.c = p.c + r * p.c_stride;
      row.delta = p.dt + r * p.dt_stride;
      row.z = p.z + r * p.z_stride;
      row.out = p.output + r * p.output_stride;
    }
    if (st.snapshots != nullptr) row.store = snapshot(position + 1);
    if (position + 1 == replay.store_at) row.store = checkpoint;
    rows.push_back(row);
  }

  const int64_t lanes = hn::Lanes(F32());
  delta_scratch.resize((rows.size() + 1) * lanes);
  float* deltas = delta_scratch.data();  // brought to vector alignment
  while (reinterpret_cast<uintptr_t>(deltas) % (lanes * sizeof(float)) != 0) ++deltas;
  const float* state = st.snapshots != nullptr ? snapshot(sequence.consumed) : checkpoint;
  const int64_t group_dim = p.inner_dim / p.num_groups;
  for (int64_t channel = begin, next = begin; channel < end; channel = next) {
    const int64_t group = channel / group_dim;
    next = std::min({channel + lanes, end, (group + 1) * group_dim});
    const size_t count = next - channel;
    int64_t n = 0;
    for (; n + kTileStates <= p.state_dim; n += kTileStates) {
      StateTile<kTileStates>(p, rows, state, deltas, n, group, channel, count);
    }
    for (; n < p.state_dim; ++n) StateTile<1>(p, rows, state, deltas, n, group, channel, count);
    for (int64_t position = replay.first_append; position < replay.end; ++position) {
      const int64_t to = replay.LogEntry(position) * p.inner_dim + channel;
      const int64_t i = position - replay.begin;
      std::copy_n(rows[i].x + channel, count, st.log_x + to);
      std::copy_n(deltas + i * lanes, count, st.log_delta + to);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sidewinder
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sidewinder {

HWY_EXPORT(Mamba1Channels);

void MultiStepMamba1Cpu(ExecutionContext& ctx, const MultiStepMamba1Params& params) {
  SW_CHECK(params.inner_dim >= 1 && params.state_dim >= 1)
      << "inner_dim=" << params.inner_dim << " state_dim=" << params.state_dim;
  SW_CHECK(params.num_groups >= 1 && params.inner_dim % params.num_groups == 0)
      << "inner_dim=" << params.inner_dim << " num_groups=" << params.num_groups;
  const int64_t num_sequences = *params.plan.num_sequences;
  if (num_sequences <= 0) return;
  // Work items are blocks of channels of a sequence; a multiple of every vector length.
  constexpr int64_t kBlock{64};
  constexpr int64_t kGrainElements{2048};  // state elements times rows: about the time of a fork
  const int64_t blocks = (params.inner_dim + kBlock - 1) / kBlock;
  const int64_t rows_a_sequence = (*params.plan.num_rows + num_sequences - 1) / num_sequences;
  const int64_t work = kBlock * params.state_dim * std::max<int64_t>(1, rows_a_sequence);
  const auto channels = HWY_DYNAMIC_DISPATCH(Mamba1Channels);
  ctx.pool->ParallelFor(num_sequences * blocks, std::max<int64_t>(1, kGrainElements / work),
                        [&](int64_t begin, int64_t end, int) {
                          while (begin < end) {  // the blocks of one sequence at a time
                            const int64_t s = begin / blocks;
                            const int64_t stop = std::min(end, (s + 1) * blocks);
                            channels(params, params.plan.sequences[s],
                                     (begin - s * blocks) * kBlock,
                                     std::min(params.inner_dim, (stop - s * blocks) * kBlock));
                            begin = stop;
                          }
                        });
  if (params.state.snapshots == nullptr) {
    AppendLogB(params.state, params.plan, params.b, params.b_stride,
               params.num_groups * params.state_dim);
  }
}

}  // namespace sidewinder
#endif  // HWY_ONCE
