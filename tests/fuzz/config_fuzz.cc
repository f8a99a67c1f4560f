// Any text as a config.json: an error that names the file, or a config within its limits that is
// written and read back as itself.
#include <cstddef>
#include <cstdint>

#include "models/config/model_config.h"
#include "runtime/json.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

void CheckRecurrence(const ModelConfig& config) {
  SW_CHECK(config.inner_size >= 1 && config.inner_size <= kMaxDim);
  SW_CHECK(config.state_size >= 1 && config.state_size <= kMaxStateSize);
  SW_CHECK(config.conv_dim() >= 1 && config.conv_dim() <= 3 * kMaxDim);
  if (config.repeated_dim > 0) {
    SW_CHECK(config.inner_size % config.repeated_dim == 0);
    SW_CHECK(config.repeated_dim % config.state_size == 0);
  }
  if (config.time_step_rank > 0) {  // Mamba-1
    SW_CHECK(config.num_heads == 0 && config.time_step_rank <= kMaxDim);
    return;
  }
  SW_CHECK(config.num_heads * config.head_dim == config.inner_size);
  SW_CHECK(config.inner_size % config.gated_norm_group == 0);
  SW_CHECK(config.time_step_min >= 0.0f && config.time_step_min <= config.time_step_max);
  const int64_t groups = config.num_key_heads > 0 ? config.num_key_heads : config.num_groups;
  SW_CHECK(config.num_heads % groups == 0);
}

void CheckAttention(const AttentionConfig& attention) {
  SW_CHECK(attention.num_heads % attention.num_kv_heads == 0);
  SW_CHECK(attention.head_dim % 2 == 0 && attention.head_dim <= kMaxAttentionHeadDim);
  SW_CHECK(attention.num_heads * attention.head_dim <= kMaxDim);
  SW_CHECK(attention.rope.dim % 2 == 0 && attention.rope.dim <= attention.head_dim);
  SW_CHECK(attention.rope.theta > 0 && attention.rope.factor > 0);
}

void CheckExperts(const ExpertsConfig& experts) {
  SW_CHECK(experts.num_experts <= kMaxExperts && experts.num_chosen <= kMaxChosenExperts);
  SW_CHECK(experts.num_chosen >= 1 && experts.num_chosen <= experts.num_experts);
  SW_CHECK(experts.num_experts * experts.inner_size <= kMaxDim);
  SW_CHECK(experts.num_experts % experts.num_groups == 0);
  SW_CHECK(experts.num_chosen_groups <= experts.num_groups);
}

void CheckLimits(const ModelConfig& config) {
  for (const int64_t dim : {config.hidden_size, config.vocab_size, config.vocab_limit}) {
    SW_CHECK(dim >= 1 && dim <= 2 * kMaxDim) << dim;
  }
  SW_CHECK(config.num_layers >= 1 && config.num_layers <= kMaxLayers);
  SW_CHECK(static_cast<int64_t>(config.layers.size()) == config.num_layers);
  SW_CHECK(config.vocab_limit <= config.vocab_size);
  SW_CHECK(config.bos_token_id < config.vocab_size);
  SW_CHECK(config.norm_eps > 0.0f && config.norm_eps <= 1.0f);
  SW_CHECK(config.feed_forward.inner_size <= kMaxDim);
  for (const LayerConfig& layer : config.layers) {
    const bool both = layer.mixer == MixerKind::kBoth;
    if (both || layer.mixer == MixerKind::kRecurrent) CheckRecurrence(config);
    if (both || layer.mixer == MixerKind::kAttention) CheckAttention(config.attention);
    if (layer.feed_forward == FeedForwardKind::kExperts) CheckExperts(config.experts);
    if (layer.feed_forward == FeedForwardKind::kDense) {
      SW_CHECK(config.feed_forward.inner_size > 0);
    }
  }
}

}  // namespace
}  // namespace sidewinder

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sidewinder;
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<Json> json = ParseJson(text, "fuzz");
  if (!json.ok()) return 0;
  const absl::StatusOr<ModelConfig> config = ParseConfig(*json, "fuzz");
  if (!config.ok()) {
    SW_CHECK(config.status().message().find("fuzz") != absl::string_view::npos) << config.status();
    return 0;
  }
  CheckLimits(*config);
  const Json written = ToJson(*config);
  const absl::StatusOr<ModelConfig> again = ParseConfig(written, "again");
  SW_CHECK(again.ok() && *again == *config) << again.status() << "\n" << written.dump();
  return 0;
}
