// The ops of a round that are neither matrix products nor recurrences, on a GPU: time of one op in
// a CUDA graph of kRepeats of them, one behind the other as a round has them. Inputs stay in the
// second-level cache, as they do in a round: the head has just written the logits.
#include <benchmark/benchmark.h>

#include <functional>
#include <memory>
#include <vector>

#include "bench/kernels/time_graph.h"
#include "kernels/begin_round.h"
#include "kernels/common/check.h"
#include "kernels/common/copy.h"
#include "kernels/embedding.h"
#include "kernels/ngram_draft.h"
#include "kernels/pack_weights.h"
#include "kernels/plan_rows.h"
#include "kernels/rms_norm.h"
#include "kernels/sampling.h"
#include "runtime/device.h"
#include "tests/testing/random_values.h"

namespace sidewinder {
namespace {

constexpr int kRepeats{64};
constexpr int32_t kVocab{50280};
constexpr int32_t kDraft{4};
constexpr int32_t kMaxTokens{32768};

// One GPU and what was allocated on it; null without one.
class Gpu {
 public:
  static Gpu* Open(benchmark::State& state) {
    static auto* const gpu = new Gpu();
    if (gpu->stream_ != nullptr) return gpu;
    state.SkipWithError("no GPU");
    return nullptr;
  }

  ExecutionContext& ctx() { return stream_->context(); }

  template <class T>
  T* Upload(const std::vector<T>& values) {
    auto memory = device_->Allocate(values.size() * sizeof(T), "a benchmark");
    SW_CHECK(memory.ok()) << memory.status();
    CopyIn(ctx(), memory->data(), values.data(), values.size() * sizeof(T));
    memory_.push_back(std::move(*memory));
    return memory_.back().as<T>();
  }

  // Times `op` and reports `bytes` an op against the clock.
  void Time(benchmark::State& state, double bytes, const std::function<void()>& op) {
    TimeGraph(state, *ctx().cuda, kRepeats, [&] {
      for (int i = 0; i < kRepeats; ++i) op();
    });
    SW_CHECK(stream_->Synchronize().ok()) << stream_->status();
    state.SetLabel(device_->description());
    state.counters["bytes/s"] = benchmark::Counter(
        bytes, benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000);
    memory_.clear();
  }

 private:
  Gpu() {
    auto device = Device::Open("cuda");
    if (!device.ok()) return;
    device_ = *device;
    auto stream = device_->CreateStream();
    SW_CHECK(stream.ok()) << stream.status();
    stream_ = std::move(*stream);
  }

  std::shared_ptr<const Device> device_;
  std::unique_ptr<Stream> stream_;
  std::vector<DeviceMemory> memory_;
};

// `num_slots` slots in the middle of a text with kDraft proposals each, and a verifier's plan.
struct Round {
  Round(Gpu& gpu, int32_t num_slots, float temperature, float top_p, int32_t coupled) {
    std::vector<SlotControl> slots(num_slots);
    const int32_t rows = num_slots * (kDraft + 1);
    std::vector<int32_t> texts(int64_t{num_slots} * kMaxTokens, 7);
    int32_t* tokens = gpu.Upload(texts);
    for (int32_t i = 0; i < num_slots; ++i) {
      SlotControl& slot = slots[i];
      slot = {};
      slot.tokens = tokens + int64_t{i} * kMaxTokens;
      slot.max_tokens = kMaxTokens;
      slot.draft_tokens = kDraft;
      slot.temperature = temperature;
      slot.top_p = top_p;
      slot.coupled = coupled;
      slot.sequence = i;
      slot.synthetic_acceptance[0] = -1.0f;
      slot.active = 1;
      slot.num_tokens = 1024;
      slot.draft_limit = slot.num_drafted = kDraft;
    }
    const bool samples = temperature > 0.0f;
    control = {.slots = gpu.Upload(slots),
               .draft_probs = samples ? gpu.Upload(std::vector<float>(
                                            int64_t{num_slots} * kDraft * kVocab, 1.0f / kVocab))
                                      : nullptr,
               .num_slots = num_slots,
               .max_draft = kDraft,
               .vocab_size = kVocab,
               .vocab_limit = kVocab};
    int32_t* counts = gpu.Upload(std::vector<int32_t>(3));
    plan = {.num_rows = counts,
            .num_sequences = counts + 1,
            .num_logit_rows = counts + 2,
            .tokens = gpu.Upload(std::vector<int32_t>(rows)),
            .sequences = gpu.Upload(std::vector<SequenceRows>(num_slots)),
            .logit_rows = gpu.Upload(std::vector<int32_t>(rows)),
            .max_rows = rows,
            .max_sequences = num_slots};
    const StateCursor cursor = {.checkpoint = 1000, .consumed = 1023};
    plan_params = {.control = control,
                   .cursors = gpu.Upload(std::vector<StateCursor>(num_slots, cursor)),
                   .rule = {.every_round = 1, .stride = 1, .log_rows = 24, .max_rows = 16},
                   .plan = plan};
    PlanVerifyRows(gpu.ctx(), plan_params);
    const std::vector<float> row = testing::RandomValues(kVocab, 1, -8, 8);
    std::vector<float> all;
    for (int32_t r = 0; r < rows; ++r) all.insert(all.end(), row.begin(), row.end());
    logits = gpu.Upload(all);
  }

