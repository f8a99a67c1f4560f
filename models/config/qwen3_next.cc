#include <algorithm>

#include "absl/strings/str_format.h"
#include "models/config/families.h"
#include "models/config/layers.h"
#include "models/config/reading.h"
#include "runtime/status_macros.h"

namespace sidewinder {
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
    types.push_back(config.layers[i].mixer == MixerKind::kAttention ? "full_attention"
                                                                    : "linear_attention");
    if (config.layers[i].feed_forward == FeedForwardKind::kDense) dense.push_back(i);
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
