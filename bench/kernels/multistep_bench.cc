// One layer of a decode step: `replayed` rows from the log, `rows` new ones, the checkpoint moved
// to where the step began.
#include <benchmark/benchmark.h>

#include "tests/testing/host_row_plan.h"
#include "tests/testing/multistep_cases.h"

namespace sidewinder {
namespace {

void BM_MultiStep(benchmark::State& state, testing::MultiStepShape shape) {
  const int32_t rows = static_cast<int32_t>(state.range(0));
  const int32_t replayed = static_cast<int32_t>(state.range(1));
  ThreadPool pool(static_cast<int>(state.range(2)));
  ExecutionContext ctx{.device = DeviceType::kCpu, .pool = &pool};
  const testing::MultiStepInputs in(shape, rows + replayed, 1);
  testing::MultiStepState recurrent(shape, 1, rows + replayed + 1, 0);
  std::vector<float> output((rows + replayed) * shape.inner_dim());
  if (replayed > 0) {  // fills the log
    testing::HostRowPlan plan({{.slot = 0,
                                .first_row = 0,
                                .num_rows = replayed,
                                .checkpoint = 0,
                                .consumed = 0,
                                .new_checkpoint = 0}});
    RunMultiStep(testing::Implementation::kBackend, ctx, in, recurrent, plan.plan(), output.data());
  }
  testing::HostRowPlan plan({{.slot = 0,
                              .first_row = 0,
                              .num_rows = rows,
                              .checkpoint = 0,
                              .consumed = replayed,
                              .new_checkpoint = replayed}});
  for (auto _ : state) {
    RunMultiStep(testing::Implementation::kBackend, ctx, in, recurrent, plan.plan(), output.data());
    benchmark::ClobberMemory();
  }
  using benchmark::Counter;
  state.counters["rows/s"] = Counter(rows + replayed, Counter::kIsIterationInvariantRate);
}

void Args(benchmark::internal::Benchmark* b) {
  b->UseRealTime()->Unit(benchmark::kMicrosecond)->ArgNames({"rows", "replayed", "threads"});
  for (int threads : {1, 2}) {
    b->Args({1, 1, threads})->Args({5, 3, threads})->Args({256, 0, threads});
  }
}
constexpr testing::MultiStepShape kVerifier{testing::StepKind::kMamba2, 10, 64, 1, 64};
constexpr testing::MultiStepShape kDraft{testing::StepKind::kMamba2, 4, 64, 1, 64};
constexpr testing::MultiStepShape kMamba130m{testing::StepKind::kMamba1, 0, 1536, 1, 16};
constexpr testing::MultiStepShape kQwen3Next{testing::StepKind::kDeltaNet, 32, 128, 16, 128};
BENCHMARK_CAPTURE(BM_MultiStep, mamba2_verifier, kVerifier)->Apply(Args);
BENCHMARK_CAPTURE(BM_MultiStep, mamba2_draft, kDraft)->Apply(Args);
BENCHMARK_CAPTURE(BM_MultiStep, mamba1_130m, kMamba130m)->Apply(Args);
BENCHMARK_CAPTURE(BM_MultiStep, delta_net_80b, kQwen3Next)->Apply(Args);

}  // namespace
}  // namespace sidewinder
