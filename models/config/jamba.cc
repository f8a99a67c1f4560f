#include <algorithm>

#include "absl/strings/str_format.h"
#include "models/config/families.h"
#include "models/config/layers.h"
#include "models/config/reading.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

// Layers i with i % period == offset.
struct Period {
  int64_t period;
  int64_t offset;
};

absl::StatusOr<Period> ReadPeriod(const JsonReader& reader, const char* period_key,
                                  const char* offset_key, Period absent) {
  SW_ASSIGN_OR_RETURN(const int64_t period, ReadDim(reader, period_key, absent.period));
  SW_ASSIGN_OR_RETURN(const int64_t offset, reader.Int(offset_key, 0, kMaxDim, absent.offset));
  if (offset >= period) {
    return Invalid(reader, absl::StrFormat("\"%s\" is %d; legal are 0 to %d, below \"%s\"",
                                           offset_key, offset, period - 1, period_key));
  }
  return Period{period, offset};
}

template <class Predicate>
Period PeriodOf(const std::vector<LayerConfig>& layers, Predicate is_member) {
  const auto first = std::find_if(layers.begin(), layers.end(), is_member);
  const auto second =
      first == layers.end() ? first : std::find_if(first + 1, layers.end(), is_member);
  const int64_t offset = first - layers.begin();
  return {
      second == layers.end() ? offset + static_cast<int64_t>(layers.size()) + 1 : second - first,
      offset};
}

bool IsAttention(const LayerConfig& layer) { return layer.mixer == MixerKind::kAttention; }
bool HasExperts(const LayerConfig& layer) {
  return layer.feed_forward == FeedForwardKind::kExperts;
}

absl::Status ReadJambaMixer(const JsonReader& reader, ModelConfig& config) {
  SW_RETURN_IF_ERROR(Require(reader, "mamba_inner_layernorms", true));
  SW_ASSIGN_OR_RETURN(config.inner_size, ReadExpanded(reader, "mamba_expand", config.hidden_size));
  SW_ASSIGN_OR_RETURN(config.state_size, reader.Int("mamba_d_state", 1, kMaxStateSize, 16));
  SW_ASSIGN_OR_RETURN(config.conv_kernel, reader.Int("mamba_d_conv", 1, kMaxConvKernel, 4));
  SW_ASSIGN_OR_RETURN(config.time_step_rank,
                      ReadTimeStepRank(reader, "mamba_dt_rank", config.hidden_size));
  SW_ASSIGN_OR_RETURN(config.use_conv_bias, reader.Bool("mamba_conv_bias", true));
  SW_ASSIGN_OR_RETURN(config.use_bias, reader.Bool("mamba_proj_bias", false));
  config.use_out_bias = config.use_bias;
  config.inner_norm_eps = config.norm_eps;
  return CheckInnerSize(reader, config);
}

}  // namespace

absl::StatusOr<ModelConfig> ParseJamba(const JsonReader& reader) {
  ModelConfig config;
  config.family = ModelFamily::kJamba;
  SW_RETURN_IF_ERROR(ReadFrame(reader,
                               {.hidden_size = 4096,
                                .num_layers = 32,
                                .vocab_size = 65536,
                                .eps_key = "rms_norm_eps",
                                .eps = 1e-6,
                                .tied = false,
                                .tokens = {1, 2, 0}},
                               config));
  SW_ASSIGN_OR_RETURN(const Period attention,
                      ReadPeriod(reader, "attn_layer_period", "attn_layer_offset", {8, 4}));
  SW_ASSIGN_OR_RETURN(const Period experts,
                      ReadPeriod(reader, "expert_layer_period", "expert_layer_offset", {2, 1}));
  SW_ASSIGN_OR_RETURN(
      const int64_t num_experts,
      reader.Int(KeyOf(reader, {"num_experts", "num_local_experts"}), 0, kMaxExperts, 16));
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const bool is_attention = i % attention.period == attention.offset;
    const bool has_experts = num_experts > 1 && i % experts.period == experts.offset;
    config.layers[i] = {is_attention ? MixerKind::kAttention : MixerKind::kRecurrent,
                        has_experts ? FeedForwardKind::kExperts : FeedForwardKind::kDense};
  }
  if (HasMixer(config, MixerKind::kAttention)) {
    SW_RETURN_IF_ERROR(ReadAttention(reader, {.num_heads = 32, .num_kv_heads = 8}, config));
  }
  if (HasMixer(config, MixerKind::kRecurrent)) {
    SW_RETURN_IF_ERROR(ReadJambaMixer(reader, config));
  }
  SW_ASSIGN_OR_RETURN(const int64_t inner_size, ReadDim(reader, "intermediate_size", 14336));
  if (HasFeedForward(config, FeedForwardKind::kDense)) config.feed_forward.inner_size = inner_size;
  if (HasFeedForward(config, FeedForwardKind::kExperts)) {
    config.experts.num_experts = num_experts;
    config.experts.inner_size = inner_size;
    SW_ASSIGN_OR_RETURN(config.experts.num_chosen,
                        reader.Int("num_experts_per_tok", 1, kMaxChosenExperts, 2));
    SW_RETURN_IF_ERROR(CheckExperts(reader, config.experts));
  }
  SW_RETURN_IF_ERROR(RequireOneOf(reader, "hidden_act", "silu", {"silu"}));
  return config;
}

Json JambaJson(const ModelConfig& config) {
  Json json = FrameJson(config, "rms_norm_eps");
  const Period attention = PeriodOf(config.layers, IsAttention);
  const Period experts = PeriodOf(config.layers, HasExperts);
  json.update({{"attn_layer_period", attention.period},
               {"attn_layer_offset", attention.offset},
               {"expert_layer_period", experts.period},
               {"expert_layer_offset", experts.offset},
               {"num_experts", config.experts.num_experts}});
  if (config.attention.num_heads > 0) WriteAttention(config, json);
  if (config.inner_size > 0) {
    json.update({{"mamba_expand", static_cast<double>(config.inner_size) / config.hidden_size},
                 {"mamba_d_state", config.state_size},
                 {"mamba_d_conv", config.conv_kernel},
                 {"mamba_dt_rank", config.time_step_rank},
                 {"mamba_conv_bias", config.use_conv_bias},
                 {"mamba_proj_bias", config.use_bias}});
  }
  json["intermediate_size"] = std::max(config.feed_forward.inner_size, config.experts.inner_size);
  if (config.experts.num_experts > 0) json["num_experts_per_tok"] = config.experts.num_chosen;
  return json;
}

}  // namespace sidewinder
