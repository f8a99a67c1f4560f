// Zamba2, in the names of transformers and of the fork it was first released with.
#include <cmath>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "models/config/families.h"
#include "models/config/layers.h"
#include "models/config/reading.h"
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

}  // namespace sidewinder
