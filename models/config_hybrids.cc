// Zamba2, Jamba, Nemotron-H and Qwen3-Next.
#include <algorithm>
#include <cmath>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "models/config_families.h"
#include "models/config_reading.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

// Zamba2's layers: names of transformers 5, of transformers 4, or of Zyphra's fork.
absl::Status ReadZamba2Layers(const JsonReader& reader, ModelConfig& config) {
  constexpr const char* kKey = "layers_block_type";
  std::vector<std::string> names;
  if (reader.Has(kKey)) {
    SW_ASSIGN_OR_RETURN(names, ReadNames(reader, kKey));
  } else {  // the class's own list
    names.assign(54, "mamba");
    for (const int i : {6, 12, 18, 24, 30, 36, 42, 47, 51}) names[i] = "hybrid";
  }
  if (static_cast<int64_t>(names.size()) != config.num_layers) {
    return Invalid(reader, absl::StrFormat("\"%s\" has %d names, by default 54; legal is one for "
                                           "each of the %d layers",
                                           kKey, names.size(), config.num_layers));
  }
  int64_t num_hybrid = 0;
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] == "hybrid" || names[i] == "g") {
      config.layers[i] = {MixerKind::kBoth, FeedForwardKind::kDense};
      ++num_hybrid;
    } else if (names[i] != "mamba" && names[i] != "linear_attention" && names[i] != "m") {
      return Invalid(reader, absl::StrFormat("\"%s\"[%d] is \"%s\"; legal are \"mamba\", "
                                             "\"linear_attention\", \"m\", \"hybrid\" and \"g\"",
                                             kKey, i, absl::Utf8SafeCEscape(names[i])));
    }
  }
  if (num_hybrid == 0) {
    return Unsupported(reader, absl::StrFormat("\"%s\" has no \"hybrid\" layer; supported are "
                                               "models with one",
                                               kKey));
  }
  SW_ASSIGN_OR_RETURN(config.num_shared_blocks, reader.Int("num_mem_blocks", 1, num_hybrid, 1));
  return absl::OkStatus();
}

// The fork's names of fields that transformers renamed come second.
absl::Status ReadZamba2Mixer(const JsonReader& reader, ModelConfig& config) {
  SW_ASSIGN_OR_RETURN(config.inner_size,
                      ReadExpanded(reader, KeyOf(reader, {"mamba_expand", "expansion_factor"}),
                                   config.hidden_size));
  SW_RETURN_IF_ERROR(CheckInnerSize(reader, config));
  // The class counts heads, by default 8; the fork says how wide they are, by default 64.
  const bool fork =
      !reader.Has("n_mamba_heads") && (reader.Has("mamba_headdim") || reader.Has("state_size"));
  if (fork) {
    SW_ASSIGN_OR_RETURN(config.head_dim, ReadDim(reader, "mamba_headdim", 64));
    config.num_heads = config.inner_size / config.head_dim;
  } else {
    SW_ASSIGN_OR_RETURN(config.num_heads, ReadDim(reader, "n_mamba_heads", 8));
    SW_ASSIGN_OR_RETURN(config.head_dim,
                        ReadDim(reader, "mamba_headdim", config.inner_size / config.num_heads));
  }
  if (config.num_heads * config.head_dim != config.inner_size) {
    return Invalid(reader, absl::StrFormat("\"n_mamba_heads\" * \"mamba_headdim\" is %d * %d, but "
                                           "the inner width is %d; they must agree",
                                           config.num_heads, config.head_dim, config.inner_size));
  }
  SW_ASSIGN_OR_RETURN(config.num_groups, ReadDim(reader, "mamba_ngroups", 1));
  SW_ASSIGN_OR_RETURN(config.state_size, reader.Int(KeyOf(reader, {"mamba_d_state", "state_size"}),
                                                    1, kMaxStateSize, 64));
  SW_ASSIGN_OR_RETURN(
      config.conv_kernel,
      reader.Int(KeyOf(reader, {"mamba_d_conv", "conv_dimension"}), 1, kMaxConvKernel, 4));
  config.gated_norm_eps = 1e-5f;  // whatever the other norms have
  SW_RETURN_IF_ERROR(ReadTimeStepLimit(reader, "time_step_limit", config));
  return CheckMamba2(reader, config.inner_size / config.num_groups, config);
}

