#include "sidewinder/model.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "kernels/common/copy.h"
#include "kernels/common/logits_simd.h"
#include "models/config/model_config.h"
#include "models/model_runner.h"
#include "models/registry.h"
#include "models/synthetic.h"
#include "models/weight_loader.h"
#include "runtime/device.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

constexpr int kEvaluationChunk{64};  // rows: enough to amortise the weights, little memory

absl::StatusOr<std::optional<DType>> ResolveDType(const std::string& dtype) {
  if (dtype == "auto") return std::optional<DType>();
  for (const DType known : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    if (dtype == Name(known)) return std::optional<DType>(known);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("dtype \"", dtype, "\"; legal are auto, float32, bfloat16, float16"));
}

// Type of the keys and values.
absl::StatusOr<DType> ResolveKvDType(const std::string& kv_dtype, const LanguageModel& network,
                                     const Device& device) {
  if (kv_dtype == "auto") {
    const bool narrow =
        device.type() == DeviceType::kCuda && network.figures().matrix_dtype != DType::kFloat32;
    return narrow ? DType::kBFloat16 : DType::kFloat32;
  }
  for (const DType known : {DType::kFloat32, DType::kBFloat16}) {
    if (kv_dtype == Name(known)) return known;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("kv_dtype \"", kv_dtype, "\"; legal are auto, float32, bfloat16"));
}

ModelInfo Describe(const LanguageModel& network, DType kv_dtype) {
  const ModelConfig& config = network.config();
  const WeightFigures figures = network.figures();
  ModelInfo info;
  info.family = Name(config.family);
  info.dtype = Name(figures.matrix_dtype);
  info.num_layers = config.num_layers;
  info.hidden_size = config.hidden_size;
  info.vocab_size = config.vocab_size;
  info.vocab_limit = config.vocab_limit;
  info.num_parameters = figures.num_parameters;
  info.weight_bytes = figures.bytes_per_pass;
  const StateShape state = network.state_shape();
  for (const RecurrentShape& shape : state.recurrent) {
    constexpr int64_t kElement{sizeof(float)};
    info.state_bytes += kElement * shape.state_elements;
    info.conv_window_bytes += kElement * (shape.conv_width - 1) * shape.conv_dim;
    info.log_row_bytes += kElement * shape.log_row_elements();
  }
  info.kv_bytes = state.kv.elements_per_position() * static_cast<int64_t>(SizeOf(kv_dtype));
  info.kv_dtype = Name(kv_dtype);
  info.eos_tokens = config.eos_token_ids;
  info.bos_token = config.bos_token_id;
  info.fingerprint = figures.fingerprint;
  return info;
}

absl::Status CheckTokens(const Model& model, absl::Span<const int32_t> tokens, size_t at_least) {
  if (tokens.size() < at_least) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%d tokens given; at least %d are needed", tokens.size(), at_least));
  }
  const int64_t vocab_size = model.info().vocab_size;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= vocab_size) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "token %d at position %d; legal are 0 to %d", tokens[i], i, vocab_size - 1));
    }
  }
  return absl::OkStatus();
}

// -log softmax(logits)[target], in double.
double NegativeLogLikelihood(const float* logits, int64_t vocab_size, int32_t target) {
  const double max = logits[ArgMax(logits, vocab_size)];
  double sum = 0.0;
  for (int64_t i = 0; i < vocab_size; ++i) sum += std::exp(logits[i] - max);
  return std::log(sum) + max - logits[target];
}

}  // namespace

Model::Model(ModelInfo info, std::unique_ptr<const LanguageModel> network,
             std::shared_ptr<const Tokenizer> tokenizer, std::shared_ptr<const Device> device)
    : info_(std::move(info)),
      network_(std::move(network)),
      tokenizer_(std::move(tokenizer)),
      device_(std::move(device)) {}

Model::~Model() = default;

