// Mamba-1, Mamba-2 and FalconMamba, in the naming of transformers, and the first two in the
// original one of state-spaces.
#include <algorithm>
#include <iterator>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "models/config/families.h"
#include "models/config/layers.h"
#include "models/config/reading.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

// Over how many channels the gated norm of a Mamba-2 folder takes its mean, if the file does not
// say. state-spaces trains with one mean per group. transformers took one over the whole width
// until its version 5.23, so a folder that an older one wrote reproduces its outputs only with
// that. Codestral was trained per group: its file is known by a leftover "norm_before_gate".
absl::StatusOr<int64_t> DefaultNormGroup(const JsonReader& reader, const ModelConfig& config) {
  if (config.original_naming || reader.Has("norm_before_gate")) {
    return config.inner_size / config.num_groups;
  }
  return NormGroupOfVersion(reader, config);
}

// What is left to check and to derive, whatever the naming.
absl::Status Finish(const JsonReader& reader, ModelConfig& config) {
  if (config.family != ModelFamily::kMamba2) return CheckInnerSize(reader, config);
  config.gated_norm_eps = config.norm_eps;
  SW_ASSIGN_OR_RETURN(const int64_t norm_group, DefaultNormGroup(reader, config));
  return CheckMamba2(reader, norm_group, config);
}

absl::Status ReadMamba1(const JsonReader& reader, int64_t expanded, ModelConfig& config) {
  // An explicit width wins: FalconMamba's files carry an "expand" that means nothing.
  SW_ASSIGN_OR_RETURN(config.inner_size, ReadDim(reader, "intermediate_size", expanded));
  SW_ASSIGN_OR_RETURN(config.time_step_rank,
                      ReadTimeStepRank(reader, "time_step_rank", config.hidden_size));
  if (config.family == ModelFamily::kFalconMamba) {
    SW_ASSIGN_OR_RETURN(config.inner_norm_eps, ReadEpsilon(reader, "mixer_rms_eps", 1e-6));
  }
  return absl::OkStatus();
}

absl::Status ReadMamba2(const JsonReader& reader, int64_t expanded, ModelConfig& config) {
  SW_ASSIGN_OR_RETURN(config.num_heads, ReadDim(reader, "num_heads", 128));
  SW_ASSIGN_OR_RETURN(config.head_dim, ReadDim(reader, "head_dim", 64));
  SW_ASSIGN_OR_RETURN(config.num_groups, ReadDim(reader, "n_groups", 8));
  config.inner_size = config.num_heads * config.head_dim;
  if (config.inner_size != expanded) {
    return Invalid(reader,
                   absl::StrFormat("\"num_heads\" * \"head_dim\" is %d * %d, but \"expand\" * "
                                   "\"hidden_size\" is %d; they must agree",
                                   config.num_heads, config.head_dim, expanded));
  }
  SW_RETURN_IF_ERROR(ReadTimeStepLimit(reader, "time_step_limit", config));
  return Require(reader, "rms_norm", true);
}

// "ssm_cfg" holds arguments of the mixer's constructor, which knows no others than these.
absl::Status CheckSsmKeys(const JsonReader& reader, const Json& ssm,
                          std::initializer_list<absl::string_view> own) {
  static constexpr absl::string_view kCommon[] = {
      "layer",  "d_state", "d_conv",  "expand",   "bias",          "conv_bias",
      "dt_min", "dt_max",  "dt_init", "dt_scale", "dt_init_floor", "use_fast_path"};
  for (const auto& [key, value] : ssm.items()) {
    if (std::find(std::begin(kCommon), std::end(kCommon), key) != std::end(kCommon)) continue;
    if (std::find(own.begin(), own.end(), key) != own.end()) continue;
    return Unsupported(reader,
                       absl::StrFormat("the option \"%s\" is not known; known are %s, %s",
                                       absl::Utf8SafeCEscape(key), absl::StrJoin(kCommon, ", "),
                                       absl::StrJoin(own, ", ")));
  }
  return absl::OkStatus();
}

absl::Status ReadOriginalMamba1(const JsonReader& ssm, const Json& json, ModelConfig& config) {
  SW_RETURN_IF_ERROR(CheckSsmKeys(ssm, json, {"dt_rank"}));
  config.family = ModelFamily::kMamba1;
  SW_ASSIGN_OR_RETURN(config.state_size, ssm.Int("d_state", 1, kMaxStateSize, 16));
  SW_ASSIGN_OR_RETURN(config.inner_size, ReadExpanded(ssm, "expand", config.hidden_size));
  SW_ASSIGN_OR_RETURN(config.time_step_rank, ReadTimeStepRank(ssm, "dt_rank", config.hidden_size));
  return absl::OkStatus();
}

