// Llama and Mistral, and their hybrids of "The Mamba in the Llama" and M1, in which some layers
// have a Mamba mixer with attention-shaped projections in place of attention.
#include <algorithm>
#include <iterator>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "models/config/families.h"
#include "models/config/layers.h"
#include "models/config/reading.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

// The mixer's constructor knows no options but these; those of the other kind of mixer would be
// mistakes too.
absl::Status CheckSsmKeys(const JsonReader& reader, const Json& ssm, bool mamba2) {
  static constexpr absl::string_view kMamba1[] = {
      "d_state",     "d_conv",      "expand",        "dt_rank",       "repeat_kv_before_conv",
      "conv_bias",   "dt_min",      "dt_max",        "dt_init",       "dt_scale",
      "proj_x_bias", "proj_z_bias", "out_proj_bias", "dt_init_floor", "use_fast_path"};
  static constexpr absl::string_view kMamba2[] = {
      "d_state",  "d_conv",       "expand",           "ngroups",       "headdim",
      "d_ssm",    "D_has_hdim",   "rmsnorm",          "dt_min",        "dt_max",
      "dt_limit", "A_init_range", "norm_before_gate", "dt_init_floor", "repeat_kv_before_conv",
      "bias",     "conv_bias",    "conv_init",        "chunk_size",    "use_mem_eff_path"};
  const auto known = mamba2
                         ? std::vector<absl::string_view>(std::begin(kMamba2), std::end(kMamba2))
                         : std::vector<absl::string_view>(std::begin(kMamba1), std::end(kMamba1));
  for (const auto& [key, value] : ssm.items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    return Unsupported(reader,
                       absl::StrFormat("the option \"%s\" is not known; known are %s",
                                       absl::Utf8SafeCEscape(key), absl::StrJoin(known, ", ")));
  }
  return absl::OkStatus();
}

// x and B are repeated in heads of state_size channels.
absl::Status CheckRepeat(const JsonReader& mamba, const ModelConfig& config) {
  if (config.inner_size % config.repeated_dim == 0 &&
      config.repeated_dim % config.state_size == 0) {
    return absl::OkStatus();
  }
  return Invalid(mamba, absl::StrFormat("\"d_xb\" is %d; legal are divisors of the inner width %d "
                                        "that the state size %d divides",
                                        config.repeated_dim, config.inner_size, config.state_size));
}

absl::Status ReadMamba1(const JsonReader& mamba, const JsonReader& ssm, ModelConfig& config) {
  SW_ASSIGN_OR_RETURN(config.state_size, ssm.Int("d_state", 1, kMaxStateSize, 16));
  SW_ASSIGN_OR_RETURN(config.time_step_rank, ReadTimeStepRank(ssm, "dt_rank", config.hidden_size));
  SW_ASSIGN_OR_RETURN(config.repeat_before_conv, ssm.Bool("repeat_kv_before_conv", true));
  for (const char* key : {"proj_x_bias", "proj_z_bias", "out_proj_bias"}) {
    SW_RETURN_IF_ERROR(Require(ssm, key, false));
  }
  SW_RETURN_IF_ERROR(CheckInnerSize(mamba, config));
  return CheckRepeat(mamba, config);
}

absl::Status ReadMamba2(const JsonReader& mamba, const JsonReader& ssm, ModelConfig& config) {
  SW_ASSIGN_OR_RETURN(config.state_size, ssm.Int("d_state", 1, kMaxStateSize, 128));
  SW_ASSIGN_OR_RETURN(config.num_groups, ReadDim(ssm, "ngroups", 1));
  // The file's "headdim" is overwritten by the mixer's constructor.
  config.num_heads = config.num_groups;
  config.head_dim = config.state_size;
  if (config.num_heads * config.head_dim != config.inner_size) {
    return Invalid(ssm, absl::StrFormat("\"ngroups\" * \"d_state\" is %d * %d, but the inner width "
                                        "is %d; they must agree",
                                        config.num_groups, config.state_size, config.inner_size));
  }
  SW_ASSIGN_OR_RETURN(config.repeat_before_conv, ssm.Bool("repeat_kv_before_conv", false));
  SW_ASSIGN_OR_RETURN(const int64_t d_ssm, ReadDim(ssm, "d_ssm", config.inner_size));
  if (d_ssm != config.inner_size) {
    return Unsupported(ssm, absl::StrFormat("\"d_ssm\" is %d; supported is only the full inner "
                                            "width %d, without a parallel MLP",
                                            d_ssm, config.inner_size));
  }
  SW_RETURN_IF_ERROR(Require(ssm, "D_has_hdim", false));
  SW_RETURN_IF_ERROR(Require(ssm, "rmsnorm", true));
  SW_RETURN_IF_ERROR(Require(ssm, "norm_before_gate", false));
  SW_RETURN_IF_ERROR(Require(ssm, "bias", false));
  SW_RETURN_IF_ERROR(ReadTimeStepLimit(ssm, "dt_limit", config));
  SW_RETURN_IF_ERROR(CheckMamba2(ssm, config.inner_size / config.num_groups, config));
  return CheckRepeat(mamba, config);
}

