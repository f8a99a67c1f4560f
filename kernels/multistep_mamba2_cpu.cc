// One task is a head of a sequence. Its state passes through registers in tiles of kTileStates
// state elements by up to kTileVectors vectors of head elements: a tile is loaded once, runs over
// all replayed and new rows, and is stored where the checkpoint falls. Outputs accumulate in
// memory from tile to tile; one output element adds its state elements in ascending order, so that
// its bits do not depend on the tiling.
#include <algorithm>
#include <vector>

#include "kernels/common/check.h"
#include "kernels/common/replay.h"
#include "kernels/common/simd_targets.h"
#include "kernels/fused.h"
#include "kernels/multistep.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/multistep_mamba2_cpu.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/common/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sidewinder {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_AVX3 || HWY_ARCH_ARM_A64
constexpr int kTileVectors{4};  // 32 registers
#else
constexpr int kTileVectors{2};  // 16 registers
#endif
constexpr int kTileStates{4};
constexpr int64_t kPrefetchElements{2048};  // of states, ahead

// One row of one head.
struct Mamba2Row {
  const float* x;
  const float* b;
  const float* c;
  float* out;    // null for a replayed row
  float* store;  // where the state after this row goes, or null
  float delta;
  float decay;
};

// State elements [n, n + kStates) by head elements [p, p + kVectors * lanes), or the `count` <
// lanes last head elements if kVectors is 1.
template <int kStates, int kVectors>
HWY_INLINE void StateTile(const std::vector<Mamba2Row>& rows, const float* state, const float* d,
                          int64_t head_dim, int64_t n, int64_t p, size_t count) {
  const F32 df;
  const int64_t lanes = hn::Lanes(df);
  const auto load = [&](const float* from, int v) HWY_ATTR {
    return kVectors > 1 ? hn::LoadU(df, from + v * lanes) : LoadFirst(from, count);
  };
  const auto store = [&](VecF32 value, float* to, int v) HWY_ATTR {
    if (kVectors > 1) {
      hn::StoreU(value, df, to + v * lanes);
    } else {
      StoreFirst(value, to, count);
    }
  };
  // The heads of a thread lie one behind the other.
  for (int i = 0; i < kStates; ++i) {
    for (int v = 0; v < kVectors; ++v) {
      hwy::Prefetch(state + (n + i) * head_dim + p + v * lanes + kPrefetchElements);
    }
  }
  VecF32 s[kStates][kVectors];
  for (int i = 0; i < kStates; ++i) {
    for (int v = 0; v < kVectors; ++v) s[i][v] = load(state + (n + i) * head_dim + p, v);
  }
  for (const Mamba2Row& row : rows) {
    const VecF32 decay = hn::Set(df, row.decay);
    const VecF32 delta = hn::Set(df, row.delta);
    VecF32 x[kVectors];
    for (int v = 0; v < kVectors; ++v) x[v] = hn::Mul(delta, load(row.x + p, v));
    for (int i = 0; i < kStates; ++i) {
      const VecF32 b = hn::Set(df, row.b[n + i]);
      for (int v = 0; v < kVectors; ++v) s[i][v] = hn::MulAdd(x[v], b, hn::Mul(decay, s[i][v]));
    }
    if (row.out != nullptr) {
      VecF32 y[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        y[v] = n == 0 ? hn::Mul(load(d + p, v), load(row.x + p, v)) : load(row.out + p, v);
      }
      for (int i = 0; i < kStates; ++i) {
        const VecF32 c = hn::Set(df, row.c[n + i]);
        for (int v = 0; v < kVectors; ++v) y[v] = hn::MulAdd(s[i][v], c, y[v]);
      }
      for (int v = 0; v < kVectors; ++v) store(y[v], row.out + p, v);
    }
    if (HWY_UNLIKELY(row.store != nullptr)) {
      for (int i = 0; i < kStates; ++i) {
        for (int v = 0; v < kVectors; ++v) store(s[i][v], row.store + (n + i) * head_dim + p, v);
      }
    }
  }
}

template <int kVectors>
void StateColumns(const std::vector<Mamba2Row>& rows, const float* state, const float* d,
                  int64_t head_dim, int64_t state_dim, int64_t p, size_t count) {
  int64_t n = 0;
  for (; n + kTileStates <= state_dim; n += kTileStates) {
    StateTile<kTileStates, kVectors>(rows, state, d, head_dim, n, p, count);
  }
  for (; n < state_dim; ++n) StateTile<1, kVectors>(rows, state, d, head_dim, n, p, count);
}

// Fills `delta` and `decay` of the rows; the time steps of new rows are still raw.
void TimeSteps(std::vector<Mamba2Row>& rows, size_t num_replayed, const MultiStepMamba2Params& p,
               int64_t head) {
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  HWY_ALIGN float values[hn::MaxLanes(d)] = {};
  for (size_t first = 0; first < rows.size(); first += lanes) {
    const size_t count = std::min(lanes, rows.size() - first);
    for (size_t i = 0; i < count; ++i) values[i] = rows[first + i].delta;
    VecF32 delta = hn::Load(d, values);
    if (first + count > num_replayed) {
      const VecF32 raw = hn::Add(delta, hn::Set(d, p.dt_bias[head]));
      const VecF32 fresh =
          hn::Min(hn::Set(d, p.delta_max), hn::Max(hn::Set(d, p.delta_min), Softplus(raw)));
      const size_t replayed = num_replayed > first ? num_replayed - first : 0;
      delta = hn::IfThenElse(hn::FirstN(d, replayed), delta, fresh);
    }
    hn::Store(delta, d, values);
    for (size_t i = 0; i < count; ++i) rows[first + i].delta = values[i];
    hn::Store(ExpF32(hn::Mul(hn::Set(d, p.a[head]), delta)), d, values);
    for (size_t i = 0; i < count; ++i) rows[first + i].decay = values[i];
  }
}

