// The products of mixtures of experts on a GPU, by themselves and with all that stands between
// them, recorded as a graph with programmatic dependent launches, as decoding does. Every layer of
// a graph has matrices of its own, so that none is in a cache. Rows choose experts at random, which
// the counter `hits` counts. Floor: the bytes of the matrices hit at the bandwidth that a plain
// read of much memory reaches here.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "bench/kernels/time_graph.h"
#include "kernels/common/check.h"
#include "kernels/common/copy.h"
#include "kernels/common/memory_bandwidth.h"
#include "kernels/experts.h"
#include "kernels/gated_activation.h"
#include "kernels/pack_weights.h"
#include "runtime/device.h"

namespace sidewinder {
namespace {

// A layer's experts: up, gate [inner, hidden] and down [hidden, inner].
struct Mixture {
  int64_t num_experts, num_chosen, hidden, inner;
};
constexpr Mixture kJamba{16, 2, 4096, 14336};
constexpr Mixture kGraniteSmall{72, 10, 4096, 768};
constexpr size_t kWeightBytes{size_t{6} << 30};

// A Gpu and a mixture of experts on it, whose rows chose.
class Layers {
 public:
  Layers(const std::shared_ptr<const Device>& device, const Mixture& m, int32_t rows)
      : device_(device), m_(m), rows_(rows) {
    auto stream = device_->CreateStream();
    SW_CHECK(stream.ok()) << stream.status();
    stream_ = std::move(*stream);
    const size_t matrix = PackedBytes(m.inner, m.hidden);
    num_layers_ = std::max<int64_t>(2, kWeightBytes / (3 * m.num_experts * matrix));
    weights_ = Allocate(num_layers_ * 3 * m.num_experts * matrix);
    std::vector<const void*> pointers;
    for (int64_t i = 0; i < num_layers_ * 3 * m.num_experts; ++i) {
      char* at = weights_.as<char>() + i * matrix;
      const bool down = i / m.num_experts % 3 == 2;
      Randomize(at, DType::kBFloat16, down ? m.hidden : m.inner, down ? m.inner : m.hidden, 0.02f,
                i);
      pointers.push_back(at);
    }
    pointers_ = Upload(pointers);
    num_rows_ = Upload(std::vector<int32_t>{rows});
    input_ = Floats(rows * m.hidden);
    logits_ = Floats(rows * m.num_experts);
    Randomize(input_.data(), DType::kFloat32, rows, m.hidden, 1, 1);
    Randomize(logits_.data(), DType::kFloat32, rows, m.num_experts, 4, 2);
    const int64_t choices = rows * m.num_chosen;
    gate_ = Floats(choices * m.inner);
    up_ = Floats(choices * m.inner);
    down_ = Floats(choices * m.hidden);
    output_ = Floats(rows * m.hidden);
    experts_ = Floats(choices);
    chosen_weights_ = Floats(choices);
    order_ = Floats(choices);
    offsets_ = Floats(m.num_experts + 1);
    Route();
    std::vector<int32_t> experts(choices);
    CopyOut(ctx(), experts.data(), experts_.data(), choices * sizeof(int32_t));
    SW_CHECK(stream_->Synchronize().ok());
    hits_ = static_cast<int64_t>(std::set<int32_t>(experts.begin(), experts.end()).size());
    const DeviceMemory memory = Allocate(size_t{2} << 30);
    SW_CHECK(MeasureReadBandwidthCuda(*ctx().cuda, memory.data(), memory.size(), &bandwidth_) == 0);
  }

  ExecutionContext& ctx() { return stream_->context(); }
  int64_t num_layers() const { return num_layers_; }
  int64_t hits() const { return hits_; }
  double bandwidth() const { return bandwidth_; }
  size_t MatrixBytes() const { return PackedBytes(m_.inner, m_.hidden); }

  void Route() {
    RouteExperts(ctx(), {.logits = logits_.as<float>(),
                         .correction = nullptr,
                         .choices = Choices(),
                         .score = ExpertScore::kSoftmaxChosen,
                         .num_groups = 1,
                         .num_chosen_groups = 1,
                         .normalize = false,
                         .scale = 1,
                         .num_rows = num_rows_.as<int32_t>(),
                         .max_rows = rows_});
  }
  void Gate(int64_t layer) { Product(layer, 0, input_, gate_); }
  void Up(int64_t layer) { Product(layer, 1, input_, up_); }
  void Down(int64_t layer) { Product(layer, 2, gate_, down_); }
  void Activate() {
    GatedActivation(ctx(), {.gate = gate_.as<float>(),
                            .up = up_.as<float>(),
                            .output = gate_.as<float>(),
                            .dim = m_.inner,
                            .gate_stride = m_.inner,
                            .up_stride = m_.inner,
                            .output_stride = m_.inner,
                            .activation = Activation::kSilu,
                            .num_rows = num_rows_.as<int32_t>(),
                            .rows_factor = static_cast<int32_t>(m_.num_chosen),
                            .max_rows = rows_});
  }
  void Combine() {
    CombineExperts(ctx(), {.input = down_.as<float>(),
                           .choices = Choices(),
                           .scale = nullptr,
                           .output = output_.as<float>(),
                           .dim = m_.hidden,
                           .output_stride = m_.hidden,
                           .accumulate = true,
                           .num_rows = num_rows_.as<int32_t>(),
                           .max_rows = rows_});
  }

 private:
  DeviceMemory Allocate(size_t bytes) const {
    auto memory = device_->Allocate(bytes, "a benchmark");
    SW_CHECK(memory.ok()) << memory.status();
    return std::move(*memory);
  }
  DeviceMemory Floats(int64_t size) const { return Allocate(size * sizeof(float)); }