// The mamba_config.json repeats some of the teacher's fields, in a class with other defaults, so
// only what is there is compared.
absl::Status CheckAgrees(const JsonReader& mamba, const char* key, int64_t expected) {
  SW_ASSIGN_OR_RETURN(const int64_t value, mamba.Int(key, 0, kMaxDim, expected));
  if (value == expected) return absl::OkStatus();
  return Invalid(mamba, absl::StrFormat("\"%s\" is %d, but config.json says %d; they must agree",
                                        key, value, expected));
}

absl::Status ReadHybrid(const JsonReader& mamba, ModelConfig& config) {
  SW_RETURN_IF_ERROR(CheckAgrees(mamba, "d_model", config.hidden_size));
  SW_RETURN_IF_ERROR(CheckAgrees(mamba, "n_layer", config.num_layers));
  SW_RETURN_IF_ERROR(CheckAgrees(mamba, "intermediate_size", config.feed_forward.inner_size));
  SW_ASSIGN_OR_RETURN(const float eps, ReadEpsilon(mamba, "rms_norm_eps", config.norm_eps));
  if (eps != config.norm_eps) {
    return Unsupported(mamba, absl::StrFormat("\"rms_norm_eps\" is %g; supported is only that of "
                                              "config.json, %g",
                                              eps, config.norm_eps));
  }
  SW_RETURN_IF_ERROR(RequireOneOf(mamba, "hidden_act", "silu", {"silu"}));

  SW_ASSIGN_OR_RETURN(const std::vector<int64_t> attention,
                      ReadLayerIndices(mamba, "attn_layers", config.num_layers));
  for (LayerConfig& layer : config.layers) layer.mixer = MixerKind::kRecurrent;
  for (const int64_t i : attention) config.layers[i].mixer = MixerKind::kAttention;

  static const Json* const kEmpty = new Json(Json::object());
  const Json* found = mamba.Find("ssm_cfg");
  const Json& ssm_json = found == nullptr ? *kEmpty : *found;
  if (!ssm_json.is_object()) {
    return Invalid(mamba, absl::StrCat("\"ssm_cfg\" is ", ShortDump(ssm_json), ", not an object"));
  }
  const JsonReader ssm(ssm_json, absl::StrCat(mamba.name(), ": \"ssm_cfg\""));
  // Nothing else tells the two kinds apart; the second cannot do without its groups.
  const bool mamba2 = ssm.Has("ngroups");
  SW_RETURN_IF_ERROR(CheckSsmKeys(ssm, ssm_json, mamba2));
  SW_ASSIGN_OR_RETURN(const int64_t expanded, ReadExpanded(ssm, "expand", config.hidden_size));
  SW_ASSIGN_OR_RETURN(config.inner_size, ReadDim(mamba, "d_inner", expanded));
  SW_ASSIGN_OR_RETURN(config.repeated_dim, ReadDim(mamba, "d_xb", 2560));
  SW_ASSIGN_OR_RETURN(config.conv_kernel, ssm.Int("d_conv", 1, kMaxConvKernel, 4));
  SW_ASSIGN_OR_RETURN(config.use_conv_bias, ssm.Bool("conv_bias", true));
  return mamba2 ? ReadMamba2(mamba, ssm, config) : ReadMamba1(mamba, ssm, config);
}

}  // namespace