void Mamba2Head(const MultiStepMamba2Params& p, const SequenceRows& sequence, int64_t head) {
  const RecurrentState& st = p.state;
  const Replay replay(st, sequence);
  const int64_t inner_dim = p.num_heads * p.head_dim;
  const int64_t column = head * p.head_dim;
  const int64_t group = head / (p.num_heads / p.num_groups) * p.state_dim;
  const int64_t b_dim = p.num_groups * p.state_dim;
  const int64_t elements = inner_dim * p.state_dim;
  const int64_t head_state = column * p.state_dim;
  float* checkpoint = st.checkpoint + sequence.slot * elements + head_state;
  const auto snapshot = [&](int64_t position) {
    return st.snapshots + SnapshotEntry(st, sequence, position) * elements + head_state;
  };

  static thread_local std::vector<Mamba2Row> rows;
  rows.clear();
  for (int64_t position = replay.begin; position < replay.end; ++position) {
    Mamba2Row row = {};
    if (position < replay.first_new) {
      const int64_t entry = replay.LogEntry(position);
      row.x = st.log_x + entry * inner_dim + column;
      row.b = st.log_b + entry * b_dim + group;
      row.delta = st.log_delta[entry * p.num_heads + head];
    } else {
      const int64_t r = replay.Row(position);
      row.x = p.x + r * p.x_stride + column;
      row.b = p.b + r * p.b_stride + group;
      row.c = p.c + r * p.c_stride + group;
      row.delta = p.dt[r * p.dt_stride + head];
      row.out = p.output + r * p.output_stride + column;
    }
    if (st.snapshots != nullptr) row.store = snapshot(position + 1);
    if (position + 1 == replay.store_at) row.store = checkpoint;
    rows.push_back(row);
  }
  TimeSteps(rows, replay.first_new - replay.begin, p, head);

  const int64_t lanes = hn::Lanes(F32());
  const float* state = st.snapshots != nullptr ? snapshot(sequence.consumed) : checkpoint;
  int64_t i = 0;
  for (; i + kTileVectors * lanes <= p.head_dim; i += kTileVectors * lanes) {
    StateColumns<kTileVectors>(rows, state, p.d + column, p.head_dim, p.state_dim, i, lanes);
  }
  for (; i < p.head_dim; i += lanes) {
    StateColumns<1>(rows, state, p.d + column, p.head_dim, p.state_dim, i,
                    std::min(lanes, p.head_dim - i));
  }

  for (int64_t position = replay.first_append; position < replay.end; ++position) {
    const int64_t entry = replay.LogEntry(position);
    const Mamba2Row& row = rows[position - replay.begin];
    st.log_delta[entry * p.num_heads + head] = row.delta;
    std::copy_n(row.x, p.head_dim, st.log_x + entry * inner_dim + column);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sidewinder
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sidewinder {

HWY_EXPORT(Mamba2Head);

namespace {

// Runs the heads of all sequences; before(sequence, head) comes first, on the thread of the head.
template <class Before>
void RunHeads(ExecutionContext& ctx, const MultiStepMamba2Params& params, const Before& before) {
  SW_CHECK(params.num_groups >= 1 && params.num_heads % params.num_groups == 0)
      << "num_heads=" << params.num_heads << " num_groups=" << params.num_groups;
  const int64_t num_sequences = *params.plan.num_sequences;
  if (num_sequences <= 0) return;
  const auto run_head = HWY_DYNAMIC_DISPATCH(Mamba2Head);
  ctx.pool->ParallelFor(num_sequences * params.num_heads, /*grain=*/1,
                        [&](int64_t begin, int64_t end, int) {
                          for (int64_t i = begin; i < end; ++i) {
                            const SequenceRows& sequence =
                                params.plan.sequences[i / params.num_heads];
                            const int64_t head = i % params.num_heads;
                            before(sequence, head);
                            run_head(params, sequence, head);
                          }
                        });
  if (params.state.snapshots == nullptr) {
    AppendLogB(params.state, params.plan, params.b, params.b_stride,
               params.num_groups * params.state_dim);
  }
}

}  // namespace

void MultiStepMamba2Cpu(ExecutionContext& ctx, const MultiStepMamba2Params& params) {
  RunHeads(ctx, params, [](const SequenceRows&, int64_t) {});
}

// A head convolves its own channels of x; what all heads share, B and C, comes before. A prefill
// has enough of that to be worth a region of its own.
void ConvMultiStepMamba2Cpu(ExecutionContext& ctx, const CausalConvParams& conv,
                            const MultiStepMamba2Params& params) {
  constexpr int64_t kFewElements{16384};
  if (*params.plan.num_rows * conv.dim > kFewElements) {
    CausalConvCpu(ctx, conv);
    MultiStepMamba2Cpu(ctx, params);
    return;
  }
  const int64_t x_begin = params.x - conv.output;
  const int64_t x_end = x_begin + params.num_heads * params.head_dim;
  for (int64_t s = 0; s < *params.plan.num_sequences; ++s) {
    ConvChannelsCpu(conv, params.plan.sequences[s], 0, x_begin);
    ConvChannelsCpu(conv, params.plan.sequences[s], x_end, conv.dim);
  }
  RunHeads(ctx, params, [&](const SequenceRows& sequence, int64_t head) {
    const int64_t column = x_begin + head * params.head_dim;
    ConvChannelsCpu(conv, sequence, column, column + params.head_dim);
  });
}

}  // namespace sidewinder
#endif  // HWY_ONCE
