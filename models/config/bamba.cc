// Bamba, Granite 4 and Falcon-H1: hybrids with a Mamba-2 mixer whose fields have Bamba's names.
#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "models/config/families.h"
#include "models/config/layers.h"
#include "models/config/reading.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

// The classes of Bamba and Falcon-H1 have the same defaults.
constexpr FrameDefaults kBambaFrame{.hidden_size = 4096,
                                    .num_layers = 32,
                                    .vocab_size = 128000,
                                    .eps_key = "rms_norm_eps",
                                    .eps = 1e-5,
                                    .tied = false,
                                    .tokens = {1, 2, 0}};

// Reads the recurrence, whose inner width is `inner_size`; what the gated norm is like is the
// family's.
absl::Status ReadMixer(const JsonReader& reader, int64_t inner_size, const char* out_bias_key,
                       ModelConfig& config) {
  config.inner_size = inner_size;
  SW_RETURN_IF_ERROR(CheckInnerSize(reader, config));
  SW_ASSIGN_OR_RETURN(config.num_heads, ReadDim(reader, "mamba_n_heads", 128));
  const Json* head_dim = reader.Find("mamba_d_head");
  if (head_dim == nullptr || (head_dim->is_string() && *head_dim == "auto")) {
    config.head_dim = inner_size / config.num_heads;
  } else {
    SW_ASSIGN_OR_RETURN(config.head_dim, reader.Int("mamba_d_head", 1, kMaxDim));
  }
  if (config.num_heads * config.head_dim != inner_size) {
    return Invalid(reader, absl::StrFormat("\"mamba_n_heads\" * \"mamba_d_head\" is %d * %d, but "
                                           "the inner width is %d; they must agree",
                                           config.num_heads, config.head_dim, inner_size));
  }
  SW_ASSIGN_OR_RETURN(config.num_groups, ReadDim(reader, "mamba_n_groups", 1));
  SW_ASSIGN_OR_RETURN(config.state_size, reader.Int("mamba_d_state", 1, kMaxStateSize, 256));
  SW_ASSIGN_OR_RETURN(config.conv_kernel, reader.Int("mamba_d_conv", 1, kMaxConvKernel, 4));
  SW_ASSIGN_OR_RETURN(config.use_conv_bias, reader.Bool("mamba_conv_bias", true));
  SW_ASSIGN_OR_RETURN(config.use_bias, reader.Bool("mamba_proj_bias", false));
  SW_ASSIGN_OR_RETURN(config.use_out_bias, reader.Bool(out_bias_key, false));
  config.gated_norm_eps = config.norm_eps;
  return ReadTimeStepLimit(reader, "time_step_limit", config);
}

// Bamba's and Granite's mixer, if the model has any.
absl::Status ReadPlainMixer(const JsonReader& reader, ModelConfig& config) {
  if (!HasMixer(config, MixerKind::kRecurrent)) return absl::OkStatus();
  SW_ASSIGN_OR_RETURN(const int64_t expanded,
                      ReadExpanded(reader, "mamba_expand", config.hidden_size));
  SW_RETURN_IF_ERROR(ReadMixer(reader, expanded, "mamba_proj_bias", config));
  SW_ASSIGN_OR_RETURN(const int64_t norm_group, NormGroupOfVersion(reader, config));
  return CheckMamba2(reader, norm_group, config);
}

void WriteMixer(const ModelConfig& config, Json& json) {
  if (config.inner_size == 0) return;
  json.update({{"mamba_expand", static_cast<double>(config.inner_size) / config.hidden_size},
               {"mamba_n_heads", config.num_heads},
               {"mamba_d_head", config.head_dim},
               {"mamba_n_groups", config.num_groups},
               {"mamba_d_state", config.state_size},
               {"mamba_d_conv", config.conv_kernel},
               {"mamba_conv_bias", config.use_conv_bias},
               {"mamba_proj_bias", config.use_bias},
               {"gated_norm_group", config.gated_norm_group}});
  json["time_step_limit"] = TimeStepLimitJson(config);
}