  template <class T>
  DeviceMemory Upload(const std::vector<T>& values) {
    DeviceMemory memory = Allocate(values.size() * sizeof(T));
    CopyIn(ctx(), memory.data(), values.data(), values.size() * sizeof(T));
    SW_CHECK(stream_->Synchronize().ok());
    return memory;
  }

  void Randomize(void* to, DType dtype, int64_t out_dim, int64_t in_dim, float scale,
                 uint64_t seed) {
    RandomWeights(ctx(), {.weights = to,
                          .dtype = dtype,
                          .out_dim = out_dim,
                          .in_dim = in_dim,
                          .scale = scale,
                          .seed = seed});
  }

  ExpertChoices Choices() const {
    return {.experts = experts_.as<int32_t>(),
            .weights = chosen_weights_.as<float>(),
            .order = order_.as<int32_t>(),
            .offsets = offsets_.as<int32_t>(),
            .num_experts = m_.num_experts,
            .num_chosen = m_.num_chosen};
  }

  // Matrix `which` of a layer: 0 gate, 1 up, 2 down.
  void Product(int64_t layer, int64_t which, const DeviceMemory& input,
               const DeviceMemory& output) {
    const int64_t in_dim = which == 2 ? m_.inner : m_.hidden;
    ExpertLinear(ctx(),
                 {.weights = pointers_.as<const void*>() + (layer * 3 + which) * m_.num_experts,
                  .weight_dtype = DType::kBFloat16,
                  .choices = Choices(),
                  .input = input.as<float>(),
                  .output = output.as<float>(),
                  .in_dim = in_dim,
                  .out_dim = which == 2 ? m_.hidden : m_.inner,
                  .input_stride = in_dim,
                  .input_per_choice = which == 2,
                  .num_rows = num_rows_.as<int32_t>(),
                  .max_rows = rows_});
  }

  std::shared_ptr<const Device> device_;
  std::unique_ptr<Stream> stream_;
  Mixture m_;
  int32_t rows_;
  int64_t num_layers_ = 0, hits_ = 0;
  double bandwidth_ = 0;
  DeviceMemory weights_, pointers_, num_rows_, input_, logits_, gate_, up_, down_, output_,
      experts_, chosen_weights_, order_, offsets_;
};

// Times a graph of `enqueue` for every layer; a layer reads `matrices` of each expert hit. args:
// rows.
void TimeLayers(benchmark::State& state, const Mixture& m, int64_t matrices,
                const std::function<void(Layers&, int64_t layer)>& enqueue) {
  auto device = Device::Open("cuda");
  if (!device.ok()) return state.SkipWithError("no GPU");
  Layers layers(*device, m, static_cast<int32_t>(state.range(0)));
  const double best = TimeGraph(state, *layers.ctx().cuda, layers.num_layers(), [&] {
    for (int64_t i = 0; i < layers.num_layers(); ++i) enqueue(layers, i);
  });
  const double seconds = best / static_cast<double>(layers.num_layers());
  const double bytes = static_cast<double>(matrices * layers.hits() * layers.MatrixBytes());
  state.counters["hits"] = static_cast<double>(layers.hits());
  state.counters["MB"] = bytes * 1e-6;
  state.counters["best_us"] = seconds * 1e6;
  state.counters["floor_us"] = bytes / layers.bandwidth() * 1e6;
  state.counters["bytes/s"] = bytes / seconds;
  state.counters["of_bandwidth"] = bytes / seconds / layers.bandwidth();
}

void BM_ExpertsUp(benchmark::State& state, Mixture m) {
  TimeLayers(state, m, 1, [](Layers& layers, int64_t i) { layers.Up(i); });
}
void BM_ExpertsDown(benchmark::State& state, Mixture m) {
  TimeLayers(state, m, 1, [](Layers& layers, int64_t i) { layers.Down(i); });
}
void BM_RouteExperts(benchmark::State& state, Mixture m) {
  TimeLayers(state, m, 0, [](Layers& layers, int64_t) { layers.Route(); });
}
void BM_MixtureLayer(benchmark::State& state, Mixture m) {
  TimeLayers(state, m, 3, [](Layers& layers, int64_t i) {
    layers.Route();
    layers.Gate(i);
    layers.Up(i);
    layers.Activate();
    layers.Down(i);
    layers.Combine();
  });
}

void Rows(benchmark::internal::Benchmark* b) {
  b->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.05)->ArgNames({"rows"});
  for (const int rows : {1, 5, 16, 64, 512}) b->Args({rows});
}
BENCHMARK_CAPTURE(BM_ExpertsUp, jamba, kJamba)->Apply(Rows);
BENCHMARK_CAPTURE(BM_ExpertsDown, jamba, kJamba)->Apply(Rows);
BENCHMARK_CAPTURE(BM_MixtureLayer, jamba, kJamba)->Apply(Rows);
BENCHMARK_CAPTURE(BM_ExpertsUp, granite_small, kGraniteSmall)->Apply(Rows);
BENCHMARK_CAPTURE(BM_ExpertsDown, granite_small, kGraniteSmall)->Apply(Rows);
BENCHMARK_CAPTURE(BM_RouteExperts, granite_small, kGraniteSmall)->Apply(Rows);
BENCHMARK_CAPTURE(BM_MixtureLayer, granite_small, kGraniteSmall)->Apply(Rows);

}  // namespace
}  // namespace sidewinder
