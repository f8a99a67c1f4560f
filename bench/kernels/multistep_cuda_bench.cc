// One recurrent layer of a pass on a GPU: the fused step (Mamba-1 with dt_proj, Mamba-2 with the
// convolution), the step alone, and the convolution alone, for the shapes of real models.
//
// A graph of launches one behind the other is timed, each on a state of its own: as many as the
// L2 cache cannot hold together, or as many as a large model has layers. bytes/s
// counts state, log, window and weights, of a prefill inputs and outputs too; floor_us is what they
// take at 3.1 TB/s, which an H100 reads at best, of_floor the part of the time that this is.
// Prefills of Mamba-2 go in whole chunks, with the convolution before them, without it, or in token
// order.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "bench/kernels/time_graph.h"
#include "kernels/common/copy.h"
#include "kernels/fused.h"
#include "kernels/pack_weights.h"
#include "runtime/device.h"

namespace sidewinder {
namespace {

constexpr double kPeakBandwidth{3.1e12};
constexpr size_t kColdBytes{size_t{192} << 20};
constexpr int kMaxSets{64};
constexpr int kConvWidth{4};
constexpr int64_t kLogRows{32};

struct Shape {
  bool is_mamba2;
  int64_t num_heads, head_dim;  // Mamba-1: 1 and the channels
  int64_t state_dim;
  int64_t dt_rank;  // Mamba-1

  int64_t inner_dim() const { return num_heads * head_dim; }
  int64_t delta_dim() const { return is_mamba2 ? num_heads : inner_dim(); }
  int64_t conv_dim() const { return is_mamba2 ? inner_dim() + 2 * state_dim : inner_dim(); }
  int64_t state_elements() const { return inner_dim() * state_dim; }
};

enum class Op { kStep, kFusedStep, kConv, kStepInTokenOrder };

// What one pass does to every sequence.
struct Pass {
  int32_t sequences, rows, replayed;
  bool moves;  // the checkpoint, to where the pass began

  bool is_prefill() const { return rows > kLogRows; }
};

// Bytes that have to cross the memory bus.
double PassBytes(const Shape& s, Op op, const Pass& pass) {
  const double rows = double{4} * pass.sequences * pass.rows;
  const double conv = rows * 2 * s.conv_dim();
  if (op == Op::kConv) return conv;
  if (s.is_mamba2 && pass.is_prefill()) {
    const double state = double{2 * 4} * pass.sequences * s.state_elements();
    const double scan = rows * (s.conv_dim() + s.num_heads + s.inner_dim());
    return state + scan + (op == Op::kFusedStep ? conv : 0);
  }
  const double log_row = s.inner_dim() + s.delta_dim() + s.state_dim;
  const double state = double{4} * pass.sequences * s.state_elements() * (pass.moves ? 2 : 1);
  const double log = log_row * (rows + double{4} * pass.sequences * pass.replayed);
  double weights = s.is_mamba2 ? 0 : double{4} * s.state_elements();
  if (op == Op::kFusedStep && !s.is_mamba2) weights += 2.0 * s.inner_dim() * s.dt_rank;
  return state + log + weights;
}

class Memory {
 public:
  explicit Memory(const Device& device) : device_(device) {}

  // Zeroed.
  float* Take(int64_t elements) {
    auto memory = device_.Allocate(elements * sizeof(float), "a benchmark");
    if (!memory.ok()) return nullptr;
    pieces_.push_back(std::move(*memory));
    return pieces_.back().as<float>();
  }

