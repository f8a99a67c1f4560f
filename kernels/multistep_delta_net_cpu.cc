// One task is a head of a sequence. Its state passes in columns of up to kColumnVectors vectors of
// head elements: all replayed and new rows run over one, row by row, and between the rows it waits
// in the first level of cache. A new row passes twice over a column: what the state has under the
// key comes first, as the update needs it. Sums add their state elements in ascending order, so
// that their bits depend on nothing else; decayed elements are computed anew, to the same bits.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/common/check.h"
#include "kernels/common/replay.h"
#include "kernels/common/simd_targets.h"
#include "kernels/multistep.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/multistep_delta_net_cpu.cc"
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

// to = factor * from / sqrt(sum from^2 + eps)
void NormHead(const float* from, int64_t dim, float factor, float* to) {
  const F32 d;
  const int64_t lanes = hn::Lanes(d);
  VecF32 sum = hn::Zero(d);
  for (int64_t i = 0; i < dim; i += lanes) {
    const VecF32 x = LoadFirst(from + i, std::min(lanes, dim - i));
    sum = hn::MulAdd(x, x, sum);
  }
  const float total = hn::GetLane(hn::SumOfLanes(d, sum)) + kDeltaNetNormEps;
  const VecF32 scale = hn::Set(d, factor / std::sqrt(total));
  for (int64_t i = 0; i < dim; i += lanes) {
    const size_t count = std::min(lanes, dim - i);
    StoreFirst(hn::Mul(LoadFirst(from + i, count), scale), to + i, count);
  }
}

// One row of one sequence, all heads.
struct DeltaNetRow {
  const float* q;  // null for a replayed row
  const float* k;  // normed already if the row is replayed
  const float* v;  // of a replayed row, corrected values
  float* out;
  float* store;  // where the states after this row go, or null
};

// One row of one head.
struct HeadRow {
  const float* key;    // [key_dim] normed
  const float* query;  // null for a replayed row
  float decay;
  float beta;
};

// A column of a state: rows of head elements, `stride` elements apart.
template <class T>
struct Column {
  T* data;
  int64_t stride;
};

// Takes one row from the state `from` to the state `to`; they may be the same. kVectors vectors of
// head elements, or the `count` < lanes last ones if kVectors is 1. `values` are v of a new row,
// whose corrected values go to `corrected`, or corrected values.
template <int kVectors>
HWY_INLINE void StepColumn(int64_t key_dim, const HeadRow& row, const float* values,
                           Column<const float> from, Column<float> to, float* corrected, float* out,
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
  const VecF32 decay = hn::Set(df, row.decay);
  VecF32 m[kVectors], sum[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    m[v] = load(values, v);
    sum[v] = hn::Zero(df);
  }
  if (row.query != nullptr) {
    for (int64_t n = 0; n < key_dim; ++n) {
      const float* source = from.data + n * from.stride;
      const VecF32 key = hn::Set(df, row.key[n]);
      for (int v = 0; v < kVectors; ++v) {
        hwy::Prefetch(source + kPrefetchElements + v * lanes);
        sum[v] = hn::MulAdd(hn::Mul(decay, load(source, v)), key, sum[v]);
      }
    }
    for (int v = 0; v < kVectors; ++v) {
      m[v] = hn::Mul(hn::Set(df, row.beta), hn::Sub(m[v], sum[v]));
      store(m[v], corrected, v);
      sum[v] = hn::Zero(df);
    }
  }
  const float* query = row.query != nullptr ? row.query : row.key;  // nobody reads the sums then
  for (int64_t n = 0; n < key_dim; ++n) {
    const float* source = from.data + n * from.stride;
    float* target = to.data + n * to.stride;
    const VecF32 key = hn::Set(df, row.key[n]);
    const VecF32 query_n = hn::Set(df, query[n]);
    for (int v = 0; v < kVectors; ++v) {
      const VecF32 s = hn::MulAdd(key, m[v], hn::Mul(decay, load(source, v)));
      sum[v] = hn::MulAdd(s, query_n, sum[v]);
      store(s, target, v);
    }
  }
  if (row.query == nullptr) return;
  for (int v = 0; v < kVectors; ++v) store(sum[v], out, v);
}

// Buffers of a thread.
struct DeltaNetScratch {
  std::vector<DeltaNetRow> rows;
  std::vector<HeadRow> head_rows;             // of one head
  std::vector<float> steps, decays, betas;    // [rows, heads of the call]; steps: g
  std::vector<float> keys, queries;           // [rows, key_dim] of one key head, normed
  std::vector<float> corrected;               // [rows, head_dim] of one head
  hwy::AlignedFreeUniquePtr<float[]> column;  // the state between two rows
  int64_t column_size = 0;
};