absl::StatusOr<ModelConfig> ParseLlama(const JsonReader& reader, absl::string_view type) {
  if (type != "llama" && type != "mistral") {
    return Unsupported(reader, absl::StrFormat("\"base_model_type\" is \"%s\"; legal are \"llama\" "
                                               "and \"mistral\"",
                                               absl::Utf8SafeCEscape(type)));
  }
  const bool mistral = type == "mistral";
  ModelConfig config;
  config.family = ModelFamily::kLlama;
  SW_RETURN_IF_ERROR(ReadFrame(reader,
                               {.hidden_size = 4096,
                                .num_layers = 32,
                                .vocab_size = 32000,
                                .eps_key = "rms_norm_eps",
                                .eps = 1e-6,
                                .tied = false,
                                .tokens = {1, 2, -1}},
                               config));
  config.layers.assign(config.num_layers, {MixerKind::kAttention, FeedForwardKind::kDense});
  SW_RETURN_IF_ERROR(
      ReadAttention(reader, {.num_heads = 32, .num_kv_heads = mistral ? 8 : 0}, config));
  SW_RETURN_IF_ERROR(ReadRope(reader, 1.0, false, config));
  SW_ASSIGN_OR_RETURN(config.feed_forward.inner_size,
                      ReadDim(reader, "intermediate_size", mistral ? 14336 : 11008));
  SW_RETURN_IF_ERROR(RequireOneOf(reader, "hidden_act", "silu", {"silu"}));
  if (mistral) {  // null: no window; neither class reads the options of the other
    const int64_t window = reader.IsNull("sliding_window") ? 0 : 4096;
    SW_ASSIGN_OR_RETURN(config.attention.window,
                        reader.Int("sliding_window", 1, int64_t{1} << 40, window));
  } else {
    SW_ASSIGN_OR_RETURN(config.attention.bias, reader.Bool("attention_bias", false));
    SW_ASSIGN_OR_RETURN(config.feed_forward.bias, reader.Bool("mlp_bias", false));
  }
  return config;
}

absl::StatusOr<ModelConfig> ParseMambaInLlama(const JsonReader& reader, absl::string_view type,
                                              const JsonReader& mamba) {
  SW_ASSIGN_OR_RETURN(ModelConfig config, ParseLlama(reader, type));
  config.family = ModelFamily::kMambaInLlama;
  SW_RETURN_IF_ERROR(ReadHybrid(mamba, config));
  return config;
}

Json LlamaJson(const ModelConfig& config) {
  Json json = FrameJson(config, "rms_norm_eps");
  WriteAttention(config, json);
  json["intermediate_size"] = config.feed_forward.inner_size;
  if (config.attention.window > 0) {
    json["model_type"] = "mistral";
    json["sliding_window"] = config.attention.window;
  } else {
    json["attention_bias"] = config.attention.bias;
    json["mlp_bias"] = config.feed_forward.bias;
  }
  return json;
}

Json MambaInLlamaJson(const ModelConfig& config) {
  Json json = LlamaJson(config);
  json["base_model_type"] = config.attention.window > 0 ? "mistral" : "llama";
  json["model_type"] = Name(config.family);
  Json ssm = {{"d_state", config.state_size},
              {"d_conv", config.conv_kernel},
              {"conv_bias", config.use_conv_bias},
              {"repeat_kv_before_conv", config.repeat_before_conv}};
  if (config.time_step_rank > 0) {
    ssm["dt_rank"] = config.time_step_rank;
  } else {
    ssm["ngroups"] = config.num_groups;
    ssm["dt_limit"] = TimeStepLimitJson(config);
  }
  Json attention = Json::array();
  for (int64_t i = 0; i < config.num_layers; ++i) {
    if (config.layers[i].mixer == MixerKind::kAttention) attention.push_back(i);
  }
  json["mamba_config"] = {{"d_model", config.hidden_size}, {"d_inner", config.inner_size},
                          {"d_xb", config.repeated_dim},   {"n_layer", config.num_layers},
                          {"attn_layers", attention},      {"ssm_cfg", ssm}};
  return json;
}

}  // namespace sidewinder