 private:
  const Device& device_;
  std::vector<DeviceMemory> pieces_;
};

RowPlan MakePlan(Memory& memory, ExecutionContext& ctx, const Pass& pass) {
  std::vector<SequenceRows> sequences;
  for (int32_t s = 0; s < pass.sequences; ++s) {
    sequences.push_back({.slot = s,
                         .first_row = s * pass.rows,
                         .num_rows = pass.rows,
                         .checkpoint = 16,
                         .consumed = 16 + pass.replayed,
                         .new_checkpoint = pass.moves ? 17 + pass.replayed : 16});
    // From the beginning of a text, and the checkpoint goes to the end.
    if (pass.is_prefill()) {
      sequences.back().checkpoint = sequences.back().consumed = 0;
      sequences.back().new_checkpoint = pass.rows;
    }
  }
  const int32_t counts[3] = {pass.sequences * pass.rows, pass.sequences, 0};
  int32_t* device_counts = reinterpret_cast<int32_t*>(memory.Take(3));
  const size_t bytes = sequences.size() * sizeof(SequenceRows);
  SequenceRows* device_sequences =
      reinterpret_cast<SequenceRows*>(memory.Take(bytes / sizeof(float)));
  CopyIn(ctx, device_counts, counts, sizeof(counts));
  CopyIn(ctx, device_sequences, sequences.data(), bytes);
  return {.num_rows = device_counts,
          .num_sequences = device_counts + 1,
          .num_logit_rows = device_counts + 2,
          .tokens = nullptr,
          .sequences = device_sequences,
          .logit_rows = nullptr,
          .max_rows = pass.sequences * pass.rows,
          .max_sequences = pass.sequences,
          .prefill = pass.is_prefill()};
}

// A layer with its state; zeros for values, which take as long as others.
class Layer {
 public:
  Layer(Memory& memory, const Shape& s, const RowPlan& plan) : shape_(s), plan_(plan) {
    const int64_t slots = plan.max_sequences, rows = plan.max_rows;
    state_ = {.checkpoint = memory.Take(slots * s.state_elements()),
              .log_x = memory.Take(slots * kLogRows * s.inner_dim()),
              .log_delta = memory.Take(slots * kLogRows * s.delta_dim()),
              .log_b = memory.Take(slots * kLogRows * s.state_dim),
              .snapshots = nullptr,
              .log_rows = kLogRows,
              .snapshot_rows = 0};
    conv_dim_ = s.conv_dim();
    ring_ = memory.Take(slots * kLogRows * conv_dim_);
    raw_ = memory.Take(rows * (2 * s.inner_dim() + conv_dim_ + s.num_heads));
    convolved_ = memory.Take(rows * conv_dim_);
    low_ = memory.Take(rows * (s.dt_rank + 2 * s.state_dim));
    dt_ = memory.Take(rows * s.delta_dim());
    output_ = memory.Take(rows * s.inner_dim());
    conv_weight_ = memory.Take(kConvWidth * conv_dim_);
    vector_ = memory.Take(conv_dim_);
    a_ = memory.Take(s.state_elements());
    dt_weight_ = memory.Take(static_cast<int64_t>(PackedBytes(s.inner_dim(), s.dt_rank)) / 4 + 1);
  }

  void Enqueue(ExecutionContext& ctx, Op op) const {
    if (op == Op::kConv) return CausalConv(ctx, Conv());
    if (shape_.is_mamba2) {
      MultiStepMamba2Params params = Mamba2();
      if (op == Op::kStepInTokenOrder) params.plan.prefill = false;
      op == Op::kFusedStep ? ConvMultiStepMamba2(ctx, Conv(), params)
                           : MultiStepMamba2(ctx, params);
    } else {
      op == Op::kStep ? MultiStepMamba1(ctx, Mamba1())
                      : LinearMultiStepMamba1(ctx, DtProj(), Mamba1());
    }
  }