absl::StatusOr<std::shared_ptr<const Model>> Model::Load(const std::string& folder,
                                                         const ModelOptions& options) {
  SW_ASSIGN_OR_RETURN(const std::optional<DType> dtype, ResolveDType(options.dtype));
  SW_ASSIGN_OR_RETURN(std::shared_ptr<const Device> device, Device::Open(options.device));
  const WeightLoaderOptions loading = {.device = device, .matrix_dtype = dtype};
  absl::string_view preset = folder;
  const bool synthetic = absl::ConsumePrefix(&preset, kSyntheticPrefix);
  SW_ASSIGN_OR_RETURN(const ModelConfig config,
                      synthetic ? SyntheticConfig(preset) : LoadConfig(folder));
  std::unique_ptr<const LanguageModel> network;
  std::shared_ptr<const Tokenizer> tokenizer;
  if (synthetic) {
    SW_ASSIGN_OR_RETURN(
        network, CreateLanguageModel(config, WeightLoader(SyntheticWeights{folder}, loading)));
  } else {
    SW_ASSIGN_OR_RETURN(auto reader, WeightsReader::Open(folder));
    SW_ASSIGN_OR_RETURN(network,
                        CreateLanguageModel(config, WeightLoader(std::move(reader), loading)));
    const std::filesystem::path tokenizer_path = std::filesystem::path(folder) / "tokenizer.json";
    std::error_code error;
    if (std::filesystem::exists(tokenizer_path, error)) {
      SW_ASSIGN_OR_RETURN(tokenizer, Tokenizer::Load(tokenizer_path.string()));
    }
  }
  SW_ASSIGN_OR_RETURN(const DType kv_dtype, ResolveKvDType(options.kv_dtype, *network, *device));
  ModelInfo info = Describe(*network, kv_dtype);
  if (tokenizer != nullptr) {
    info.vocab_limit = std::min<int64_t>(info.vocab_limit, tokenizer->vocab_size());
  }
  info.path = folder;
  info.device = device->name();
  info.device_description = device->description();
  return std::make_shared<const Model>(std::move(info), std::move(network), std::move(tokenizer),
                                       std::move(device));
}

absl::Status EvaluateLogits(
    const Model& model, absl::Span<const int32_t> tokens, int num_threads,
    const std::function<absl::Status(int64_t first, absl::Span<const float> logits)>& on_rows) {
  SW_RETURN_IF_ERROR(CheckTokens(model, tokens, 1));
  ModelRunnerOptions options;
  options.prefill_chunk = kEvaluationChunk;
  options.prefill_logits = true;
  SW_ASSIGN_OR_RETURN(
      auto runner,
      ModelRunner::Create(std::shared_ptr<const Model>(std::shared_ptr<void>(), &model), options));
  SW_ASSIGN_OR_RETURN(const std::unique_ptr<Stream> stream,
                      model.device().CreateStream(num_threads));
  ExecutionContext& ctx = stream->context();
  SW_RETURN_IF_ERROR(runner->Reserve(ctx, /*slot=*/0, static_cast<int64_t>(tokens.size())));
  SW_ASSIGN_OR_RETURN(DeviceMemory on_device,
                      model.device().Allocate(tokens.size() * sizeof(int32_t), "tokens"));
  CopyIn(ctx, on_device.data(), tokens.data(), on_device.size());
  const int64_t vocab_size = model.info().vocab_size;
  const int32_t total = static_cast<int32_t>(tokens.size());
  std::vector<float> logits(kEvaluationChunk * vocab_size);
  for (int32_t first = 0; first < total; first += kEvaluationChunk) {
    const int32_t num_rows = std::min(kEvaluationChunk, total - first);
    runner->PrefillChunk(ctx, /*slot=*/0, on_device.as<int32_t>(), num_rows, /*logits=*/true);
    CopyOut(ctx, logits.data(), runner->logits(), num_rows * vocab_size * sizeof(float));
    SW_RETURN_IF_ERROR(stream->Synchronize());
    SW_RETURN_IF_ERROR(on_rows(first, absl::MakeConstSpan(logits.data(), num_rows * vocab_size)));
  }
  return absl::OkStatus();
}

double ScoreResult::Perplexity() const {
  return num_tokens == 0 ? 1.0 : std::exp(negative_log_likelihood / num_tokens);
}

absl::StatusOr<ScoreResult> Score(const Model& model, absl::Span<const int32_t> tokens,
                                  int num_threads) {
  SW_RETURN_IF_ERROR(CheckTokens(model, tokens, 2));
  ScoreResult result;
  const int64_t vocab_size = model.info().vocab_size;
  SW_RETURN_IF_ERROR(EvaluateLogits(
      model, tokens, num_threads, [&](int64_t first, absl::Span<const float> logits) {
        const int64_t num_rows = static_cast<int64_t>(logits.size()) / vocab_size;
        for (int64_t r = 0; r < num_rows; ++r) {
          const size_t target = first + r + 1;
          if (target >= tokens.size()) break;
          result.negative_log_likelihood +=
              NegativeLogLikelihood(logits.data() + r * vocab_size, vocab_size, tokens[target]);
          ++result.num_tokens;
        }
        return absl::OkStatus();
      }));
  return result;
}

}  // namespace sidewinder