absl::Status ReadOriginalMamba2(const JsonReader& ssm, const Json& json, ModelConfig& config) {
  SW_RETURN_IF_ERROR(
      CheckSsmKeys(ssm, json,
                   {"headdim", "ngroups", "d_ssm", "D_has_hdim", "rmsnorm", "norm_before_gate",
                    "dt_limit", "chunk_size", "use_mem_eff_path", "A_init_range", "conv_init"}));
  config.family = ModelFamily::kMamba2;
  SW_ASSIGN_OR_RETURN(config.state_size, ssm.Int("d_state", 1, kMaxStateSize, 128));
  SW_ASSIGN_OR_RETURN(config.inner_size, ReadExpanded(ssm, "expand", config.hidden_size));
  SW_ASSIGN_OR_RETURN(config.head_dim, ssm.Int("headdim", 1, kMaxDim, 64));
  SW_ASSIGN_OR_RETURN(config.num_groups, ssm.Int("ngroups", 1, kMaxDim, 1));
  config.num_heads = config.inner_size / config.head_dim;
  if (config.num_heads < 1 || config.inner_size % config.head_dim != 0) {
    return Invalid(ssm, absl::StrFormat("\"headdim\" is %d; legal are divisors of the inner width "
                                        "%d (\"expand\" * \"d_model\")",
                                        config.head_dim, config.inner_size));
  }
  SW_ASSIGN_OR_RETURN(const int64_t d_ssm, ssm.Int("d_ssm", 1, kMaxDim, config.inner_size));
  if (d_ssm != config.inner_size) {
    return Unsupported(ssm, absl::StrFormat("\"d_ssm\" is %d; supported is only the full inner "
                                            "width %d, without a parallel MLP",
                                            d_ssm, config.inner_size));
  }
  SW_RETURN_IF_ERROR(Require(ssm, "D_has_hdim", false));
  SW_RETURN_IF_ERROR(Require(ssm, "rmsnorm", true));
  SW_RETURN_IF_ERROR(Require(ssm, "norm_before_gate", false));
  return ReadTimeStepLimit(ssm, "dt_limit", config);
}

}  // namespace

// What is absent has the default of the class of transformers.
absl::StatusOr<ModelConfig> ParseMamba(const JsonReader& reader, ModelFamily family) {
  const bool mamba2 = family == ModelFamily::kMamba2;
  ModelConfig config;
  config.family = family;
  SW_RETURN_IF_ERROR(ReadFrame(reader,
                               {.hidden_size = mamba2 ? 4096 : 768,
                                .num_layers = mamba2 ? 64 : 32,
                                .vocab_size = mamba2 ? 32768 : 50280,
                                .eps_key = "layer_norm_epsilon",
                                .eps = 1e-5,
                                .tied = !mamba2,
                                .tokens = mamba2 ? DefaultTokens{0, 2, 1} : DefaultTokens{0, 0, 0}},
                               config));
  SW_ASSIGN_OR_RETURN(config.state_size,
                      reader.Int("state_size", 1, kMaxStateSize, mamba2 ? 128 : 16));
  SW_ASSIGN_OR_RETURN(config.conv_kernel, reader.Int("conv_kernel", 1, kMaxConvKernel, 4));
  SW_ASSIGN_OR_RETURN(config.use_bias, reader.Bool("use_bias", false));
  config.use_out_bias = config.use_bias;
  SW_ASSIGN_OR_RETURN(config.use_conv_bias, reader.Bool("use_conv_bias", true));
  SW_RETURN_IF_ERROR(RequireOneOf(reader, "hidden_act", "silu", {"silu"}));
  SW_ASSIGN_OR_RETURN(const int64_t expanded, ReadExpanded(reader, "expand", config.hidden_size));
  SW_RETURN_IF_ERROR(mamba2 ? ReadMamba2(reader, expanded, config)
                            : ReadMamba1(reader, expanded, config));
  SW_RETURN_IF_ERROR(Finish(reader, config));
  return config;
}