 private:
  CausalConvParams Conv() const {
    return {.input = raw_,
            .weight = conv_weight_,
            .bias = vector_,
            .output = convolved_,
            .ring = ring_,
            .dim = conv_dim_,
            .width = kConvWidth,
            .input_stride = conv_dim_,
            .output_stride = conv_dim_,
            .ring_rows = kLogRows,
            .plan = plan_};
  }
  LinearParams DtProj() const {
    return {.weight = dt_weight_,
            .weight_dtype = DType::kBFloat16,
            .bias = nullptr,
            .input = low_,
            .row_index = nullptr,
            .output = dt_,
            .in_dim = shape_.dt_rank,
            .out_dim = shape_.inner_dim(),
            .input_stride = shape_.dt_rank + 2 * shape_.state_dim,
            .output_stride = shape_.inner_dim(),
            .accumulate = false,
            .num_rows = plan_.num_rows,
            .max_rows = plan_.max_rows};
  }
  MultiStepMamba1Params Mamba1() const {
    const int64_t inner = shape_.inner_dim(), low = shape_.dt_rank + 2 * shape_.state_dim;
    return {.x = convolved_,
            .z = raw_,
            .dt = dt_,
            .b = low_ + shape_.dt_rank,
            .c = low_ + shape_.dt_rank + shape_.state_dim,
            .a = a_,
            .d = vector_,
            .dt_bias = vector_,
            .output = output_,
            .inner_dim = inner,
            .state_dim = shape_.state_dim,
            .x_stride = inner,
            .z_stride = inner,
            .dt_stride = inner,
            .b_stride = low,
            .c_stride = low,
            .output_stride = inner,
            .state = state_,
            .plan = plan_};
  }
  MultiStepMamba2Params Mamba2() const {
    return {.x = convolved_,
            .b = convolved_ + shape_.inner_dim(),
            .c = convolved_ + shape_.inner_dim() + shape_.state_dim,
            .dt = dt_,
            .a = vector_,
            .d = vector_,
            .dt_bias = vector_,
            .output = output_,
            .num_heads = shape_.num_heads,
            .head_dim = shape_.head_dim,
            .num_groups = 1,
            .state_dim = shape_.state_dim,
            .delta_min = 0,
            .delta_max = std::numeric_limits<float>::infinity(),
            .x_stride = conv_dim_,
            .b_stride = conv_dim_,
            .c_stride = conv_dim_,
            .dt_stride = shape_.num_heads,
            .output_stride = shape_.inner_dim(),
            .state = state_,
            .plan = plan_};
  }

  Shape shape_;
  RowPlan plan_;
  RecurrentState state_;
  int64_t conv_dim_;
  float *ring_, *raw_, *convolved_, *low_, *dt_, *output_, *conv_weight_, *vector_, *a_;
  float* dt_weight_;
};

void BM_MultiStepCuda(benchmark::State& state, Shape shape, Op op) {
  auto device = Device::Open("cuda");
  if (!device.ok()) return state.SkipWithError(std::string(device.status().message()).c_str());
  auto stream = (*device)->CreateStream();
  if (!stream.ok()) return state.SkipWithError("no stream");
  ExecutionContext& ctx = (*stream)->context();
  const Pass pass{.sequences = static_cast<int32_t>(state.range(0)),
                  .rows = static_cast<int32_t>(state.range(1)),
                  .replayed = static_cast<int32_t>(state.range(2)),
                  .moves = state.range(3) != 0};
  const double bytes = PassBytes(shape, op, pass);
  const int sets = std::clamp(static_cast<int>(kColdBytes / bytes) + 1, 4, kMaxSets);
  Memory memory(**device);
  const RowPlan plan = MakePlan(memory, ctx, pass);
  std::vector<Layer> layers;
  for (int i = 0; i < sets; ++i) layers.emplace_back(memory, shape, plan);

  const double best = TimeGraph(state, *ctx.cuda, sets,
                                [&] {
                                  for (const Layer& layer : layers) layer.Enqueue(ctx, op);
                                }) /
                      sets;
  if (const absl::Status status = (*stream)->Synchronize(); !status.ok()) {
    state.SkipWithError(std::string(status.message()).c_str());
  }
  using benchmark::Counter;
  state.counters["bytes/s"] = Counter(bytes, Counter::kIsIterationInvariantRate);
  state.counters["floor_us"] = bytes / kPeakBandwidth * 1e6;
  state.counters["of_floor"] = bytes / kPeakBandwidth / best;
}

void DecodeArgs(benchmark::internal::Benchmark* b) {
  b->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.02);
  b->ArgNames({"sequences", "rows", "replayed", "moves"});
  for (int sequences : {1, 8, 32, 128}) {
    b->Args({sequences, 1, 0, 1})->Args({sequences, 5, 3, 1})->Args({sequences, 5, 8, 0});
  }
  b->Args({1, 512, 0, 1});
}
void PrefillArgs(benchmark::internal::Benchmark* b) {
  b->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.02);
  b->ArgNames({"sequences", "rows", "replayed", "moves"});
  for (int rows : {64, 128, 512, 575, 2048}) b->Args({1, rows, 0, 1});
  b->Args({4, 512, 0, 1});
}
void ConvArgs(benchmark::internal::Benchmark* b) {
  b->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.02);
  b->ArgNames({"sequences", "rows", "replayed", "moves"});
  for (int sequences : {1, 32}) b->Args({sequences, 1, 0, 0})->Args({sequences, 5, 0, 0});
  b->Args({1, 512, 0, 0});
}

