// One task is a head of a sequence. Its state passes in columns of up to kColumnVectors vectors of
// head elements: all replayed and new rows run over one, row by row, with the outputs in registers,
// and between the rows it waits in the first level of cache. An output adds its state elements in
// ascending order, so that its bits depend on nothing else.
#include <algorithm>
#include <vector>

#include "kernels/common/check.h"
#include "kernels/common/replay.h"
#include "kernels/common/simd_targets.h"
#include "kernels/fused.h"
#include "kernels/multistep.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/multistep_mamba2_cpu.cc"
#include "hwy/aligned_allocator.h"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/common/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sidewinder {
namespace HWY_NAMESPACE {

constexpr int kColumnVectors{4};
constexpr int64_t kPrefetchElements{2048};  // of the state, ahead

// One row of one sequence, all heads.
struct Mamba2Row {
  const float* x;
  const float* b;
  const float* c;
  float* out;    // null for a replayed row
  float* store;  // where the states after this row go, or null
};

// Where a column of a head begins.
struct ColumnPlace {
  int64_t x;      // in a row of x, and in D
  int64_t state;  // in the states
  int64_t group;  // in a row of B or C
  float delta;
  float decay;
};

// A column of a state: rows of head elements, `stride` elements apart.
template <class T>
struct Column {
  T* data;
  int64_t stride;
};

// Takes one row from the state `from` to the state `to`; they may be the same. kVectors vectors of
// head elements, or the `count` < lanes last ones if kVectors is 1.
template <int kVectors>
HWY_INLINE void StepColumn(const MultiStepMamba2Params& p, const Mamba2Row& row,
                           const ColumnPlace& place, Column<const float> from, Column<float> to,
                           size_t count) {
  const F32 df;
  const int64_t lanes = hn::Lanes(df);
  const auto load = [&](const float* at, int v) HWY_ATTR {
    return kVectors > 1 ? hn::LoadU(df, at + v * lanes) : LoadFirst(at, count);
  };
  const auto store = [&](VecF32 value, float* at, int v) HWY_ATTR {
    if (kVectors > 1) {
      hn::StoreU(value, df, at + v * lanes);
    } else {
      StoreFirst(value, at, count);
    }
  };
  const VecF32 decay = hn::Set(df, place.decay);
  const VecF32 delta = hn::Set(df, place.delta);
  VecF32 x[kVectors], y[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    x[v] = load(row.x + place.x, v);
    y[v] = hn::Mul(load(p.d + place.x, v), x[v]);
    x[v] = hn::Mul(delta, x[v]);
  }
  const float* b = row.b + place.group;
  const float* c =
      row.out != nullptr ? row.c + place.group : b;  // nobody reads y of a replayed row
  for (int64_t n = 0; n < p.state_dim; ++n) {
    const float* source = from.data + n * from.stride;
    float* target = to.data + n * to.stride;
    const VecF32 b_n = hn::Set(df, b[n]);
    const VecF32 c_n = hn::Set(df, c[n]);
    for (int v = 0; v < kVectors; ++v) {
      hwy::Prefetch(source + kPrefetchElements + v * lanes);
      const VecF32 s = hn::MulAdd(x[v], b_n, hn::Mul(decay, load(source, v)));
      y[v] = hn::MulAdd(s, c_n, y[v]);
      store(s, target, v);
    }
  }
  if (row.out == nullptr) return;
  for (int v = 0; v < kVectors; ++v) store(y[v], row.out + place.x, v);
}

// Buffers of a thread.
struct Mamba2Scratch {
  std::vector<Mamba2Row> rows;
  std::vector<float> deltas;  // [rows, heads of the call]
  std::vector<float> decays;
  hwy::AlignedFreeUniquePtr<float[]> column;  // the state between two rows
  int64_t column_size = 0;
};

// Takes all rows over head elements [i, i + kVectors * lanes) of a head, the one `index` heads
// after the first of the call.
template <int kVectors>
void RunColumn(const MultiStepMamba2Params& p, Mamba2Scratch& scratch, const float* states,
               int64_t head, int64_t index, int64_t num_heads, int64_t i) {
  const int64_t lanes = hn::Lanes(F32());
  ColumnPlace place = {.x = head * p.head_dim + i,
                       .state = head * p.head_dim * p.state_dim + i,
                       .group = head / (p.num_heads / p.num_groups) * p.state_dim};
  Column<const float> from = {states + place.state, p.head_dim};
  for (size_t r = 0; r < scratch.rows.size(); ++r) {
    const Mamba2Row& row = scratch.rows[r];
    place.delta = scratch.deltas[r * num_heads + index];
    place.decay = scratch.decays[r * num_heads + index];
    const Column<float> to = row.store != nullptr
                                 ? Column<float>{row.store + place.state, p.head_dim}
                                 : Column<float>{scratch.column.get(), kVectors * lanes};
    StepColumn<kVectors>(p, row, place, from, to, std::min(lanes, p.head_dim - i));
    from = {to.data, to.stride};
  }
}

// Time steps and decays of heads [begin, end) in one row. The time steps of a new row are raw.
void TimeSteps(const MultiStepMamba2Params& p, const float* raw, bool is_new, int64_t begin,
               int64_t end, float* deltas, float* decays) {
  const F32 d;
  const int64_t lanes = hn::Lanes(d);
  for (int64_t head = begin; head < end; head += lanes) {
    const size_t count = std::min(lanes, end - head);
    VecF32 delta = LoadFirst(raw + head, count);
    if (is_new) {
      delta = Softplus(hn::Add(delta, LoadFirst(p.dt_bias + head, count)));
      delta = hn::Min(hn::Set(d, p.delta_max), hn::Max(hn::Set(d, p.delta_min), delta));
    }
    StoreFirst(delta, deltas + head - begin, count);
    StoreFirst(ExpF32(hn::Mul(LoadFirst(p.a + head, count), delta)), decays + head - begin, count);
  }
}

// Heads [begin, end) of one sequence.
void Mamba2Heads(const MultiStepMamba2Params& p, const SequenceRows& sequence, int64_t begin,
                 int64_t end) {
  const RecurrentState& st = p.state;
  const Replay replay(st, sequence);
  const int64_t num_heads = end - begin;
  const int64_t inner_dim = p.num_heads * p.head_dim;
  const int64_t b_dim = p.num_groups * p.state_dim;
  const int64_t elements = inner_dim * p.state_dim;
  float* checkpoint = st.checkpoint + sequence.slot * elements;
  const auto snapshot = [&](int64_t position) {
    return st.snapshots + SnapshotEntry(st, sequence, position) * elements;
  };

  const float* states = st.snapshots != nullptr ? snapshot(sequence.consumed) : checkpoint;
  // Up to where the prefetch within a column begins.
  PrefetchAll(states + begin * p.head_dim * p.state_dim, kPrefetchElements * sizeof(float));

  static thread_local Mamba2Scratch scratch;
  scratch.rows.clear();
  scratch.deltas.resize((replay.end - replay.begin) * num_heads);
  scratch.decays.resize(scratch.deltas.size());
  const int64_t lanes = hn::Lanes(F32());
  if (const int64_t size = p.state_dim * kColumnVectors * lanes; scratch.column_size < size) {
    scratch.column_size = size;
    scratch.column = hwy::AllocateAligned<float>(size);
  }
  for (int64_t position = replay.begin; position < replay.end; ++position) {
    Mamba2Row row = {};
    const bool is_new = position >= replay.first_new;
    const float* raw;
    if (is_new) {
      const int64_t r = replay.Row(position);
      row.x = p.x + r * p.x_stride;
      row.b = p.b + r * p.b_stride;
      row.c = p.c + r * p.c_stride;
      row.out = p.output + r * p.output_stride;
      raw = p.dt + r * p.dt_stride;
    } else {
      const int64_t entry = replay.LogEntry(position);
      row.x = st.log_x + entry * inner_dim;
      row.b = st.log_b + entry * b_dim;
      raw = st.log_delta + entry * p.num_heads;
    }
    if (st.snapshots != nullptr) row.store = snapshot(position + 1);
    if (position + 1 == replay.store_at) row.store = checkpoint;
    const int64_t step = (position - replay.begin) * num_heads;
    TimeSteps(p, raw, is_new, begin, end, &scratch.deltas[step], &scratch.decays[step]);
    scratch.rows.push_back(row);
  }

  for (int64_t head = begin; head < end; ++head) {
    int64_t i = 0;
    for (; i + kColumnVectors * lanes <= p.head_dim; i += kColumnVectors * lanes) {
      RunColumn<kColumnVectors>(p, scratch, states, head, head - begin, num_heads, i);
    }
    for (; i < p.head_dim; i += lanes) {
      RunColumn<1>(p, scratch, states, head, head - begin, num_heads, i);
    }
  }

  for (int64_t position = replay.first_append; position < replay.end; ++position) {
    const int64_t entry = replay.LogEntry(position);
    const int64_t r = position - replay.begin;
    std::copy_n(&scratch.deltas[r * num_heads], num_heads,
                st.log_delta + entry * p.num_heads + begin);
    std::copy_n(scratch.rows[r].x + begin * p.head_dim, num_heads * p.head_dim,
                st.log_x + entry * inner_dim + begin * p.head_dim);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sidewinder
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sidewinder {

HWY_EXPORT(Mamba2Heads);

namespace {

// Runs all heads of all sequences; before(sequence, begin, end) comes ahead of heads [begin, end)
// of a sequence, on their thread.
template <class Before>
void RunHeads(ExecutionContext& ctx, const MultiStepMamba2Params& params, const Before& before) {
  SW_CHECK(params.num_groups >= 1 && params.num_heads % params.num_groups == 0)
      << "num_heads=" << params.num_heads << " num_groups=" << params.num_groups;
  const auto heads = HWY_DYNAMIC_DISPATCH(Mamba2Heads);
  ctx.pool->ParallelFor(*params.plan.num_sequences * params.num_heads, /*grain=*/1,
                        [heads, params, before](int64_t begin, int64_t end, int) {
                          while (begin < end) {  // the heads of one sequence at a time
                            const int64_t s = begin / params.num_heads;
                            const int64_t stop = std::min(end, (s + 1) * params.num_heads);
                            const int64_t first = begin - s * params.num_heads;
                            const int64_t last = stop - s * params.num_heads;
                            before(params.plan.sequences[s], first, last);
                            heads(params, params.plan.sequences[s], first, last);
                            begin = stop;
                          }
                        });
  if (params.state.snapshots == nullptr) {
    AppendLogB(params.state, params.plan, params.b, params.b_stride,
               params.num_groups * params.state_dim);
  }
}

}  // namespace

void MultiStepMamba2Cpu(ExecutionContext& ctx, const MultiStepMamba2Params& params) {
  RunHeads(ctx, params, [](const SequenceRows&, int64_t, int64_t) {});
}

// Heads convolve their own channels of x; what all of them share, B and C, comes before. A prefill
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
  RunHeads(ctx, params,
           [conv, x_begin, head_dim = params.head_dim](const SequenceRows& sequence, int64_t begin,
                                                       int64_t end) {
             ConvChannelsCpu(conv, sequence, x_begin + begin * head_dim, x_begin + end * head_dim);
           });
}

}  // namespace sidewinder
#endif  // HWY_ONCE