// g, decay and beta of heads [begin, end) in one row. `steps` of a new row are raw, those of a
// replayed one, which has no raw_betas, are g.
void HeadScalars(const MultiStepDeltaNetParams& p, const float* steps, const float* raw_betas,
                 int64_t begin, int64_t end, DeltaNetScratch& scratch, int64_t at) {
  const F32 d;
  const int64_t lanes = hn::Lanes(d);
  for (int64_t head = begin; head < end; head += lanes) {
    const size_t count = std::min(lanes, end - head);
    const int64_t to = at + head - begin;
    VecF32 g = LoadFirst(steps + head, count);
    if (raw_betas != nullptr) {
      g = hn::Mul(LoadFirst(p.a + head, count),
                  Softplus(hn::Add(g, LoadFirst(p.dt_bias + head, count))));
      const VecF32 one = hn::Set(d, 1.0f);
      const VecF32 raw = LoadFirst(raw_betas + head, count);
      StoreFirst(hn::Div(one, hn::Add(one, ExpF32(hn::Neg(raw)))), &scratch.betas[to], count);
    }
    StoreFirst(g, &scratch.steps[to], count);
    StoreFirst(ExpF32(g), &scratch.decays[to], count);
  }
}

// Fills head_rows of one head; norms keys and queries if its key head is not the one before's.
void PrepareHead(const MultiStepDeltaNetParams& p, int64_t head, int64_t begin, int64_t num_heads,
                 DeltaNetScratch& scratch) {
  const int64_t heads_a_key = p.num_heads / p.num_key_heads;
  const int64_t first = head / heads_a_key * p.key_dim;
  const bool norm = head == begin || head % heads_a_key == 0;
  const float query_scale = 1.0f / std::sqrt(static_cast<float>(p.key_dim));
  for (size_t r = 0; r < scratch.rows.size(); ++r) {
    const DeltaNetRow& row = scratch.rows[r];
    HeadRow& to = scratch.head_rows[r];
    to.decay = scratch.decays[r * num_heads + head - begin];
    to.beta = scratch.betas[r * num_heads + head - begin];
    to.key = row.k + first;
    to.query = nullptr;
    if (row.q == nullptr) continue;
    float* key = &scratch.keys[r * p.key_dim];
    float* query = &scratch.queries[r * p.key_dim];
    if (norm) {
      NormHead(row.k + first, p.key_dim, 1.0f, key);
      NormHead(row.q + first, p.key_dim, query_scale, query);
    }
    to.key = key;
    to.query = query;
  }
}

// Takes all rows over head elements [i, i + kVectors * lanes) of a head.
template <int kVectors>
void RunColumn(const MultiStepDeltaNetParams& p, DeltaNetScratch& scratch, const float* states,
               int64_t head, int64_t i) {
  const int64_t lanes = hn::Lanes(F32());
  const int64_t in_state = head * p.head_dim * p.key_dim + i, in_row = head * p.head_dim + i;
  Column<const float> from = {states + in_state, p.head_dim};
  for (size_t r = 0; r < scratch.rows.size(); ++r) {
    const DeltaNetRow& row = scratch.rows[r];
    const Column<float> to = row.store != nullptr
                                 ? Column<float>{row.store + in_state, p.head_dim}
                                 : Column<float>{scratch.column.get(), kVectors * lanes};
    StepColumn<kVectors>(p.key_dim, scratch.head_rows[r], row.v + in_row, from, to,
                         &scratch.corrected[r * p.head_dim + i],
                         row.out != nullptr ? row.out + in_row : nullptr,
                         std::min(lanes, p.head_dim - i));
    from = {to.data, to.stride};
  }
}

void Resize(const MultiStepDeltaNetParams& p, int64_t num_rows, int64_t num_heads,
            DeltaNetScratch& scratch) {
  scratch.rows.clear();
  scratch.head_rows.resize(num_rows);
  for (std::vector<float>* values : {&scratch.steps, &scratch.decays, &scratch.betas}) {
    values->resize(num_rows * num_heads);
  }
  scratch.keys.resize(num_rows * p.key_dim);
  scratch.queries.resize(num_rows * p.key_dim);
  scratch.corrected.resize(num_rows * p.head_dim);
  const int64_t size = p.key_dim * kColumnVectors * static_cast<int64_t>(hn::Lanes(F32()));
  if (scratch.column_size < size) {
    scratch.column_size = size;
    scratch.column = hwy::AllocateAligned<float>(size);
  }
}