absl::StatusOr<float> ReadFactor(const JsonReader& reader, const char* key) {
  SW_ASSIGN_OR_RETURN(const double value, ReadMultiplier(reader, key));
  return static_cast<float>(value);
}

}  // namespace

absl::StatusOr<ModelConfig> ParseBamba(const JsonReader& reader) {
  ModelConfig config;
  config.family = ModelFamily::kBamba;
  SW_RETURN_IF_ERROR(ReadFrame(reader, kBambaFrame, config));
  config.layers.assign(config.num_layers, {MixerKind::kRecurrent, FeedForwardKind::kDense});
  SW_ASSIGN_OR_RETURN(const std::vector<int64_t> attention,
                      ReadLayerIndices(reader, "attn_layer_indices", config.num_layers));
  for (const int64_t i : attention) config.layers[i].mixer = MixerKind::kAttention;
  if (!attention.empty()) {
    SW_RETURN_IF_ERROR(ReadAttention(reader, {.num_heads = 32, .num_kv_heads = 8}, config));
    SW_ASSIGN_OR_RETURN(config.attention.bias, reader.Bool("attention_bias", false));
    // The class rotates half of a head whatever the file says.
    SW_RETURN_IF_ERROR(ReadRope(reader, 0.5, /*fixed_share=*/true, config));
  }
  SW_RETURN_IF_ERROR(ReadPlainMixer(reader, config));
  SW_ASSIGN_OR_RETURN(config.feed_forward.inner_size, ReadDim(reader, "intermediate_size", 14336));
  SW_ASSIGN_OR_RETURN(config.feed_forward.bias, reader.Bool("mlp_bias", false));
  SW_RETURN_IF_ERROR(RequireOneOf(reader, "hidden_act", "silu", {"silu"}));
  return config;
}

Json BambaJson(const ModelConfig& config) {
  Json json = FrameJson(config, "rms_norm_eps");
  Json attention = Json::array();
  for (int64_t i = 0; i < config.num_layers; ++i) {
    if (config.layers[i].mixer == MixerKind::kAttention) attention.push_back(i);
  }
  if (!attention.empty()) {
    WriteAttention(config, json);
    json["attention_bias"] = config.attention.bias;
  }
  json["attn_layer_indices"] = attention;
  WriteMixer(config, json);
  json["intermediate_size"] = config.feed_forward.inner_size;
  json["mlp_bias"] = config.feed_forward.bias;
  return json;
}