  ControlBlock control;
  RowPlan plan;
  PlanRowsParams plan_params;
  const float* logits;
};

enum class Op { kBegin, kNgram, kPlanVerify, kPlanDraft, kAdvance, kRollBack };

void BM_ControlOp(benchmark::State& state, Op op) {
  Gpu* gpu = Gpu::Open(state);
  if (gpu == nullptr) return;
  const Round round(*gpu, static_cast<int32_t>(state.range(0)), 0.0f, 1.0f, 0);
  ExecutionContext& ctx = gpu->ctx();
  gpu->Time(state, 0, [&] {
    switch (op) {
      case Op::kBegin:
        return BeginRound(ctx, {.control = round.control});
      case Op::kNgram:
        return NgramDraft(ctx, {.control = round.control, .min_ngram = 2, .max_ngram = 4});
      case Op::kPlanVerify:
        return PlanVerifyRows(ctx, round.plan_params);
      case Op::kPlanDraft:
        return PlanDraftRows(ctx, round.plan_params, 0, 8);
      case Op::kAdvance:
        return AdvanceCursors(ctx, round.plan, round.plan_params.cursors);
      case Op::kRollBack:
        return RollBackCursors(ctx, round.control, round.plan_params.cursors);
    }
  });
}

struct Sampling {
  float temperature, top_p;
  int32_t coupled;
};
constexpr Sampling kGreedy{0.0f, 1.0f, 0}, kPlain{1.0f, 1.0f, 0}, kTopP{1.0f, 0.9f, 0},
    kCoupled{1.0f, 1.0f, 1};

void BM_FirstConflict(benchmark::State& state, Sampling sampling) {
  Gpu* gpu = Gpu::Open(state);
  if (gpu == nullptr) return;
  const int32_t slots = static_cast<int32_t>(state.range(0));
  const Round round(*gpu, slots, sampling.temperature, sampling.top_p, sampling.coupled);
  gpu->Time(state, 4.0 * slots * (kDraft + 1) * kVocab, [&] {
    FirstConflict(gpu->ctx(), {.control = round.control,
                               .plan = round.plan,
                               .logits = round.logits,
                               .sampling = sampling.temperature > 0.0f});
  });
}

void BM_DraftSample(benchmark::State& state, Sampling sampling) {
  Gpu* gpu = Gpu::Open(state);
  if (gpu == nullptr) return;
  const int32_t slots = static_cast<int32_t>(state.range(0));
  const Round round(*gpu, slots, sampling.temperature, sampling.top_p, sampling.coupled);
  PlanDraftRows(gpu->ctx(), round.plan_params, 0, 8);
  gpu->Time(state, 4.0 * slots * kVocab, [&] {
    DraftSample(gpu->ctx(), {.control = round.control,
                             .plan = round.plan,
                             .logits = round.logits,
                             .logits_stride = kVocab,
                             .step = 0,
                             .sampling = sampling.temperature > 0.0f});
  });
}

void BM_Embedding(benchmark::State& state) {
  Gpu* gpu = Gpu::Open(state);
  if (gpu == nullptr) return;
  const int32_t rows = static_cast<int32_t>(state.range(0));
  constexpr int64_t kDim{2560};
  constexpr int64_t kTokens{4096};
  std::vector<int32_t> tokens(rows);
  for (int32_t r = 0; r < rows; ++r) tokens[r] = r * 37 % kTokens;
  const EmbeddingParams params = {
      .table = gpu->Upload(std::vector<char>(PackedBytes(kTokens, kDim))),
      .table_dtype = DType::kBFloat16,
      .tokens = gpu->Upload(tokens),
      .output = gpu->Upload(std::vector<float>(rows * kDim)),
      .dim = kDim,
      .output_stride = kDim,
      .num_rows = gpu->Upload(std::vector<int32_t>{rows}),
      .max_rows = rows};
  gpu->Time(state, static_cast<double>(rows) * kDim * (2 * 2 + 4),
            [&] { Embedding(gpu->ctx(), params); });
}

void BM_RmsNormCuda(benchmark::State& state, bool gated) {
  Gpu* gpu = Gpu::Open(state);
  if (gpu == nullptr) return;
  const int32_t rows = static_cast<int32_t>(state.range(0));
  const int64_t dim = state.range(1);
  const std::vector<float> values = testing::RandomValues(rows * dim, 1);
  const RmsNormParams params = {.input = gpu->Upload(values),
                                .gate = gated ? gpu->Upload(values) : nullptr,
                                .weight = gpu->Upload(testing::RandomValues(dim, 2)),
                                .output = gpu->Upload(values),
                                .dim = dim,
                                .group_dim = dim,
                                .input_stride = dim,
                                .gate_stride = dim,
                                .output_stride = dim,
                                .eps = 1e-5f,
                                .num_rows = gpu->Upload(std::vector<int32_t>{rows}),
                                .max_rows = rows};
  gpu->Time(state, static_cast<double>(rows) * dim * (gated ? 12 : 8),
            [&] { RmsNorm(gpu->ctx(), params); });
}

void Slots(benchmark::internal::Benchmark* bench) {
  bench->ArgName("slots")->Arg(1)->Arg(16)->Arg(128)->UseManualTime()->Iterations(30)->Unit(
      benchmark::kMicrosecond);
}
BENCHMARK_CAPTURE(BM_ControlOp, begin_round, Op::kBegin)->Apply(Slots);
BENCHMARK_CAPTURE(BM_ControlOp, ngram_draft, Op::kNgram)->Apply(Slots);
BENCHMARK_CAPTURE(BM_ControlOp, plan_verify_rows, Op::kPlanVerify)->Apply(Slots);
BENCHMARK_CAPTURE(BM_ControlOp, plan_draft_rows, Op::kPlanDraft)->Apply(Slots);
BENCHMARK_CAPTURE(BM_ControlOp, advance_cursors, Op::kAdvance)->Apply(Slots);
BENCHMARK_CAPTURE(BM_ControlOp, roll_back_cursors, Op::kRollBack)->Apply(Slots);
BENCHMARK_CAPTURE(BM_DraftSample, greedy, kGreedy)->Apply(Slots);
BENCHMARK_CAPTURE(BM_DraftSample, temperature, kPlain)->Apply(Slots);
BENCHMARK_CAPTURE(BM_DraftSample, top_p, kTopP)->Apply(Slots);
BENCHMARK_CAPTURE(BM_DraftSample, coupled, kCoupled)->Apply(Slots);
BENCHMARK_CAPTURE(BM_FirstConflict, greedy, kGreedy)->Apply(Slots);
BENCHMARK_CAPTURE(BM_FirstConflict, temperature, kPlain)->Apply(Slots);
BENCHMARK_CAPTURE(BM_FirstConflict, top_p, kTopP)->Apply(Slots);
BENCHMARK_CAPTURE(BM_FirstConflict, coupled, kCoupled)->Apply(Slots);
BENCHMARK(BM_Embedding)
    ->ArgName("rows")
    ->Arg(1)
    ->Arg(5)
    ->Arg(4096)
    ->UseManualTime()
    ->Iterations(30)
    ->Unit(benchmark::kMicrosecond);
void Norms(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"rows", "dim"})
      ->Args({1, 2560})
      ->Args({5, 2560})
      ->Args({4096, 2560})
      ->UseManualTime()
      ->Iterations(30)
      ->Unit(benchmark::kMicrosecond);
}
BENCHMARK_CAPTURE(BM_RmsNormCuda, plain, false)->Apply(Norms);
BENCHMARK_CAPTURE(BM_RmsNormCuda, gated, true)->Apply(Norms);

}  // namespace
}  // namespace sidewinder
