// Nemotron-H, Nemotron Nano 2 and 3.
#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "models/config/families.h"
#include "models/config/layers.h"
#include "models/config/reading.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

// One letter a layer, from transformers' spelled-out list or the older pattern of such letters.
absl::StatusOr<std::string> ReadNemotronLayers(const JsonReader& reader) {
  const char* key = KeyOf(reader, {"layers_block_type", "layer_types"});
  if (!reader.Has(key)) {
    SW_ASSIGN_OR_RETURN(const std::string pattern,
                        reader.String("hybrid_override_pattern", "ME*-"));
    if (pattern.find_first_not_of("ME*-") != std::string::npos || pattern.empty() ||
        static_cast<int64_t>(pattern.size()) > kMaxLayers) {
      return Invalid(reader, absl::StrFormat("\"hybrid_override_pattern\" is %s; legal are 1 to %d "
                                             "letters M, *, - and E",
                                             ShortDump(Json(pattern)), kMaxLayers));
    }
    return pattern;
  }
  SW_ASSIGN_OR_RETURN(const std::vector<std::string> names, ReadNames(reader, key));
  if (names.empty()) return Invalid(reader, absl::StrFormat("\"%s\" is empty", key));
  std::string pattern;
  for (const std::string& name : names) {
    if (name == "mamba" || name == "linear_attention") {
      pattern += 'M';
    } else if (name == "attention" || name == "full_attention") {
      pattern += '*';
    } else if (name == "mlp") {
      pattern += '-';
    } else if (name == "moe") {
      pattern += 'E';
    } else {
      return Invalid(reader, absl::StrFormat("\"%s\"[%d] is \"%s\"; legal are \"mamba\", "
                                             "\"linear_attention\", \"attention\", "
                                             "\"full_attention\", \"mlp\" and \"moe\"",
                                             key, pattern.size(), absl::Utf8SafeCEscape(name)));
    }
  }
  return pattern;
}

LayerConfig NemotronLayer(char letter) {
  switch (letter) {
    case 'M':
      return {MixerKind::kRecurrent, FeedForwardKind::kNone};
    case '*':
      return {MixerKind::kAttention, FeedForwardKind::kNone};
    case 'E':
      return {MixerKind::kNone, FeedForwardKind::kExperts};
    default:
      return {MixerKind::kNone, FeedForwardKind::kDense};
  }
}

absl::Status ReadNemotronMixer(const JsonReader& reader, ModelConfig& config) {
  SW_RETURN_IF_ERROR(RequireOneOf(reader, "mamba_hidden_act", "silu", {"silu"}));
  SW_ASSIGN_OR_RETURN(config.num_heads, ReadDim(reader, "mamba_num_heads", 128));
  SW_ASSIGN_OR_RETURN(config.head_dim, ReadDim(reader, "mamba_head_dim", 64));
  config.inner_size = config.num_heads * config.head_dim;  // "expand" means nothing
  SW_ASSIGN_OR_RETURN(config.num_groups,
                      ReadDim(reader, KeyOf(reader, {"mamba_n_groups", "n_groups"}), 8));
  SW_ASSIGN_OR_RETURN(config.state_size, reader.Int("ssm_state_size", 1, kMaxStateSize, 128));
  SW_ASSIGN_OR_RETURN(config.conv_kernel, reader.Int(KeyOf(reader, {"mamba_d_conv", "conv_kernel"}),
                                                     1, kMaxConvKernel, 4));
  SW_ASSIGN_OR_RETURN(config.use_conv_bias,
                      reader.Bool(KeyOf(reader, {"mamba_conv_bias", "use_conv_bias"}), true));
  SW_ASSIGN_OR_RETURN(config.use_bias, reader.Bool("use_bias", false));
  config.use_out_bias = config.use_bias;
  config.gated_norm_eps = config.norm_eps;
  SW_RETURN_IF_ERROR(
      ReadTimeStepLimit(reader, KeyOf(reader, {"mamba_dt_limit", "time_step_limit"}), config));
  return CheckMamba2(reader, config.inner_size / config.num_groups, config);
}

absl::Status ReadNemotronExperts(const JsonReader& reader, ModelConfig& config) {
  ExpertsConfig& experts = config.experts;
  experts.score = ExpertScore::kSigmoid;
  SW_ASSIGN_OR_RETURN(
      experts.num_experts,
      reader.Int(KeyOf(reader, {"n_routed_experts", "num_local_experts"}), 1, kMaxExperts, 8));
  SW_ASSIGN_OR_RETURN(experts.num_chosen,
                      reader.Int("num_experts_per_tok", 1, kMaxChosenExperts, 2));
  SW_ASSIGN_OR_RETURN(experts.inner_size, ReadDim(reader, "moe_intermediate_size", 7688));
  SW_ASSIGN_OR_RETURN(experts.shared_inner_size,
                      ReadDim(reader, "moe_shared_expert_intermediate_size", 7688));
  if (reader.Has("moe_latent_size")) {
    SW_ASSIGN_OR_RETURN(experts.latent_size, reader.Int("moe_latent_size", 1, kMaxDim));
  }
  SW_ASSIGN_OR_RETURN(experts.normalize, reader.Bool("norm_topk_prob", true));
  SW_ASSIGN_OR_RETURN(const double scale, ReadMultiplier(reader, "routed_scaling_factor"));
  experts.scale = static_cast<float>(scale);
  SW_ASSIGN_OR_RETURN(experts.num_groups, reader.Int("n_group", 1, kMaxExperts, 1));
  SW_ASSIGN_OR_RETURN(experts.num_chosen_groups, reader.Int("topk_group", 1, kMaxExperts, 1));
  SW_RETURN_IF_ERROR(Require(reader, "mlp_bias", false));  // of experts; dense layers may have it
  return CheckExperts(reader, experts);
}

}  // namespace