absl::StatusOr<ModelConfig> ParseGraniteHybrid(const JsonReader& reader) {
  ModelConfig config;
  config.family = ModelFamily::kGraniteHybrid;
  SW_RETURN_IF_ERROR(ReadFrame(reader,
                               {.hidden_size = 4096,
                                .num_layers = 32,
                                .vocab_size = 32000,
                                .eps_key = "rms_norm_eps",
                                .eps = 1e-6,
                                .tied = false,
                                .tokens = {1, 2, -1}},
                               config));
  SW_ASSIGN_OR_RETURN(const int64_t num_experts,
                      reader.Int("num_local_experts", 0, kMaxExperts, 8));
  const auto feed_forward = num_experts > 0 ? FeedForwardKind::kExperts : FeedForwardKind::kDense;
  config.layers.assign(config.num_layers, {MixerKind::kRecurrent, feed_forward});
  SW_RETURN_IF_ERROR(
      ReadMixers(reader, KeyOf(reader, {"layer_types", "layers_block_type"}), config));

  if (HasMixer(config, MixerKind::kAttention)) {
    SW_RETURN_IF_ERROR(ReadAttention(reader, {.num_heads = 32}, config));
    SW_ASSIGN_OR_RETURN(config.attention.bias, reader.Bool("attention_bias", false));
    SW_ASSIGN_OR_RETURN(config.attention.scale, ReadFactor(reader, "attention_multiplier"));
    constexpr const char* kPositions = "position_embedding_type";
    SW_RETURN_IF_ERROR(RequireOneOf(reader, kPositions, "nope", {"rope", "nope"}));
    const Json* positions = reader.Find(kPositions);
    if (positions != nullptr && *positions == "rope") {
      SW_RETURN_IF_ERROR(ReadRope(reader, 1.0, /*fixed_share=*/false, config));
    }
  }
  SW_RETURN_IF_ERROR(ReadPlainMixer(reader, config));

  // Every row takes the shared MLP, with experts beside it or alone.
  SW_ASSIGN_OR_RETURN(const int64_t shared, ReadDim(reader, "shared_intermediate_size", 1024));
  if (num_experts > 0) {
    ExpertsConfig& experts = config.experts;
    experts.num_experts = num_experts;
    experts.shared_inner_size = shared;
    experts.score = ExpertScore::kSoftmaxChosen;
    SW_ASSIGN_OR_RETURN(experts.inner_size, ReadDim(reader, "intermediate_size", 11008));
    SW_ASSIGN_OR_RETURN(experts.num_chosen,
                        reader.Int("num_experts_per_tok", 1, kMaxChosenExperts, 2));
    SW_RETURN_IF_ERROR(CheckExperts(reader, experts));
  } else {
    config.feed_forward.inner_size = shared;
  }
  SW_RETURN_IF_ERROR(RequireOneOf(reader, "hidden_act", "silu", {"silu"}));

  SW_ASSIGN_OR_RETURN(config.multipliers.embedding, ReadFactor(reader, "embedding_multiplier"));
  SW_ASSIGN_OR_RETURN(config.multipliers.residual, ReadFactor(reader, "residual_multiplier"));
  SW_ASSIGN_OR_RETURN(const double logits_scaling, ReadMultiplier(reader, "logits_scaling"));
  config.multipliers.logits = static_cast<float>(1.0 / logits_scaling);
  return config;
}

Json GraniteHybridJson(const ModelConfig& config) {
  Json json = FrameJson(config, "rms_norm_eps");
  Json types = Json::array();
  for (const LayerConfig& layer : config.layers) {
    types.push_back(layer.mixer == MixerKind::kAttention ? "attention" : "mamba");
  }
  json["layer_types"] = types;
  if (config.attention.num_heads > 0) {
    WriteAttention(config, json);
    json["attention_bias"] = config.attention.bias;
    json["attention_multiplier"] = config.attention.scale;
    json["position_embedding_type"] = config.attention.rope.dim > 0 ? "rope" : "nope";
  }
  WriteMixer(config, json);
  const ExpertsConfig& experts = config.experts;
  json["num_local_experts"] = experts.num_experts;
  if (experts.num_experts > 0) {
    json["num_experts_per_tok"] = experts.num_chosen;
    json["intermediate_size"] = experts.inner_size;
    json["shared_intermediate_size"] = experts.shared_inner_size;
  } else {
    json["shared_intermediate_size"] = config.feed_forward.inner_size;
  }
  json["embedding_multiplier"] = config.multipliers.embedding;
  json["residual_multiplier"] = config.multipliers.residual;
  json["logits_scaling"] = 1.0 / static_cast<double>(config.multipliers.logits);
  return json;
}

