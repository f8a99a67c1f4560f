// Products on a GPU: each real shape by itself, over enough different weights that none is in a
// cache, and all products of a model's pass one behind the other. Everything is recorded as a graph
// with programmatic dependent launches, as decoding does. Floor: the bytes of the weights at the
// bandwidth that a plain read of much memory reaches here.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "bench/kernels/time_graph.h"
#include "kernels/common/check.h"
#include "kernels/common/copy.h"
#include "kernels/common/memory_bandwidth.h"
#include "kernels/fused.h"
#include "kernels/linear.h"
#include "kernels/pack_weights.h"
#include "kernels/rms_norm.h"
#include "runtime/device.h"

namespace sidewinder {
namespace {

constexpr size_t kColdBytes{size_t{256} << 20};  // several times the second-level cache

struct Matrix {
  int64_t out_dim, in_dim;
  size_t bytes() const { return PackedBytes(out_dim, in_dim); }
};

// Products of Mamba-1 that stream weights, by layer.
struct Network {
  int64_t layers, hidden, inner, low, vocab;  // low: what x_proj gives
  Matrix in_proj() const { return {2 * inner, hidden}; }
  Matrix x_proj() const { return {low, inner}; }
  Matrix out_proj() const { return {hidden, inner}; }
  Matrix head() const { return {vocab, hidden}; }
};
constexpr Network kMamba2800M{64, 2560, 5120, 192, 50280};
constexpr Network kMamba130M{24, 768, 1536, 80, 50280};

// The GPU and what all benchmarks share on it.
class Gpu {
 public:
  // Null without one.
  static Gpu* Get() {
    static const std::unique_ptr<Gpu> gpu = Open();
    return gpu.get();
  }

  DeviceMemory Allocate(size_t bytes) const {
    auto memory = device_->Allocate(bytes, "a benchmark");
    SW_CHECK(memory.ok()) << memory.status();
    return std::move(*memory);
  }
  ExecutionContext& ctx() { return stream_->context(); }
  CudaContext& cuda() { return *ctx().cuda; }
  double bandwidth() const { return bandwidth_; }

  void Randomize(void* weights, Matrix m, uint64_t seed, DType dtype = DType::kBFloat16) {
    SW_CHECK(LaunchRandomWeights(cuda(), {.weights = weights,
                                          .dtype = dtype,
                                          .out_dim = m.out_dim,
                                          .in_dim = m.in_dim,
                                          .scale = dtype == DType::kFloat32 ? 1.0f : 0.02f,
                                          .seed = seed}) == 0);
  }

  // Row counts in device memory; max_rows alone would let kernels assume nothing.
  int32_t* SetRows(int32_t rows) {
    CopyIn(ctx(), rows_.data(), &rows, sizeof(rows));
    return rows_.as<int32_t>();
  }

 private:
  static std::unique_ptr<Gpu> Open() {
    auto device = Device::Open("cuda");
    if (!device.ok()) return nullptr;
    auto gpu = std::make_unique<Gpu>();
    gpu->device_ = *device;
    auto stream = gpu->device_->CreateStream();
    SW_CHECK(stream.ok()) << stream.status();
    gpu->stream_ = std::move(*stream);
    gpu->rows_ = gpu->Allocate(64);
    const DeviceMemory memory = gpu->Allocate(size_t{2} << 30);
    SW_CHECK(
        MeasureReadBandwidthCuda(gpu->cuda(), memory.data(), memory.size(), &gpu->bandwidth_) == 0);
    benchmark::AddCustomContext("gpu", gpu->device_->description());
    return gpu;
  }

