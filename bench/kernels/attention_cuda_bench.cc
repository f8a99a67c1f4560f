// Attention of one layer on a GPU: decoding one sequence or many, and prefill, over a bfloat16
// cache of 8 heads of 128 elements that 32 query heads share.
//
// A graph of launches one behind the other is timed, each on a cache of its own: as many as the
// second-level cache cannot hold together. bytes/s counts the keys and values that a pass sees,
// once each, and the activations; floor_us is what they take at 3.1 TB/s, which an H100 reads at
// best, of_floor the part of the time that this is. For prefill flops/s is the number that matters.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bench/kernels/time_graph.h"
#include "kernels/attention.h"
#include "kernels/common/copy.h"
#include "kernels/pack_weights.h"
#include "runtime/device.h"

namespace sidewinder {
namespace {

constexpr double kPeakBandwidth{3.1e12};
constexpr double kColdBytes{192e6};
constexpr int kMaxCaches{32};
constexpr int64_t kHeads{32}, kKvHeads{8}, kHeadDim{128};
constexpr int64_t kRowElements{(kHeads + 2 * kKvHeads) * kHeadDim};
constexpr int64_t kPartBytes{kKvHeads * kKvPagePositions * kHeadDim * 2};  // keys of a page

struct Pass {
  int64_t sequences, rows, context;  // rows a sequence, behind context - rows positions

  double CacheBytes() const { return double{2} * 2 * sequences * context * kKvHeads * kHeadDim; }
  // Inputs and outputs once, and prepared queries written and read.
  double RowBytes() const {
    return double{4} * sequences * rows * (kRowElements + 3 * kHeads * kHeadDim);
  }
  double Flops() const {
    const double seen = rows * (context - (static_cast<double>(rows) - 1) / 2);
    return 4 * seen * sequences * kHeads * kHeadDim;
  }
};

class Memory {
 public:
  explicit Memory(const Device& device) : device_(device) {}

  // Zeroed; null if there is not enough.
  void* Take(int64_t bytes) {
    auto memory = device_.Allocate(bytes, "a benchmark");
    if (!memory.ok()) return nullptr;
    pieces_.push_back(std::move(*memory));
    return pieces_.back().data();
  }
  template <class T>
  T* Upload(ExecutionContext& ctx, const std::vector<T>& values) {
    void* to = Take(values.size() * sizeof(T));
    CopyIn(ctx, to, values.data(), values.size() * sizeof(T));
    return static_cast<T*>(to);
  }