absl::Status ReadZamba2Attention(const JsonReader& reader, ModelConfig& config) {
  SW_RETURN_IF_ERROR(ReadAttention(
      reader,
      {.num_heads = 32, .width = 2 * config.hidden_size, .head_dim_key = "attention_head_dim"},
      config));
  AttentionConfig& attention = config.attention;
  if (attention.num_heads * attention.head_dim != 2 * config.hidden_size) {
    return Invalid(
        reader, absl::StrFormat("%d heads of attention of %d elements; legal are heads "
                                "of %d elements in all, twice the width",
                                attention.num_heads, attention.head_dim, 2 * config.hidden_size));
  }
  const double head_dim = static_cast<double>(attention.head_dim);
  attention.scale = static_cast<float>(1.0 / std::sqrt(head_dim / 2));
  SW_ASSIGN_OR_RETURN(const bool rope, reader.Bool("use_mem_rope", false));
  if (!rope) return absl::OkStatus();
  SW_RETURN_IF_ERROR(ReadRope(reader, 1.0, /*fixed_share=*/true, config));
  // A longer context was reached with a larger base, which files do not state.
  SW_ASSIGN_OR_RETURN(const bool long_context, reader.Bool("use_long_context", false));
  if (long_context && attention.rope.theta == 10000.0 && attention.head_dim > 2) {
    attention.rope.theta *= std::pow(8.0, head_dim / (head_dim - 2));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ParseZamba2(const JsonReader& reader) {
  ModelConfig config;
  config.family = ModelFamily::kZamba2;
  SW_RETURN_IF_ERROR(ReadFrame(reader,
                               {.hidden_size = 2560,
                                .num_layers = 54,
                                .vocab_size = 32000,
                                .eps_key = "rms_norm_eps",
                                .eps = 1e-5,
                                .tied = true,
                                .tokens = {1, 2, 0}},
                               config));
  SW_RETURN_IF_ERROR(ReadZamba2Layers(reader, config));
  SW_RETURN_IF_ERROR(ReadZamba2Mixer(reader, config));
  SW_RETURN_IF_ERROR(ReadZamba2Attention(reader, config));
  SW_ASSIGN_OR_RETURN(config.feed_forward.inner_size,
                      ReadDim(reader, KeyOf(reader, {"intermediate_size", "ffn_hidden_size"}),
                              4 * config.hidden_size));
  if (config.feed_forward.inner_size > kMaxDim) {
    return Invalid(reader, absl::StrFormat("\"hidden_size\" is %d; legal are widths up to %d where "
                                           "\"intermediate_size\" is missing",
                                           config.hidden_size, kMaxDim / 4));
  }
  SW_RETURN_IF_ERROR(RequireOneOf(reader, "hidden_act", "gelu", {"gelu"}));
  config.feed_forward.activation = Activation::kGelu;
  SW_ASSIGN_OR_RETURN(config.use_bias, reader.Bool("add_bias_linear", false));
  config.use_out_bias = config.use_bias;
  config.feed_forward.bias = config.use_bias;
  SW_RETURN_IF_ERROR(Require(reader, "gated_linear_unit", true));
  SW_RETURN_IF_ERROR(Require(reader, "use_shared_block_lora", true));
  SW_ASSIGN_OR_RETURN(
      config.attention_adapters,
      reader.Bool(KeyOf(reader, {"use_shared_attention_adapter", "use_shared_attention_lora"}),
                  false));
  SW_ASSIGN_OR_RETURN(config.adapter_rank,
                      ReadDim(reader, KeyOf(reader, {"adapter_rank", "lora_rank"}), 128));
  return config;
}

Json Zamba2Json(const ModelConfig& config) {
  Json json = FrameJson(config, "rms_norm_eps");
  Json types = Json::array();
  for (const LayerConfig& layer : config.layers) {
    types.push_back(layer.mixer == MixerKind::kBoth ? "hybrid" : "mamba");
  }
  json["layers_block_type"] = types;
  WriteAttention(config, json);
  json.erase("head_dim");
  json.update({{"use_mem_rope", config.attention.rope.dim > 0},
               {"mamba_expand", static_cast<double>(config.inner_size) / config.hidden_size},
               {"n_mamba_heads", config.num_heads},
               {"mamba_ngroups", config.num_groups},
               {"mamba_d_state", config.state_size},
               {"mamba_d_conv", config.conv_kernel},
               {"gated_norm_group", config.gated_norm_group},
               {"add_bias_linear", config.use_bias},
               {"intermediate_size", config.feed_forward.inner_size},
               {"num_mem_blocks", config.num_shared_blocks},
               {"use_shared_attention_adapter", config.attention_adapters},
               {"adapter_rank", config.adapter_rank}});
  json["time_step_limit"] = TimeStepLimitJson(config);
  return json;
}

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

namespace {

absl::Status ReadQwen3NextLayers(const JsonReader& reader, int64_t num_experts,
                                 ModelConfig& config) {
  SW_ASSIGN_OR_RETURN(const int64_t interval, ReadDim(reader, "full_attention_interval", 4));
  SW_ASSIGN_OR_RETURN(const int64_t step, ReadDim(reader, "decoder_sparse_step", 1));
  SW_ASSIGN_OR_RETURN(const std::vector<int64_t> dense,
                      ReadLayerIndices(reader, "mlp_only_layers", config.num_layers));
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const bool experts = num_experts > 0 && (i + 1) % step == 0 &&
                         std::find(dense.begin(), dense.end(), i) == dense.end();
    config.layers[i] = {(i + 1) % interval == 0 ? MixerKind::kAttention : MixerKind::kRecurrent,
                        experts ? FeedForwardKind::kExperts : FeedForwardKind::kDense};
  }
  return ReadMixers(reader, KeyOf(reader, {"layer_types", "layers_block_type"}), config);
}

// Gated DeltaNet: heads of values, and fewer of keys; the norm is of one head's values each.
absl::Status ReadDeltaNet(const JsonReader& reader, ModelConfig& config) {
  SW_ASSIGN_OR_RETURN(config.num_heads, ReadDim(reader, "linear_num_value_heads", 32));
  SW_ASSIGN_OR_RETURN(config.num_key_heads, ReadDim(reader, "linear_num_key_heads", 16));
  SW_ASSIGN_OR_RETURN(config.head_dim, ReadDim(reader, "linear_value_head_dim", 128));
  SW_ASSIGN_OR_RETURN(config.key_head_dim,
                      reader.Int("linear_key_head_dim", 1, kMaxStateSize, 128));
  if (config.num_heads % config.num_key_heads != 0) {
    return Invalid(reader, absl::StrFormat("\"linear_num_key_heads\" is %d; legal are divisors of "
                                           "the %d value heads",
                                           config.num_key_heads, config.num_heads));
  }
  if (config.num_key_heads * config.key_head_dim > kMaxDim) {
    return Invalid(reader, absl::StrFormat("%d key heads of %d elements are too many; legal are %d "
                                           "elements in all",
                                           config.num_key_heads, config.key_head_dim, kMaxDim));
  }
  config.inner_size = config.num_heads * config.head_dim;
  config.state_size = config.key_head_dim;
  SW_RETURN_IF_ERROR(CheckInnerSize(reader, config));
  SW_ASSIGN_OR_RETURN(config.conv_kernel,
                      reader.Int("linear_conv_kernel_dim", 1, kMaxConvKernel, 4));
  config.use_conv_bias = false;
  config.gated_norm = GatedNorm::kGateLast;
  config.gated_norm_group = config.head_dim;
  config.gated_norm_eps = config.norm_eps;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ParseQwen3Next(const JsonReader& reader) {
  ModelConfig config;
  config.family = ModelFamily::kQwen3Next;
  SW_RETURN_IF_ERROR(ReadFrame(reader,
                               {.hidden_size = 2048,
                                .num_layers = 48,
                                .vocab_size = 151936,
                                .eps_key = "rms_norm_eps",
                                .eps = 1e-6,
                                .tied = false,
                                .tokens = {-1, -1, -1}},
                               config));
  config.zero_centred_norms = true;
  SW_ASSIGN_OR_RETURN(const int64_t num_experts, reader.Int("num_experts", 0, kMaxExperts, 512));
  SW_RETURN_IF_ERROR(ReadQwen3NextLayers(reader, num_experts, config));
  if (HasMixer(config, MixerKind::kRecurrent)) SW_RETURN_IF_ERROR(ReadDeltaNet(reader, config));
  if (HasMixer(config, MixerKind::kAttention)) {
    SW_RETURN_IF_ERROR(
        ReadAttention(reader, {.num_heads = 16, .num_kv_heads = 2, .head_dim = 256}, config));
    SW_RETURN_IF_ERROR(ReadRope(reader, 0.25, /*fixed_share=*/false, config));
    SW_ASSIGN_OR_RETURN(config.attention.bias, reader.Bool("attention_bias", false));
    config.attention.head_norm = true;
    config.attention.output_gate = true;
  }
  if (HasFeedForward(config, FeedForwardKind::kDense)) {
    SW_ASSIGN_OR_RETURN(config.feed_forward.inner_size, ReadDim(reader, "intermediate_size", 5632));
  }
  if (HasFeedForward(config, FeedForwardKind::kExperts)) {
    ExpertsConfig& experts = config.experts;
    experts.num_experts = num_experts;
    SW_ASSIGN_OR_RETURN(experts.num_chosen,
                        reader.Int("num_experts_per_tok", 1, kMaxChosenExperts, 10));
    SW_ASSIGN_OR_RETURN(experts.inner_size, ReadDim(reader, "moe_intermediate_size", 512));
    SW_ASSIGN_OR_RETURN(experts.shared_inner_size,
                        ReadDim(reader, "shared_expert_intermediate_size", 512));
    SW_ASSIGN_OR_RETURN(experts.normalize, reader.Bool("norm_topk_prob", true));
    SW_RETURN_IF_ERROR(CheckExperts(reader, experts));
  }
  SW_RETURN_IF_ERROR(RequireOneOf(reader, "hidden_act", "silu", {"silu"}));
  return config;
}

Json Qwen3NextJson(const ModelConfig& config) {
  Json json = FrameJson(config, "rms_norm_eps");
  Json types = Json::array();
  Json dense = Json::array();
  for (int64_t i = 0; i < config.num_layers; ++i) {
    types.push_back(IsAttention(config.layers[i]) ? "full_attention" : "linear_attention");
    if (!HasExperts(config.layers[i])) dense.push_back(i);
  }
  json["layer_types"] = types;
  json["mlp_only_layers"] = dense;
  json["num_experts"] = config.experts.num_experts;
  if (config.attention.num_heads > 0) {
    WriteAttention(config, json);
    json["attention_bias"] = config.attention.bias;
    // Even if all of a head is rotated, which is not the default here.
    json["rope_parameters"]["partial_rotary_factor"] =
        static_cast<double>(config.attention.rope.dim) / config.attention.head_dim;
  }
  if (config.inner_size > 0) {
    json.update({{"linear_num_value_heads", config.num_heads},
                 {"linear_value_head_dim", config.head_dim},
                 {"linear_num_key_heads", config.num_key_heads},
                 {"linear_key_head_dim", config.key_head_dim},
                 {"linear_conv_kernel_dim", config.conv_kernel}});
  }
  if (config.feed_forward.inner_size > 0) {
    json["intermediate_size"] = config.feed_forward.inner_size;
  }
  if (config.experts.num_experts > 0) {
    json.update({{"num_experts_per_tok", config.experts.num_chosen},
                 {"moe_intermediate_size", config.experts.inner_size},
                 {"shared_expert_intermediate_size", config.experts.shared_inner_size},
                 {"norm_topk_prob", config.experts.normalize}});
  }
  return json;
}

}  // namespace sidewinder