absl::StatusOr<ModelConfig> ParseNemotronH(const JsonReader& reader) {
  ModelConfig config;
  config.family = ModelFamily::kNemotronH;
  SW_ASSIGN_OR_RETURN(const std::string pattern, ReadNemotronLayers(reader));
  SW_RETURN_IF_ERROR(ReadFrame(reader,
                               {.hidden_size = 4096,
                                .num_layers = static_cast<int64_t>(pattern.size()),
                                .vocab_size = 131072,
                                .eps_key = "layer_norm_epsilon",
                                .eps = 1e-5,
                                .tied = false,
                                .tokens = {1, 2, 0}},
                               config));
  if (config.num_layers != static_cast<int64_t>(pattern.size())) {
    return Invalid(reader, absl::StrFormat("\"num_hidden_layers\" is %d, but %d layers are listed; "
                                           "they must agree",
                                           config.num_layers, pattern.size()));
  }
  std::transform(pattern.begin(), pattern.end(), config.layers.begin(), NemotronLayer);

  if (HasMixer(config, MixerKind::kRecurrent)) {
    SW_RETURN_IF_ERROR(ReadNemotronMixer(reader, config));
  }
  if (HasMixer(config, MixerKind::kAttention)) {  // without rotation, whatever the file says of it
    SW_RETURN_IF_ERROR(
        ReadAttention(reader,
                      {.num_heads = 32,
                       .num_kv_heads = 8,
                       .head_dim = 128,
                       .head_dim_key = KeyOf(reader, {"head_dim", "attention_head_dim"})},
                      config));
    SW_RETURN_IF_ERROR(Require(reader, "attention_bias", false));
  }
  SW_RETURN_IF_ERROR(RequireOneOf(reader, "mlp_hidden_act", "relu2", {"relu2"}));
  config.feed_forward.activation = Activation::kRelu2;
  config.feed_forward.gated = false;
  if (HasFeedForward(config, FeedForwardKind::kDense)) {
    SW_ASSIGN_OR_RETURN(config.feed_forward.inner_size,
                        ReadDim(reader, "intermediate_size", 21504));
    SW_ASSIGN_OR_RETURN(config.feed_forward.bias, reader.Bool("mlp_bias", false));
  }
  if (HasFeedForward(config, FeedForwardKind::kExperts)) {
    SW_RETURN_IF_ERROR(ReadNemotronExperts(reader, config));
  }
  return config;
}

Json NemotronHJson(const ModelConfig& config) {
  Json json = FrameJson(config, "layer_norm_epsilon");
  std::string pattern;
  for (const LayerConfig& layer : config.layers) {
    for (const char letter : {'M', '*', 'E', '-'}) {
      if (layer == NemotronLayer(letter)) pattern += letter;
    }
  }
  json["hybrid_override_pattern"] = pattern;
  if (config.attention.num_heads > 0) WriteAttention(config, json);
  if (config.inner_size > 0) {
    json.update({{"mamba_num_heads", config.num_heads},
                 {"mamba_head_dim", config.head_dim},
                 {"n_groups", config.num_groups},
                 {"ssm_state_size", config.state_size},
                 {"conv_kernel", config.conv_kernel},
                 {"use_conv_bias", config.use_conv_bias},
                 {"use_bias", config.use_bias},
                 {"gated_norm_group", config.gated_norm_group}});
    json["time_step_limit"] = TimeStepLimitJson(config);
  }
  if (config.feed_forward.inner_size > 0) {
    json["intermediate_size"] = config.feed_forward.inner_size;
    json["mlp_bias"] = config.feed_forward.bias;
  }
  const ExpertsConfig& experts = config.experts;
  if (experts.num_experts > 0) {
    json.update({{"n_routed_experts", experts.num_experts},
                 {"num_experts_per_tok", experts.num_chosen},
                 {"moe_intermediate_size", experts.inner_size},
                 {"moe_shared_expert_intermediate_size", experts.shared_inner_size},
                 {"norm_topk_prob", experts.normalize},
                 {"routed_scaling_factor", experts.scale},
                 {"n_group", experts.num_groups},
                 {"topk_group", experts.num_chosen_groups}});
    if (experts.latent_size > 0) json["moe_latent_size"] = experts.latent_size;
  }
  return json;
}

}  // namespace sidewinder