absl::StatusOr<ModelConfig> ParseOriginalMamba(const JsonReader& reader) {
  ModelConfig config;
  config.original_naming = true;
  SW_ASSIGN_OR_RETURN(config.hidden_size, reader.Int("d_model", 1, kMaxDim));
  SW_ASSIGN_OR_RETURN(config.num_layers, reader.Int("n_layer", 1, kMaxLayers));
  config.layers.assign(config.num_layers, LayerConfig{});
  SW_ASSIGN_OR_RETURN(config.vocab_limit, reader.Int("vocab_size", 1, kMaxDim, 50277));
  SW_ASSIGN_OR_RETURN(const int64_t multiple, reader.Int("pad_vocab_size_multiple", 1, kMaxDim, 8));
  config.vocab_size = (config.vocab_limit + multiple - 1) / multiple * multiple;
  SW_RETURN_IF_ERROR(Require(reader, "rms_norm", true));
  SW_ASSIGN_OR_RETURN(const int64_t mlp, reader.Int("d_intermediate", 0, kMaxDim, 0));
  if (mlp > 0) {
    return Unsupported(reader, absl::StrFormat("\"d_intermediate\" is %d; MLP layers are not "
                                               "supported, legal is 0",
                                               mlp));
  }
  if (const Json* layers = reader.Find("attn_layer_idx"); layers != nullptr && !layers->empty()) {
    return Unsupported(reader, absl::StrFormat("\"attn_layer_idx\" is %s; attention layers are not "
                                               "supported, legal is []",
                                               ShortDump(*layers)));
  }

  static const Json* const kEmpty = new Json(Json::object());
  const Json* found = reader.Find("ssm_cfg");
  const Json& ssm_json = found == nullptr ? *kEmpty : *found;
  const JsonReader ssm(ssm_json, absl::StrCat(reader.name(), ": \"ssm_cfg\""));
  if (!ssm_json.is_object()) {
    return Invalid(reader, absl::StrCat("\"ssm_cfg\" is ", ShortDump(ssm_json), ", not an object"));
  }
  SW_ASSIGN_OR_RETURN(config.conv_kernel, ssm.Int("d_conv", 1, kMaxConvKernel, 4));
  SW_ASSIGN_OR_RETURN(config.use_bias, ssm.Bool("bias", false));
  config.use_out_bias = config.use_bias;
  SW_ASSIGN_OR_RETURN(config.use_conv_bias, ssm.Bool("conv_bias", true));
  SW_ASSIGN_OR_RETURN(const std::string layer, ssm.String("layer", "Mamba1"));
  if (layer == "Mamba1") {
    SW_RETURN_IF_ERROR(ReadOriginalMamba1(ssm, ssm_json, config));
  } else if (layer == "Mamba2") {
    SW_RETURN_IF_ERROR(ReadOriginalMamba2(ssm, ssm_json, config));
  } else {
    return Unsupported(ssm, absl::StrFormat("\"layer\" is \"%s\"; legal are \"Mamba1\" and "
                                            "\"Mamba2\"",
                                            absl::Utf8SafeCEscape(layer)));
  }
  SW_ASSIGN_OR_RETURN(config.tie_embeddings, reader.Bool("tie_embeddings", true));
  // The original files have neither of these and a fixed epsilon; ToJson writes them.
  SW_ASSIGN_OR_RETURN(config.norm_eps, ReadEpsilon(reader, "layer_norm_epsilon", 1e-5));
  SW_ASSIGN_OR_RETURN(config.dtype, ReadDType(reader));
  SW_RETURN_IF_ERROR(Finish(reader, config));
  SW_RETURN_IF_ERROR(ReadTokens(reader, {-1, -1, -1}, config));
  return config;
}

Json MambaJson(const ModelConfig& config) {
  const bool mamba2 = config.family == ModelFamily::kMamba2;
  const double expand = static_cast<double>(config.inner_size) / config.hidden_size;
  Json json = FrameJson(config, "layer_norm_epsilon");
  if (config.original_naming) {
    Json ssm = {{"layer", mamba2 ? "Mamba2" : "Mamba1"},
                {"d_state", config.state_size},
                {"d_conv", config.conv_kernel},
                {"expand", expand},
                {"bias", config.use_bias},
                {"conv_bias", config.use_conv_bias}};
    if (mamba2) {
      ssm.update({{"headdim", config.head_dim}, {"ngroups", config.num_groups}});
      ssm["dt_limit"] = TimeStepLimitJson(config);
    } else {
      ssm["dt_rank"] = config.time_step_rank;
    }
    for (const char* key :
         {"model_type", "hidden_size", "num_hidden_layers", "tie_word_embeddings"}) {
      json.erase(key);
    }
    json.update({{"d_model", config.hidden_size},
                 {"n_layer", config.num_layers},
                 {"vocab_size", config.vocab_limit},
                 {"pad_vocab_size_multiple", config.vocab_size},
                 {"rms_norm", true},
                 {"tie_embeddings", config.tie_embeddings},
                 {"ssm_cfg", ssm}});
  } else {
    json.update({{"state_size", config.state_size},
                 {"conv_kernel", config.conv_kernel},
                 {"use_bias", config.use_bias},
                 {"use_conv_bias", config.use_conv_bias}});
    if (mamba2) {
      json.update({{"expand", expand},
                   {"num_heads", config.num_heads},
                   {"head_dim", config.head_dim},
                   {"n_groups", config.num_groups}});
      json["time_step_limit"] = TimeStepLimitJson(config);
    } else {
      json["intermediate_size"] = config.inner_size;
      json["time_step_rank"] = config.time_step_rank;
    }
    if (config.inner_norm_eps > 0.0f) json["mixer_rms_eps"] = config.inner_norm_eps;
  }
  if (mamba2) json["gated_norm_group"] = config.gated_norm_group;
  return json;
}

}  // namespace sidewinder