absl::StatusOr<ModelConfig> ParseFalconH1(const JsonReader& reader) {
  ModelConfig config;
  config.family = ModelFamily::kFalconH1;
  SW_RETURN_IF_ERROR(ReadFrame(reader, kBambaFrame, config));
  config.layers.assign(config.num_layers, {MixerKind::kBoth, FeedForwardKind::kDense});
  SW_RETURN_IF_ERROR(ReadAttention(reader, {.num_heads = 32, .num_kv_heads = 8}, config));
  SW_RETURN_IF_ERROR(ReadRope(reader, 1.0, false, config));
  SW_ASSIGN_OR_RETURN(config.attention.bias, reader.Bool("attention_bias", false));

  int64_t inner_size = 1024;
  if (reader.IsNull("mamba_d_ssm")) {
    SW_ASSIGN_OR_RETURN(inner_size, ReadExpanded(reader, "mamba_expand", config.hidden_size));
  }
  SW_ASSIGN_OR_RETURN(inner_size, ReadDim(reader, "mamba_d_ssm", inner_size));
  SW_RETURN_IF_ERROR(ReadMixer(reader, inner_size, "projectors_bias", config));
  SW_RETURN_IF_ERROR(CheckMamba2(reader, config.inner_size / config.num_groups, config));
  SW_ASSIGN_OR_RETURN(const bool norm, reader.Bool("mamba_rms_norm", false));
  SW_ASSIGN_OR_RETURN(const bool norm_first, reader.Bool("mamba_norm_before_gate", true));
  config.gated_norm = !norm        ? GatedNorm::kGateAlone
                      : norm_first ? GatedNorm::kGateLast
                                   : GatedNorm::kGateFirst;

  SW_ASSIGN_OR_RETURN(config.feed_forward.inner_size, ReadDim(reader, "intermediate_size", 14336));
  SW_ASSIGN_OR_RETURN(config.feed_forward.bias, reader.Bool("mlp_bias", false));
  SW_RETURN_IF_ERROR(RequireOneOf(reader, "hidden_act", "silu", {"silu"}));

  MultiplierConfig& m = config.multipliers;
  SW_ASSIGN_OR_RETURN(m.embedding, ReadFactor(reader, "embedding_multiplier"));
  SW_ASSIGN_OR_RETURN(m.logits, ReadFactor(reader, "lm_head_multiplier"));
  SW_ASSIGN_OR_RETURN(m.ssm_in, ReadFactor(reader, "ssm_in_multiplier"));
  SW_ASSIGN_OR_RETURN(m.ssm_out, ReadFactor(reader, "ssm_out_multiplier"));
  SW_ASSIGN_OR_RETURN(m.attention_in, ReadFactor(reader, "attention_in_multiplier"));
  SW_ASSIGN_OR_RETURN(m.attention_out, ReadFactor(reader, "attention_out_multiplier"));
  SW_ASSIGN_OR_RETURN(m.key, ReadFactor(reader, "key_multiplier"));
  SW_RETURN_IF_ERROR(ReadMultipliers(reader, "ssm_multipliers",
                                     {&m.ssm_z, &m.ssm_x, &m.ssm_b, &m.ssm_c, &m.ssm_dt}));
  SW_RETURN_IF_ERROR(ReadMultipliers(reader, "mlp_multipliers", {&m.mlp_gate, &m.mlp_down}));
  return config;
}

Json FalconH1Json(const ModelConfig& config) {
  Json json = FrameJson(config, "rms_norm_eps");
  WriteAttention(config, json);
  json["attention_bias"] = config.attention.bias;
  WriteMixer(config, json);
  json["mamba_d_ssm"] = config.inner_size;
  json["projectors_bias"] = config.use_out_bias;
  json["mamba_rms_norm"] = config.gated_norm != GatedNorm::kGateAlone;
  json["mamba_norm_before_gate"] = config.gated_norm == GatedNorm::kGateLast;
  json["intermediate_size"] = config.feed_forward.inner_size;
  json["mlp_bias"] = config.feed_forward.bias;
  const MultiplierConfig& m = config.multipliers;
  json.update({{"embedding_multiplier", m.embedding},
               {"lm_head_multiplier", m.logits},
               {"ssm_in_multiplier", m.ssm_in},
               {"ssm_out_multiplier", m.ssm_out},
               {"attention_in_multiplier", m.attention_in},
               {"attention_out_multiplier", m.attention_out},
               {"key_multiplier", m.key}});
  json["ssm_multipliers"] = {m.ssm_z, m.ssm_x, m.ssm_b, m.ssm_c, m.ssm_dt};
  json["mlp_multipliers"] = {m.mlp_gate, m.mlp_down};
  return json;
}

}  // namespace sidewinder