constexpr Shape kMamba28b{false, 1, 5120, 16, 160};
constexpr Shape kMamba130m{false, 1, 1536, 16, 48};
constexpr Shape kMamba2x27b{true, 80, 64, 128, 0};
constexpr Shape kMamba2x130m{true, 24, 64, 128, 0};
constexpr Shape kZamba2x7b{true, 112, 64, 64, 0};
BENCHMARK_CAPTURE(BM_MultiStepCuda, mamba_2_8b / fused, kMamba28b, Op::kFusedStep)
    ->Apply(DecodeArgs);
BENCHMARK_CAPTURE(BM_MultiStepCuda, mamba_2_8b / step, kMamba28b, Op::kStep)->Apply(DecodeArgs);
BENCHMARK_CAPTURE(BM_MultiStepCuda, mamba_130m / fused, kMamba130m, Op::kFusedStep)
    ->Apply(DecodeArgs);
BENCHMARK_CAPTURE(BM_MultiStepCuda, mamba2_2_7b / fused, kMamba2x27b, Op::kFusedStep)
    ->Apply(DecodeArgs);
BENCHMARK_CAPTURE(BM_MultiStepCuda, mamba2_2_7b / step, kMamba2x27b, Op::kStep)->Apply(DecodeArgs);
BENCHMARK_CAPTURE(BM_MultiStepCuda, mamba2_130m / fused, kMamba2x130m, Op::kFusedStep)
    ->Apply(DecodeArgs);
BENCHMARK_CAPTURE(BM_MultiStepCuda, mamba2_2_7b / prefill_fused, kMamba2x27b, Op::kFusedStep)
    ->Apply(PrefillArgs);
BENCHMARK_CAPTURE(BM_MultiStepCuda, mamba2_2_7b / prefill, kMamba2x27b, Op::kStep)
    ->Apply(PrefillArgs);
BENCHMARK_CAPTURE(BM_MultiStepCuda, mamba2_2_7b / prefill_in_order, kMamba2x27b,
                  Op::kStepInTokenOrder)
    ->Apply(PrefillArgs);
BENCHMARK_CAPTURE(BM_MultiStepCuda, zamba2_7b / prefill_fused, kZamba2x7b, Op::kFusedStep)
    ->Apply(PrefillArgs);
BENCHMARK_CAPTURE(BM_MultiStepCuda, zamba2_7b / prefill, kZamba2x7b, Op::kStep)->Apply(PrefillArgs);
BENCHMARK_CAPTURE(BM_MultiStepCuda, zamba2_7b / prefill_in_order, kZamba2x7b, Op::kStepInTokenOrder)
    ->Apply(PrefillArgs);
BENCHMARK_CAPTURE(BM_MultiStepCuda, mamba2_130m / prefill, kMamba2x130m, Op::kStep)
    ->Apply(PrefillArgs);
BENCHMARK_CAPTURE(BM_MultiStepCuda, mamba_2_8b / conv, kMamba28b, Op::kConv)->Apply(ConvArgs);
BENCHMARK_CAPTURE(BM_MultiStepCuda, mamba2_2_7b / conv, kMamba2x27b, Op::kConv)->Apply(ConvArgs);

}  // namespace
}  // namespace sidewinder