// Heads [begin, end) of one sequence.
void DeltaNetHeads(const MultiStepDeltaNetParams& p, const SequenceRows& sequence, int64_t begin,
                   int64_t end) {
  const RecurrentState& st = p.state;
  const Replay replay(st, sequence);
  const int64_t num_heads = end - begin;
  const int64_t inner_dim = p.num_heads * p.head_dim;
  const int64_t elements = inner_dim * p.key_dim;
  float* checkpoint = st.checkpoint + sequence.slot * elements;
  const auto snapshot = [&](int64_t position) {
    return st.snapshots + SnapshotEntry(st, sequence, position) * elements;
  };
  const float* states = st.snapshots != nullptr ? snapshot(sequence.consumed) : checkpoint;
  // Up to where the prefetch within a column begins.
  PrefetchAll(states + begin * p.head_dim * p.key_dim, kPrefetchElements * sizeof(float));

  static thread_local DeltaNetScratch scratch;
  Resize(p, replay.end - replay.begin, num_heads, scratch);
  for (int64_t position = replay.begin; position < replay.end; ++position) {
    DeltaNetRow row = {};
    const float *steps, *raw_betas = nullptr;
    if (position >= replay.first_new) {
      const int64_t r = replay.Row(position);
      row = {.q = p.q + r * p.q_stride,
             .k = p.k + r * p.k_stride,
             .v = p.v + r * p.v_stride,
             .out = p.output + r * p.output_stride,
             .store = nullptr};
      steps = p.dt + r * p.dt_stride;
      raw_betas = p.beta + r * p.beta_stride;
    } else {
      const int64_t entry = replay.LogEntry(position);
      row.k = st.log_b + entry * p.num_key_heads * p.key_dim;
      row.v = st.log_x + entry * inner_dim;
      steps = st.log_delta + entry * p.num_heads;
    }
    if (st.snapshots != nullptr) row.store = snapshot(position + 1);
    if (position + 1 == replay.store_at) row.store = checkpoint;
    HeadScalars(p, steps, raw_betas, begin, end, scratch, (position - replay.begin) * num_heads);
    scratch.rows.push_back(row);
  }

  const int64_t lanes = hn::Lanes(F32());
  for (int64_t head = begin; head < end; ++head) {
    PrepareHead(p, head, begin, num_heads, scratch);
    int64_t i = 0;
    for (; i + kColumnVectors * lanes <= p.head_dim; i += kColumnVectors * lanes) {
      RunColumn<kColumnVectors>(p, scratch, states, head, i);
    }
    for (; i < p.head_dim; i += lanes) RunColumn<1>(p, scratch, states, head, i);
    // All rows of the log that the head replays have been read.
    for (int64_t position = replay.first_append; position < replay.end; ++position) {
      const int64_t entry = replay.LogEntry(position), r = position - replay.begin;
      std::copy_n(&scratch.corrected[r * p.head_dim], p.head_dim,
                  st.log_x + entry * inner_dim + head * p.head_dim);
      st.log_delta[entry * p.num_heads + head] = scratch.steps[r * num_heads + head - begin];
    }
  }
}

// Appends the normed keys of a pass. Value heads share them, so this runs after all of them have
// replayed.
void AppendKeys(const MultiStepDeltaNetParams& p) {
  for (int s = 0; s < *p.plan.num_sequences; ++s) {
    const Replay replay(p.state, p.plan.sequences[s]);
    for (int64_t position = replay.first_append; position < replay.end; ++position) {
      const float* from = p.k + replay.Row(position) * p.k_stride;
      float* to = p.state.log_b + replay.LogEntry(position) * p.num_key_heads * p.key_dim;
      for (int64_t head = 0; head < p.num_key_heads; ++head) {
        NormHead(from + head * p.key_dim, p.key_dim, 1.0f, to + head * p.key_dim);
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sidewinder
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sidewinder {

HWY_EXPORT(DeltaNetHeads);
HWY_EXPORT(AppendKeys);

void MultiStepDeltaNetCpu(ExecutionContext& ctx, const MultiStepDeltaNetParams& params) {
  SW_CHECK(params.num_key_heads >= 1 && params.num_heads % params.num_key_heads == 0)
      << "num_heads=" << params.num_heads << " num_key_heads=" << params.num_key_heads;
  const auto heads = HWY_DYNAMIC_DISPATCH(DeltaNetHeads);
  ctx.pool->ParallelFor(*params.plan.num_sequences * params.num_heads, /*grain=*/1,
                        [heads, &params](int64_t begin, int64_t end, int) {
                          while (begin < end) {
                            const int64_t s = begin / params.num_heads;
                            const int64_t stop = std::min(end, (s + 1) * params.num_heads);
                            heads(params, params.plan.sequences[s], begin - s * params.num_heads,
                                  stop - s * params.num_heads);
                            begin = stop;
                          }
                        });
  if (params.state.snapshots == nullptr) HWY_DYNAMIC_DISPATCH(AppendKeys)(params);
}

}  // namespace sidewinder
#endif  // HWY_ONCE