  std::shared_ptr<const Device> device_;
  std::unique_ptr<Stream> stream_;
  DeviceMemory rows_;
  double bandwidth_ = 0;
};

// Times a graph of what `enqueue` enqueues; the best launch goes into the counters.
void TimeProducts(benchmark::State& state, Gpu& gpu, size_t bytes, double flops, int64_t products,
                  const std::function<void()>& enqueue) {
  const double best = TimeGraph(state, gpu.cuda(), 1, enqueue);
  state.counters["best_us"] = best * 1e6;
  state.counters["us_a_product"] = best * 1e6 / static_cast<double>(products);
  state.counters["floor_us"] = static_cast<double>(bytes) / gpu.bandwidth() * 1e6;
  state.counters["bytes/s"] = static_cast<double>(bytes) / best;
  state.counters["of_bandwidth"] = static_cast<double>(bytes) / best / gpu.bandwidth();
  state.counters["flops/s"] = flops / best;
}

LinearParams Product(const void* weight, Matrix m, const float* input, int64_t input_stride,
                     float* output, const int32_t* num_rows, int32_t max_rows) {
  return {.weight = weight,
          .weight_dtype = DType::kBFloat16,
          .bias = nullptr,
          .input = input,
          .row_index = nullptr,
          .output = output,
          .in_dim = m.in_dim,
          .out_dim = m.out_dim,
          .input_stride = input_stride,
          .output_stride = m.out_dim,
          .accumulate = false,
          .num_rows = num_rows,
          .max_rows = max_rows};
}

RmsNormParams Norm(const float* input, int64_t dim, const float* weight, float* output,
                   const int32_t* num_rows, int32_t max_rows) {
  return {.input = input,
          .gate = nullptr,
          .weight = weight,
          .output = output,
          .dim = dim,
          .group_dim = dim,
          .input_stride = dim,
          .gate_stride = 0,
          .output_stride = dim,
          .eps = 1e-5f,
          .num_rows = num_rows,
          .max_rows = max_rows};
}

// args: rows, out_dim, in_dim, what stands in front: nothing, a norm (1), a gated norm (2).
void BM_Linear(benchmark::State& state) {
  Gpu* gpu = Gpu::Get();
  if (gpu == nullptr) return state.SkipWithError("no GPU");
  const int32_t rows = static_cast<int32_t>(state.range(0));
  const Matrix m{state.range(1), state.range(2)};
  const bool normed = state.range(3) != 0, gated = state.range(3) == 2;
  const int64_t copies = std::max<int64_t>(2, static_cast<int64_t>(kColdBytes / m.bytes()) + 1);
  const DeviceMemory weights = gpu->Allocate(copies * m.bytes());
  for (int64_t i = 0; i < copies; ++i) {
    gpu->Randomize(weights.as<char>() + i * m.bytes(), m, i);
  }
  const DeviceMemory input = gpu->Allocate(rows * m.in_dim * sizeof(float));
  gpu->Randomize(input.data(), {rows, m.in_dim}, 1, DType::kFloat32);
  const DeviceMemory gate = gpu->Allocate(rows * m.in_dim * sizeof(float));
  gpu->Randomize(gate.data(), {rows, m.in_dim}, 2, DType::kFloat32);
  const DeviceMemory normed_rows = gpu->Allocate(rows * m.in_dim * sizeof(float));
  const DeviceMemory output = gpu->Allocate(rows * m.out_dim * sizeof(float));
  const int32_t* num_rows = gpu->SetRows(rows);
  TimeProducts(state, *gpu, copies * m.bytes(),
               2.0 * static_cast<double>(copies * m.out_dim * m.in_dim * rows), copies, [&] {
                 for (int64_t i = 0; i < copies; ++i) {
                   LinearParams params =
                       Product(weights.as<char>() + i * m.bytes(), m, input.as<float>(), m.in_dim,
                               output.as<float>(), num_rows, rows);
                   if (!normed) {
                     Linear(gpu->ctx(), params);
                     continue;
                   }
                   params.input = normed_rows.as<float>();
                   RmsNormParams norm = Norm(input.as<float>(), m.in_dim, nullptr,
                                             normed_rows.as<float>(), num_rows, rows);
                   if (gated) {
                     norm.gate = gate.as<float>();
                     norm.gate_stride = m.in_dim;
                   }
                   NormLinear(gpu->ctx(), norm, params);
                 }
               });
}

// The products of one pass: what stands between them is left out. args: rows.
void BM_Chain(benchmark::State& state, Network n) {
  Gpu* gpu = Gpu::Get();
  if (gpu == nullptr) return state.SkipWithError("no GPU");
  const int32_t rows = static_cast<int32_t>(state.range(0));
  const size_t layer_bytes = n.in_proj().bytes() + n.x_proj().bytes() + n.out_proj().bytes();
  const size_t bytes = n.layers * layer_bytes + n.head().bytes();
  const DeviceMemory weights = gpu->Allocate(bytes);
  struct Layer {
    char *in_proj, *x_proj, *out_proj;
  };
  std::vector<Layer> layers;
  char* at = weights.as<char>();
  for (int64_t i = 0; i < n.layers; ++i) {
    layers.push_back({at, at + n.in_proj().bytes(), at + n.in_proj().bytes() + n.x_proj().bytes()});
    gpu->Randomize(layers[i].in_proj, n.in_proj(), 3 * i);
    gpu->Randomize(layers[i].x_proj, n.x_proj(), 3 * i + 1);
    gpu->Randomize(layers[i].out_proj, n.out_proj(), 3 * i + 2);
    at += layer_bytes;
  }
  gpu->Randomize(at, n.head(), 1000);
  const auto floats = [&](int64_t size) { return gpu->Allocate(rows * size * sizeof(float)); };
  const DeviceMemory hidden = floats(n.hidden), normed = floats(n.hidden),
                     projected = floats(2 * n.inner), low = floats(n.low), logits = floats(n.vocab),
                     norm_weights = gpu->Allocate((n.layers + 1) * n.hidden * sizeof(float));
  gpu->Randomize(hidden.data(), {rows, n.hidden}, 1, DType::kFloat32);
  gpu->Randomize(norm_weights.data(), {n.layers + 1, n.hidden}, 2, DType::kFloat32);
  const int32_t* num_rows = gpu->SetRows(rows);
  const auto norm = [&](int64_t layer) {
    return Norm(hidden.as<float>(), n.hidden, norm_weights.as<float>() + layer * n.hidden,
                normed.as<float>(), num_rows, rows);
  };
  TimeProducts(state, *gpu, bytes, static_cast<double>(bytes) * rows, 3 * n.layers + 1, [&] {
    for (int64_t i = 0; i < n.layers; ++i) {
      const Layer& layer = layers[i];
      LinearParams in_proj = Product(layer.in_proj, n.in_proj(), normed.as<float>(), n.hidden,
                                     projected.as<float>(), num_rows, rows);
      NormLinear(gpu->ctx(), norm(i), in_proj);
      Linear(gpu->ctx(), Product(layer.x_proj, n.x_proj(), projected.as<float>(), 2 * n.inner,
                                 low.as<float>(), num_rows, rows));
      LinearParams out_proj = Product(layer.out_proj, n.out_proj(), projected.as<float>(),
                                      2 * n.inner, hidden.as<float>(), num_rows, rows);
      out_proj.accumulate = true;
      Linear(gpu->ctx(), out_proj);
    }
    LinearParams head =
        Product(at, n.head(), normed.as<float>(), n.hidden, logits.as<float>(), num_rows, rows);
    NormLinear(gpu->ctx(), norm(n.layers), head);
  });
}

void Shapes(benchmark::internal::Benchmark* b) {
  b->UseManualTime()
      ->Unit(benchmark::kMicrosecond)
      ->MinTime(0.05)
      ->ArgNames({"rows", "out", "in", "norm"});
  const std::vector<Matrix> matrices = {{10240, 2560}, {192, 5120}, {2560, 5120}, {50280, 2560},
                                        {10576, 2560}, {3072, 768}, {80, 1536},   {768, 1536},
                                        {3352, 768},   {50280, 768}};
  for (const Matrix& m : matrices) {
    const bool normed = m.in_dim == 2560 || m.in_dim == 768;
    for (const int rows : {1, 5, 8, 16, 32, 64, 160, 512}) {
      if (m.out_dim == 50280 && rows > 64) continue;
      b->Args({rows, m.out_dim, m.in_dim, normed});
    }
  }
  for (const int rows : {1, 5, 160}) b->Args({rows, 2560, 5120, 2});  // out_proj of mamba2-2.7b
}
BENCHMARK(BM_Linear)->Apply(Shapes);

void ChainRows(benchmark::internal::Benchmark* b) {
  b->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.1)->ArgNames({"rows"});
  for (const int rows : {1, 5, 8, 16}) b->Args({rows});
}
BENCHMARK_CAPTURE(BM_Chain, mamba_2_8b, kMamba2800M)->Apply(ChainRows);
BENCHMARK_CAPTURE(BM_Chain, mamba_130m, kMamba130M)->Apply(ChainRows);

}  // namespace
}  // namespace sidewinder