 private:
  const Device& device_;
  std::vector<DeviceMemory> pieces_;
};

RowPlan MakePlan(Memory& memory, ExecutionContext& ctx, const Pass& pass) {
  std::vector<SequenceRows> sequences;
  for (int64_t s = 0; s < pass.sequences; ++s) {
    sequences.push_back({.slot = static_cast<int32_t>(s),
                         .first_row = static_cast<int32_t>(s * pass.rows),
                         .num_rows = static_cast<int32_t>(pass.rows),
                         .consumed = static_cast<int32_t>(pass.context - pass.rows)});
  }
  const int32_t rows = static_cast<int32_t>(pass.sequences * pass.rows);
  int32_t* counts =
      memory.Upload(ctx, std::vector<int32_t>{rows, static_cast<int32_t>(pass.sequences), 0});
  return {.num_rows = counts,
          .num_sequences = counts + 1,
          .num_logit_rows = counts + 2,
          .tokens = nullptr,
          .sequences = memory.Upload(ctx, sequences),
          .logit_rows = nullptr,
          .max_rows = rows,
          .max_sequences = static_cast<int32_t>(pass.sequences)};
}

// Pages of random keys and values for all sequences; null without memory.
void* const* const* MakeCache(Memory& memory, ExecutionContext& ctx, const Pass& pass,
                              uint64_t seed) {
  const int64_t pages = (pass.context + kKvPagePositions - 1) / kKvPagePositions;
  const int64_t elements = pass.sequences * pages * kPartBytes;  // of 2 bytes
  void* cache = memory.Take(2 * elements);
  if (cache == nullptr) return nullptr;
  // A float32 fill would not be random bfloat16; packed weights are, in some order.
  if (LaunchRandomWeights(*ctx.cuda, {.weights = cache,
                                      .dtype = DType::kBFloat16,
                                      .out_dim = elements / (kKvHeads * kHeadDim),
                                      .in_dim = kKvHeads * kHeadDim,
                                      .scale = 1.0f,
                                      .seed = seed}) != 0) {
    return nullptr;
  }
  std::vector<void* const*> tables;
  for (int64_t s = 0; s < pass.sequences; ++s) {
    std::vector<void*> table;
    for (int64_t j = 0; j < pages; ++j) {
      table.push_back(static_cast<char*>(cache) + (s * pages + j) * 2 * kPartBytes);
    }
    tables.push_back(memory.Upload(ctx, table));
  }
  return memory.Upload(ctx, tables);
}

void BM_AttentionCuda(benchmark::State& state) {
  auto device = Device::Open("cuda");
  if (!device.ok()) return state.SkipWithError(std::string(device.status().message()).c_str());
  auto stream = (*device)->CreateStream();
  if (!stream.ok()) return state.SkipWithError("no stream");
  ExecutionContext& ctx = (*stream)->context();
  const Pass pass{state.range(0), state.range(1), state.range(2)};
  const int caches =
      std::clamp(static_cast<int>(kColdBytes / pass.CacheBytes()) + 1, 2, kMaxCaches);
  Memory memory(**device);
  const int64_t rows = pass.sequences * pass.rows;
  auto* input = static_cast<float*>(memory.Take(rows * kRowElements * 4));
  auto* output = static_cast<float*>(memory.Take(rows * kHeads * kHeadDim * 4));
  auto* inv_freq = static_cast<float*>(memory.Take(kHeadDim / 2 * 4));
  if (input == nullptr || output == nullptr || inv_freq == nullptr ||
      LaunchRandomWeights(*ctx.cuda, {.weights = input,
                                      .dtype = DType::kFloat32,
                                      .out_dim = rows,
                                      .in_dim = kRowElements,
                                      .scale = 1.0f,
                                      .seed = 1}) != 0) {
    return state.SkipWithError("no memory");
  }
  AttentionParams params = {.query = input,
                            .key = input + kHeads * kHeadDim,
                            .value = input + (kHeads + kKvHeads) * kHeadDim,
                            .inv_freq = inv_freq,
                            .output = output,
                            .num_heads = kHeads,
                            .num_kv_heads = kKvHeads,
                            .head_dim = kHeadDim,
                            .rotary_dim = kHeadDim,
                            .window = 0,
                            .scale = 1.0f / std::sqrt(static_cast<float>(kHeadDim)),
                            .norm_eps = 1e-6f,
                            .query_stride = kRowElements,
                            .key_stride = kRowElements,
                            .value_stride = kRowElements,
                            .output_stride = kHeads * kHeadDim,
                            .cache = {.tables = nullptr,
                                      .key_offset = 0,
                                      .value_offset = kPartBytes,
                                      .dtype = DType::kBFloat16},
                            .max_position = pass.context,
                            .plan = MakePlan(memory, ctx, pass)};
  std::vector<void* const* const*> tables;
  for (int i = 0; i < caches; ++i) {
    tables.push_back(MakeCache(memory, ctx, pass, 2 + i));
    if (tables.back() == nullptr) return state.SkipWithError("no memory");
  }
  const double best = TimeGraph(state, *ctx.cuda, caches,
                                [&] {
                                  for (const auto& table : tables) {
                                    params.cache.tables = table;
                                    Attention(ctx, params);
                                  }
                                }) /
                      caches;
  if (const absl::Status status = (*stream)->Synchronize(); !status.ok()) {
    state.SkipWithError(std::string(status.message()).c_str());
  }
  state.SetLabel((*device)->description());
  const double bytes = pass.CacheBytes() + pass.RowBytes();
  state.counters["best_us"] = best * 1e6;
  state.counters["kv_bytes"] = pass.CacheBytes();
  state.counters["floor_us"] = bytes / kPeakBandwidth * 1e6;
  state.counters["of_floor"] = bytes / kPeakBandwidth / best;
  state.counters["bytes/s"] = bytes / best;
  state.counters["flops/s"] = pass.Flops() / best;
}

void Passes(benchmark::internal::Benchmark* b) {
  b->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.05);
  b->ArgNames({"sequences", "rows", "context"});
  for (const int context : {512, 4096, 32768, 262144}) {
    for (const int rows : {1, 5}) b->Args({1, rows, context});
  }
  for (const int rows : {1, 5}) b->Args({32, rows, 2048});
  b->Args({1, 512, 2048})->Args({1, 512, 512})->Args({1, 512, 16384});
}
BENCHMARK(BM_AttentionCuda)->Apply(Passes);

}  // namespace
}  // namespace sidewinder
