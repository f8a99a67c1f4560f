// config.json of every family but Mamba-1 and Mamba-2 (model_config_test.cc): files as released,
// older and newer spellings, defaults of the classes, and values that must be refused.
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/config/model_config.h"
#include "models/synthetic.h"
#include "tests/testing/config_cases.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace sidewinder {
namespace {

using ::sidewinder::testing::ExpectRefused;
using ::sidewinder::testing::ExpectRoundTrip;
using ::sidewinder::testing::IsOk;
using ::sidewinder::testing::kInvalid;
using ::sidewinder::testing::kUnimplemented;
using ::sidewinder::testing::NameOfWrong;
using ::sidewinder::testing::ParseWith;
using ::sidewinder::testing::StatusIs;
using ::sidewinder::testing::TempFolder;
using ::sidewinder::testing::WrongConfig;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::ValuesIn;

template <class Is>
std::vector<int64_t> LayersThat(const ModelConfig& config, const Is& is) {
  std::vector<int64_t> indices;
  for (size_t i = 0; i < config.layers.size(); ++i) {
    if (is(config.layers[i])) indices.push_back(i);
  }
  return indices;
}

std::vector<int64_t> LayersWith(const ModelConfig& config, MixerKind kind) {
  return LayersThat(config, [&](const LayerConfig& layer) { return layer.mixer == kind; });
}

std::vector<int64_t> LayersWith(const ModelConfig& config, FeedForwardKind kind) {
  return LayersThat(config, [&](const LayerConfig& layer) { return layer.feed_forward == kind; });
}

constexpr LayerConfig kAttentionAndMlp{MixerKind::kAttention, FeedForwardKind::kDense};
constexpr LayerConfig kMambaAndMlp{MixerKind::kRecurrent, FeedForwardKind::kDense};

constexpr char kFalconMamba[] = R"({"model_type": "falcon_mamba", "hidden_size": 64,
    "num_hidden_layers": 2, "vocab_size": 100})";
constexpr char kZamba2[] = R"({"model_type": "zamba2", "hidden_size": 64, "num_hidden_layers": 4,
    "vocab_size": 100, "n_mamba_heads": 8, "mamba_d_state": 16, "num_attention_heads": 4,
    "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"]})";
constexpr char kJamba[] = R"({"model_type": "jamba", "hidden_size": 64, "num_hidden_layers": 6,
    "vocab_size": 100, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2,
    "num_experts": 4, "attn_layer_period": 4, "attn_layer_offset": 2})";
constexpr char kLlama[] = R"({"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2,
    "vocab_size": 100, "intermediate_size": 96, "num_attention_heads": 4})";
constexpr char kMistral[] = R"({"model_type": "mistral", "hidden_size": 64, "num_hidden_layers": 2,
    "vocab_size": 100, "intermediate_size": 96, "num_attention_heads": 8})";
constexpr char kMambaInLlama[] = R"({"model_type": "mamba_in_llama", "hidden_size": 64,
    "num_hidden_layers": 4, "vocab_size": 100, "intermediate_size": 96, "num_attention_heads": 4,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "mamba_config": {"d_model": 64, "d_xb": 32,
    "ssm_cfg": {"expand": 1}, "attn_layers": [1, 3]}})";
constexpr char kMamba2InLlama[] = R"({"model_type": "mamba_in_llama", "hidden_size": 64,
    "num_hidden_layers": 4, "vocab_size": 100, "intermediate_size": 96, "num_attention_heads": 4,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "mamba_config": {"d_model": 64, "d_inner": 64,
    "d_xb": 32, "ssm_cfg": {"expand": 1, "ngroups": 4, "d_state": 16}, "attn_layers": [1]}})";
constexpr char kBamba[] = R"({"model_type": "bamba", "hidden_size": 64, "num_hidden_layers": 3,
    "vocab_size": 100, "intermediate_size": 96, "attn_layer_indices": [1],
    "num_attention_heads": 4, "num_key_value_heads": 2, "mamba_n_heads": 8, "mamba_d_state": 16,
    "mamba_n_groups": 2})";
constexpr char kGranite[] = R"({"model_type": "granitemoehybrid", "hidden_size": 64,
    "num_hidden_layers": 3, "vocab_size": 100, "layer_types": ["mamba", "attention", "mamba"],
    "num_attention_heads": 4, "mamba_n_heads": 8, "mamba_d_state": 16, "num_local_experts": 4,
    "intermediate_size": 48, "shared_intermediate_size": 32})";
constexpr char kNemotron[] = R"({"model_type": "nemotron_h", "hidden_size": 64,
    "hybrid_override_pattern": "M-*ME", "vocab_size": 100, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "mamba_num_heads": 8, "mamba_head_dim": 16,
    "ssm_state_size": 16, "n_groups": 2, "intermediate_size": 96, "moe_intermediate_size": 48,
    "moe_shared_expert_intermediate_size": 32})";
constexpr char kFalconH1[] = R"({"model_type": "falcon_h1", "hidden_size": 64,
    "num_hidden_layers": 2, "vocab_size": 100, "intermediate_size": 96, "num_attention_heads": 4,
    "num_key_value_heads": 2, "mamba_d_ssm": 96, "mamba_n_heads": 6, "mamba_d_state": 16})";
constexpr char kQwen3Next[] = R"({"model_type": "qwen3_next", "hidden_size": 64,
    "num_hidden_layers": 4, "vocab_size": 100, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 32, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "linear_key_head_dim": 16, "linear_value_head_dim": 8, "num_experts": 8,
    "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 48})";

TEST(FalconMambaConfigTest, ReleasedFile) {
  SW_ASSERT_OK_AND_ASSIGN(const ModelConfig config, ParseWith("{}", R"({
      "architectures": ["FalconMambaForCausalLM"], "bos_token_id": 0, "conv_kernel": 4,
      "eos_token_id": 11, "expand": 16, "hidden_act": "silu", "hidden_size": 4096,
      "initializer_range": 0.1, "intermediate_size": 8192, "layer_norm_epsilon": 1e-05,
      "model_type": "falcon_mamba", "num_hidden_layers": 64, "pad_token_id": 11,
      "rescale_prenorm_residual": false, "residual_in_fp32": true, "state_size": 16,
      "tie_word_embeddings": false, "time_step_rank": 256, "torch_dtype": "bfloat16",
      "use_bias": false, "use_cache": true, "use_conv_bias": true, "vocab_size": 65024})"));
  EXPECT_EQ(config.family, ModelFamily::kFalconMamba);
  EXPECT_EQ(config.inner_size, 8192);
  EXPECT_EQ(config.time_step_rank, 256);
  EXPECT_EQ(config.inner_norm_eps, 1e-6f);
  EXPECT_EQ(config.layers, std::vector<LayerConfig>(64));
  EXPECT_FALSE(config.tie_embeddings);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(11));
}

TEST(FalconMambaConfigTest, Defaults) {
  const ModelConfig config = *ParseWith(kFalconMamba, "{}");
  EXPECT_EQ(config.inner_size, 128);
  EXPECT_EQ(config.time_step_rank, 4);
  EXPECT_TRUE(config.tie_embeddings);
  EXPECT_EQ(ParseWith(kFalconMamba, R"({"mixer_rms_eps": 1e-4})")->inner_norm_eps, 1e-4f);
}

TEST(Zamba2ConfigTest, Transformers5File) {
  SW_ASSERT_OK_AND_ASSIGN(const ModelConfig config, ParseWith(kZamba2, R"({
      "attention_head_dim": 32, "attention_hidden_size": 128, "hidden_act": "gelu",
      "hybrid_layer_ids": [1, 3], "kv_channels": 16, "mamba_expand": 2, "mamba_headdim": 16,
      "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
      "mamba_ngroups": 2, "num_mem_blocks": 2, "num_query_groups": 4, "rms_norm_eps": 1e-6,
      "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}, "time_step_min": 0.001,
      "use_mem_rope": false, "use_shared_attention_adapter": true, "adapter_rank": 6})"));
  EXPECT_THAT(LayersWith(config, MixerKind::kBoth), ElementsAre(1, 3));
  EXPECT_EQ(config.inner_size, 128);
  EXPECT_EQ(config.num_heads, 8);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.gated_norm_group, 64);
  EXPECT_EQ(config.norm_eps, 1e-6f);
  EXPECT_EQ(config.gated_norm_eps, 1e-5f);
  EXPECT_EQ(config.time_step_min, 0.0f);
  EXPECT_EQ(config.attention.num_heads, 4);
  EXPECT_EQ(config.attention.num_kv_heads, 4);
  EXPECT_EQ(config.attention.head_dim, 32);
  EXPECT_EQ(config.attention.scale, 0.25f);
  EXPECT_EQ(config.attention.rope.dim, 0);
  EXPECT_EQ(config.feed_forward.inner_size, 256);
  EXPECT_EQ(config.feed_forward.activation, Activation::kGelu);
  EXPECT_EQ(config.num_shared_blocks, 2);
  EXPECT_EQ(config.adapter_rank, 6);
  EXPECT_TRUE(config.attention_adapters);
  EXPECT_TRUE(config.tie_embeddings);
}

TEST(Zamba2ConfigTest, ForkFile) {
  SW_ASSERT_OK_AND_ASSIGN(const ModelConfig config, ParseWith("{}", R"({"model_type": "zamba2",
      "add_bias_linear": false, "conv_dimension": 4, "expansion_factor": 2,
      "ffn_hidden_size": 14336, "gated_linear_unit": true, "hidden_size": 3584, "kv_channels": 112,
      "lora_rank": 128, "mamba_headdim": 64, "mamba_ngroups": 2, "num_attention_heads": 32,
      "num_hidden_layers": 3, "num_mem_blocks": 2, "rope_theta": 10000, "state_size": 64,
      "layers_block_type": ["m", "g", "g"], "use_mem_rope": true, "use_shared_attention_lora": false,
      "use_shared_block_lora": true, "vocab_size": 32000})"));
  EXPECT_EQ(config.num_heads, 112);
  EXPECT_EQ(config.head_dim, 64);
  EXPECT_EQ(config.state_size, 64);
  EXPECT_EQ(config.attention.head_dim, 224);
  EXPECT_EQ(config.attention.rope.dim, 224);
  EXPECT_EQ(config.feed_forward.inner_size, 14336);
  EXPECT_EQ(config.adapter_rank, 128);
  EXPECT_THAT(LayersWith(config, MixerKind::kBoth), ElementsAre(1, 2));
}

TEST(Zamba2ConfigTest, DefaultsOfTheClass) {
  SW_ASSERT_OK_AND_ASSIGN(const ModelConfig config, ParseWith("{}", R"({"model_type": "zamba2"})"));
  EXPECT_THAT(LayersWith(config, MixerKind::kBoth), ElementsAre(6, 12, 18, 24, 30, 36, 42, 47, 51));
  EXPECT_EQ(config.num_heads, 8);
  EXPECT_EQ(config.head_dim, 640);
  EXPECT_EQ(config.attention.head_dim, 160);
}

TEST(Zamba2ConfigTest, LongContextRaisesTheBase) {
  const auto theta = [](const char* changes) {
    return ParseWith(kZamba2, changes)->attention.rope.theta;
  };
  EXPECT_EQ(theta(R"({"use_mem_rope": true})"), 10000.0);
  EXPECT_DOUBLE_EQ(theta(R"({"use_mem_rope": true, "use_long_context": true})"),
                   10000.0 * std::pow(8.0, 32.0 / 30.0));
  EXPECT_EQ(theta(R"({"use_mem_rope": true, "use_long_context": true, "rope_theta": 5e4})"), 5e4);
}

TEST(JambaConfigTest, ReleasedFile) {
  SW_ASSERT_OK_AND_ASSIGN(const ModelConfig config, ParseWith("{}", R"({
      "architectures": ["JambaForCausalLM"], "attn_layer_offset": 4, "attn_layer_period": 8,
      "bos_token_id": 1, "eos_token_id": [2, 518], "expert_layer_offset": 1,
      "expert_layer_period": 2, "hidden_act": "silu", "hidden_size": 4096,
      "intermediate_size": 14336, "mamba_conv_bias": true, "mamba_d_conv": 4, "mamba_d_state": 16,
      "mamba_dt_rank": 256, "mamba_expand": 2, "mamba_inner_layernorms": true,
      "mamba_proj_bias": false, "model_type": "jamba", "num_attention_heads": 32,
      "num_experts": 16, "num_experts_per_tok": 2, "num_hidden_layers": 32,
      "num_key_value_heads": 8, "pad_token_id": 0, "rms_norm_eps": 1e-06, "sliding_window": null,
      "tie_word_embeddings": false, "torch_dtype": "bfloat16", "vocab_size": 65536})"));
  EXPECT_THAT(LayersWith(config, MixerKind::kAttention), ElementsAre(4, 12, 20, 28));
  EXPECT_EQ(LayersWith(config, FeedForwardKind::kExperts).size(), 16u);
  EXPECT_EQ(config.layers[1].feed_forward, FeedForwardKind::kExperts);
  EXPECT_EQ(config.inner_size, 8192);
  EXPECT_EQ(config.inner_norm_eps, 1e-6f);
  EXPECT_EQ(config.attention.head_dim, 128);
  EXPECT_EQ(config.attention.rope.dim, 0);
  EXPECT_EQ(config.experts.num_experts, 16);
  EXPECT_EQ(config.experts.inner_size, 14336);
  EXPECT_EQ(config.experts.score, ExpertScore::kSoftmax);
  EXPECT_FALSE(config.experts.normalize);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(2, 518));
  EXPECT_EQ(ParseWith("{}", R"({"model_type": "jamba", "eos_token_id": [2, 518],
                                "dtype": "bfloat16"})")
                .value(),
            config);
}

TEST(JambaConfigTest, WithoutExpertsOrAttention) {
  ModelConfig config = *ParseWith(kJamba, R"({"num_experts": 1})");
  EXPECT_THAT(LayersWith(config, FeedForwardKind::kExperts), IsEmpty());
  EXPECT_EQ(config.experts, ExpertsConfig{});
  config = *ParseWith(kJamba, R"({"attn_layer_period": 9, "attn_layer_offset": 8})");
  EXPECT_EQ(config.attention, AttentionConfig{});
  config = *ParseWith(kJamba, R"({"num_experts": null, "num_local_experts": 3,
                                  "expert_layer_period": 1, "expert_layer_offset": 0})");
  EXPECT_EQ(config.experts.num_experts, 3);
  EXPECT_EQ(config.feed_forward.inner_size, 0);
}

TEST(LlamaConfigTest, ReleasedLlama31) {
  SW_ASSERT_OK_AND_ASSIGN(const ModelConfig config, ParseWith("{}", R"({
      "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
      "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "hidden_act": "silu",
      "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336,
      "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama",
      "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
      "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": {"factor": 8.0,
      "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
      "rope_type": "llama3"}, "rope_theta": 500000.0, "tie_word_embeddings": false,
      "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 128256})"));
  EXPECT_EQ(config.family, ModelFamily::kLlama);
  EXPECT_EQ(config.layers, std::vector<LayerConfig>(32, kAttentionAndMlp));
  EXPECT_EQ(config.inner_size, 0);
  EXPECT_EQ(config.attention.num_kv_heads, 8);
  EXPECT_EQ(config.attention.head_dim, 128);
  EXPECT_EQ(config.attention.scale, static_cast<float>(1 / std::sqrt(128.0)));
  const RopeConfig rope = {.dim = 128,
                           .theta = 500000.0,
                           .scaling = RopeConfig::Scaling::kLlama3,
                           .factor = 8.0,
                           .low_freq_factor = 1.0,
                           .high_freq_factor = 4.0,
                           .original_max_positions = 8192};
  EXPECT_EQ(config.attention.rope, rope);
  EXPECT_EQ(config.feed_forward.inner_size, 14336);
}

TEST(LlamaConfigTest, RopeInAllSpellings) {
  const auto rope = [](const char* changes) { return ParseWith(kLlama, changes)->attention.rope; };
  const RopeConfig plain = {.dim = 16};
  EXPECT_EQ(rope("{}"), plain);
  EXPECT_EQ(rope(R"({"rope_scaling": null, "rope_theta": null})"), plain);
  EXPECT_EQ(rope(R"({"rope_parameters": {"rope_type": "default"}})"), plain);
  RopeConfig linear = {.dim = 16, .theta = 5e5, .scaling = RopeConfig::Scaling::kLinear};
  linear.factor = 2.0;
  EXPECT_EQ(rope(R"({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2}})"),
            linear);
  EXPECT_EQ(rope(R"({"rope_theta": 5e5, "rope_parameters": {"rope_type": "linear", "factor": 2}})"),
            linear);
  EXPECT_EQ(rope(R"({"rope_theta": 7, "rope_parameters": {"rope_theta": 5e5, "rope_type": "linear",
                     "factor": 2}})"),
            linear);
  EXPECT_EQ(rope(R"({"head_dim": 32})").dim, 32);
  EXPECT_EQ(rope(R"({"partial_rotary_factor": 0.5})").dim, 8);
}

TEST(LlamaConfigTest, BiasesAndHeads) {
  const ModelConfig config = *ParseWith(
      kLlama, R"({"attention_bias": true, "mlp_bias": true, "head_dim": 10, "tie_word_embeddings":
      true, "num_key_value_heads": 1, "sliding_window": 8})");
  EXPECT_TRUE(config.attention.bias);
  EXPECT_TRUE(config.feed_forward.bias);
  EXPECT_TRUE(config.tie_embeddings);
  EXPECT_EQ(config.attention.head_dim, 10);
  EXPECT_EQ(config.attention.num_kv_heads, 1);
  EXPECT_EQ(config.attention.window, 0);  // not an option of this class
  EXPECT_EQ(config.norm_eps, 1e-6f);
}

TEST(MistralConfigTest, Window) {
  EXPECT_EQ(ParseWith(kMistral, "{}")->attention.window, 4096);
  EXPECT_EQ(ParseWith(kMistral, R"({"sliding_window": null})")->attention.window, 0);
  EXPECT_EQ(ParseWith(kMistral, R"({"sliding_window": 7})")->attention.window, 7);
  EXPECT_EQ(ParseWith(kMistral, "{}")->attention.num_kv_heads, 8);
  EXPECT_EQ(ParseWith(kMistral, "{}")->family, ModelFamily::kLlama);
}

TEST(MambaInLlamaConfigTest, TwoFilesOrOne) {
  const TempFolder folder;
  Json both = Json::parse(kMamba2InLlama);
  folder.Write("mamba_config.json", both.at("mamba_config").dump());
  both.erase("mamba_config");
  both["model_type"] = "llama";
  folder.Write("config.json", both.dump());
  SW_ASSERT_OK_AND_ASSIGN(const ModelConfig config, LoadConfig(folder.path()));
  EXPECT_EQ(config, *ParseWith(kMamba2InLlama, "{}"));
  EXPECT_EQ(config.family, ModelFamily::kMambaInLlama);

  folder.Write("mamba_config.json", R"({"d_xb": "x"})");
  EXPECT_THAT(LoadConfig(folder.path()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr(folder / "mamba_config.json"), HasSubstr("d_xb"))));
  // Another family's folder may hold any file.
  folder.Write("config.json", R"({"model_type": "mamba"})");
  EXPECT_THAT(LoadConfig(folder.path()), IsOk());
}

TEST(MambaInLlamaConfigTest, Mamba1) {
  const ModelConfig config = *ParseWith(kMambaInLlama, "{}");
  EXPECT_THAT(config.layers,
              ElementsAre(kMambaAndMlp, kAttentionAndMlp, kMambaAndMlp, kAttentionAndMlp));
  EXPECT_EQ(config.inner_size, 64);
  EXPECT_EQ(config.repeated_dim, 32);
  EXPECT_TRUE(config.repeat_before_conv);
  EXPECT_EQ(config.state_size, 16);
  EXPECT_EQ(config.time_step_rank, 4);
  EXPECT_EQ(config.num_heads, 0);
  EXPECT_EQ(config.conv_dim(), 64);
}

TEST(MambaInLlamaConfigTest, Mamba2) {
  const ModelConfig config = *ParseWith(kMamba2InLlama, "{}");
  EXPECT_THAT(LayersWith(config, MixerKind::kAttention), ElementsAre(1));
  EXPECT_EQ(config.num_heads, 4);
  EXPECT_EQ(config.num_groups, 4);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.gated_norm_group, 16);
  EXPECT_EQ(config.gated_norm_eps, 1e-5f);
  EXPECT_FALSE(config.repeat_before_conv);
  EXPECT_EQ(config.time_step_rank, 0);
  EXPECT_EQ(config.conv_dim(), 64 + 2 * 32);
}

TEST(BambaConfigTest, ReleasedFile) {
  SW_ASSERT_OK_AND_ASSIGN(const ModelConfig config, ParseWith("{}", R"({
      "architectures": ["BambaForCausalLM"], "attn_layer_indices": [9, 18, 27],
      "attn_rotary_emb": 64, "bos_token_id": 128000, "eos_token_id": 128001, "hidden_act": "silu",
      "hidden_size": 4096, "intermediate_size": 14336, "mamba_chunk_size": 256,
      "mamba_conv_bias": true, "mamba_d_conv": 4, "mamba_d_head": 64, "mamba_d_state": 128,
      "mamba_expand": 2, "mamba_n_groups": 1, "mamba_n_heads": 128, "mamba_proj_bias": false,
      "model_type": "bamba", "num_attention_heads": 32, "num_hidden_layers": 32,
      "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
      "tie_word_embeddings": false, "torch_dtype": "bfloat16", "vocab_size": 128256})"));
  EXPECT_THAT(LayersWith(config, MixerKind::kAttention), ElementsAre(9, 18, 27));
  EXPECT_EQ(config.num_heads, 128);
  EXPECT_EQ(config.head_dim, 64);
  EXPECT_EQ(config.attention.head_dim, 128);
  EXPECT_EQ(config.attention.rope.dim, 64);
  EXPECT_EQ(config.gated_norm_group, 8192);
}

TEST(BambaConfigTest, HalfOfAHeadIsRotatedWhateverTheFileSays) {
  EXPECT_EQ(ParseWith(kBamba, R"({"rope_parameters": {"partial_rotary_factor": 1.0}})")
                ->attention.rope.dim,
            8);
}

TEST(BambaConfigTest, NormGroupFollowsTheVersionThatWroteTheFile) {
  EXPECT_EQ(ParseWith(kBamba, "{}")->gated_norm_group, 128);
  EXPECT_EQ(ParseWith(kBamba, R"({"transformers_version": "5.22.0"})")->gated_norm_group, 128);
  EXPECT_EQ(ParseWith(kBamba, R"({"transformers_version": "5.24.0"})")->gated_norm_group, 64);
}

TEST(BambaConfigTest, OptionsAndNoAttention) {
  const ModelConfig config =
      *ParseWith(kBamba, R"({"mamba_proj_bias": true, "mlp_bias": true, "attention_bias": true,
                             "mamba_d_head": "auto", "time_step_limit": [0.0, Infinity]})");
  EXPECT_TRUE(config.use_bias && config.use_out_bias);
  EXPECT_TRUE(config.feed_forward.bias && config.attention.bias);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(ParseWith(kBamba, R"({"attn_layer_indices": null})")->attention, AttentionConfig{});
}

TEST(GraniteConfigTest, PresetOfTheReleasedFile) {
  SW_ASSERT_OK_AND_ASSIGN(const ModelConfig config, SyntheticConfig("granite-4-h-small"));
  EXPECT_THAT(LayersWith(config, MixerKind::kAttention), ElementsAre(5, 15, 25, 35));
  EXPECT_EQ(config.attention.scale, 0.0078125f);
  EXPECT_EQ(config.attention.rope.dim, 0);
  EXPECT_EQ(config.multipliers.embedding, 12.0f);
  EXPECT_EQ(config.multipliers.residual, 0.22f);
  EXPECT_EQ(config.multipliers.logits, 0.0625f);
  EXPECT_EQ(config.experts.num_experts, 72);
  EXPECT_EQ(config.experts.num_chosen, 10);
  EXPECT_EQ(config.experts.inner_size, 768);
  EXPECT_EQ(config.experts.shared_inner_size, 1536);
  EXPECT_EQ(config.experts.score, ExpertScore::kSoftmaxChosen);
  EXPECT_EQ(config.feed_forward.inner_size, 0);
  EXPECT_TRUE(config.tie_embeddings);
}

TEST(GraniteConfigTest, SpellingsAndOptions) {
  EXPECT_EQ(*ParseWith(kGranite, R"({"layer_types": null, "layers_block_type":
                           ["linear_attention", "full_attention", "linear_attention"]})"),
            *ParseWith(kGranite, "{}"));
  EXPECT_EQ(ParseWith(kGranite, "{}")->attention.scale, 1.0f);
  EXPECT_EQ(ParseWith(kGranite, "{}")->attention.rope.dim, 0);
  EXPECT_EQ(ParseWith(kGranite, R"({"position_embedding_type": "nope"})")->attention.rope.dim, 0);
  EXPECT_EQ(ParseWith(kGranite, R"({"position_embedding_type": "rope"})")->attention.rope.dim, 16);
  const ModelConfig dense =
      *ParseWith(kGranite, R"({"num_local_experts": 0, "layer_types": null})");
  EXPECT_EQ(dense.experts, ExpertsConfig{});
  EXPECT_EQ(dense.feed_forward.inner_size, 32);
  EXPECT_EQ(dense.layers, std::vector<LayerConfig>(3, kMambaAndMlp));
  const ModelConfig plain = *ParseWith(
      kGranite, R"({"layer_types": ["attention", "attention", "attention"], "mamba_n_heads": 7})");
  EXPECT_EQ(plain.inner_size, 0);
}

TEST(NemotronConfigTest, ReleasedFile) {
  SW_ASSERT_OK_AND_ASSIGN(const ModelConfig config, ParseWith("{}", R"({
      "architectures": ["NemotronHForCausalLM"], "attention_bias": false,
      "attention_head_dim": 128, "bos_token_id": 1, "chunk_size": 128, "conv_kernel": 4,
      "eos_token_id": 2, "expand": 2, "hidden_size": 4096, "intermediate_size": 21504,
      "hybrid_override_pattern": "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
      "layer_norm_epsilon": 1e-05, "mamba_head_dim": 64, "mamba_hidden_act": "silu",
      "mamba_num_heads": 128, "mamba_proj_bias": false, "mlp_bias": false,
      "mlp_hidden_act": "relu2", "model_type": "nemotron_h", "n_groups": 8,
      "num_attention_heads": 32, "num_hidden_layers": 52, "num_key_value_heads": 8,
      "rms_norm_eps": 1e-05, "rope_theta": 10000, "ssm_state_size": 128, "time_step_limit":
      [0.0, Infinity], "torch_dtype": "bfloat16", "use_bias": false, "use_conv_bias": true,
      "vocab_size": 131072})"));
  EXPECT_EQ(config.num_layers, 52);
  EXPECT_THAT(LayersWith(config, MixerKind::kAttention), ElementsAre(7, 18, 29, 40));
  EXPECT_EQ(LayersWith(config, MixerKind::kRecurrent).size(), 24u);
  EXPECT_EQ(LayersWith(config, FeedForwardKind::kDense).size(), 24u);
  EXPECT_EQ(config.attention.rope.dim, 0);
  EXPECT_EQ(config.attention.head_dim, 128);
  EXPECT_EQ(config.gated_norm_group, 1024);
  EXPECT_EQ(config.feed_forward.activation, Activation::kRelu2);
  EXPECT_FALSE(config.feed_forward.gated);
  EXPECT_EQ(config.experts, ExpertsConfig{});
}

TEST(NemotronConfigTest, ExpertsAndSpellings) {
  const ModelConfig config = *ParseWith(kNemotron, R"({"n_routed_experts": 16, "n_group": 4,
      "topk_group": 2, "num_experts_per_tok": 6, "routed_scaling_factor": 2.5,
      "moe_latent_size": 24, "norm_topk_prob": false})");
  EXPECT_THAT(LayersWith(config, FeedForwardKind::kExperts), ElementsAre(4));
  const ExpertsConfig experts = {.num_experts = 16,
                                 .num_chosen = 6,
                                 .inner_size = 48,
                                 .shared_inner_size = 32,
                                 .latent_size = 24,
                                 .score = ExpertScore::kSigmoid,
                                 .normalize = false,
                                 .scale = 2.5f,
                                 .num_groups = 4,
                                 .num_chosen_groups = 2};
  EXPECT_EQ(config.experts, experts);
  for (const char* list : {R"(["mamba", "mlp", "attention", "mamba", "moe"])",
                           R"(["linear_attention", "mlp", "full_attention", "linear_attention",
                               "moe"])"}) {
    EXPECT_EQ(*ParseWith(kNemotron, absl::StrCat("{\"hybrid_override_pattern\": \"MMMMM\","
                                                 "\"layers_block_type\": ",
                                                 list, "}")),
              *ParseWith(kNemotron, "{}"));
  }
  EXPECT_EQ(ParseWith(kNemotron, R"({"mamba_n_groups": 4, "mamba_d_conv": 3,
                                     "mamba_conv_bias": false})")
                ->num_groups,
            4);
  EXPECT_EQ(ParseWith(kNemotron, R"({"head_dim": null})")->attention.head_dim, 128);
}

TEST(FalconH1ConfigTest, Multipliers) {
  const ModelConfig config = *ParseWith(kFalconH1, R"({"embedding_multiplier": 5.5,
      "lm_head_multiplier": 0.02, "key_multiplier": 0.4, "attention_in_multiplier": 0.9,
      "attention_out_multiplier": 0.8, "ssm_in_multiplier": 0.7, "ssm_out_multiplier": 0.6,
      "ssm_multipliers": [0.1, 0.2, 0.3, 0.4, 0.5], "mlp_multipliers": [1.5, 2.5]})");
  const MultiplierConfig expected = {.embedding = 5.5f,
                                     .residual = 1.0f,
                                     .logits = 0.02f,
                                     .ssm_in = 0.7f,
                                     .ssm_out = 0.6f,
                                     .ssm_z = 0.1f,
                                     .ssm_x = 0.2f,
                                     .ssm_b = 0.3f,
                                     .ssm_c = 0.4f,
                                     .ssm_dt = 0.5f,
                                     .attention_in = 0.9f,
                                     .attention_out = 0.8f,
                                     .key = 0.4f,
                                     .mlp_gate = 1.5f,
                                     .mlp_down = 2.5f};
  EXPECT_EQ(config.multipliers, expected);
  EXPECT_EQ(ParseWith(kFalconH1, "{}")->multipliers, MultiplierConfig{});
}

TEST(FalconH1ConfigTest, WidthNormAndBiases) {
  const ModelConfig config = *ParseWith(kFalconH1, "{}");
  EXPECT_EQ(config.layers,
            std::vector<LayerConfig>(2, {MixerKind::kBoth, FeedForwardKind::kDense}));
  EXPECT_EQ(config.inner_size, 96);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.gated_norm, GatedNorm::kGateAlone);
  EXPECT_EQ(ParseWith(kFalconH1, R"({"mamba_d_ssm": null, "mamba_n_heads": 8})")->inner_size, 128);
  EXPECT_EQ(ParseWith(kFalconH1, R"({"mamba_rms_norm": true})")->gated_norm, GatedNorm::kGateLast);
  const ModelConfig first = *ParseWith(
      kFalconH1, R"({"mamba_rms_norm": true, "mamba_norm_before_gate": false, "mamba_n_groups": 2,
                     "mamba_proj_bias": true, "projectors_bias": false})");
  EXPECT_EQ(first.gated_norm, GatedNorm::kGateFirst);
  EXPECT_EQ(first.gated_norm_group, 48);
  EXPECT_TRUE(first.use_bias);
  EXPECT_FALSE(first.use_out_bias);
  EXPECT_TRUE(ParseWith(kFalconH1, R"({"projectors_bias": true})")->use_out_bias);
}

TEST(Qwen3NextConfigTest, PresetAndNewerFile) {
  SW_ASSERT_OK_AND_ASSIGN(const ModelConfig config, SyntheticConfig("qwen3-next-80b"));
  EXPECT_EQ(LayersWith(config, MixerKind::kAttention).size(), 12u);
  EXPECT_EQ(config.layers[3].mixer, MixerKind::kAttention);
  EXPECT_EQ(config.inner_size, 4096);
  EXPECT_EQ(config.conv_dim(), 8192);
  EXPECT_EQ(config.num_key_heads, 16);
  EXPECT_EQ(config.gated_norm, GatedNorm::kGateLast);
  EXPECT_EQ(config.gated_norm_group, 128);
  EXPECT_FALSE(config.use_conv_bias);
  EXPECT_EQ(config.attention.rope.dim, 64);
  EXPECT_EQ(config.attention.rope.theta, 1e7);
  EXPECT_EQ(config.experts.num_chosen, 10);
  EXPECT_TRUE(config.experts.normalize);

  EXPECT_EQ(*ParseWith(kQwen3Next, R"({"layer_types": ["linear_attention", "linear_attention",
                "linear_attention", "full_attention"], "mlp_only_layers": [], "rope_parameters":
                {"partial_rotary_factor": 0.25, "rope_theta": 10000.0, "rope_type": "default"}})"),
            *ParseWith(kQwen3Next, "{}"));
}

TEST(Qwen3NextConfigTest, NormsAndGates) {
  const ModelConfig config = *ParseWith(kQwen3Next, "{}");
  EXPECT_TRUE(config.zero_centred_norms);
  EXPECT_TRUE(config.attention.head_norm);
  EXPECT_TRUE(config.attention.output_gate);
  EXPECT_EQ(config.gated_norm, GatedNorm::kGateLast);
  EXPECT_EQ(config.gated_norm_group, config.head_dim);
}

TEST(Qwen3NextConfigTest, DenseLayers) {
  EXPECT_THAT(
      LayersWith(*ParseWith(kQwen3Next, R"({"mlp_only_layers": [2, 0]})"), FeedForwardKind::kDense),
      ElementsAre(0, 2));
  const ModelConfig half = *ParseWith(kQwen3Next, R"({"decoder_sparse_step": 2})");
  EXPECT_THAT(LayersWith(half, FeedForwardKind::kDense), ElementsAre(0, 2));
  EXPECT_EQ(half.feed_forward.inner_size, 5632);
  const ModelConfig dense = *ParseWith(kQwen3Next, R"({"num_experts": 0})");
  EXPECT_EQ(dense.experts, ExpertsConfig{});
}

class WrongFamilyConfigTest : public ::testing::TestWithParam<WrongConfig> {};

TEST_P(WrongFamilyConfigTest, NamesFileAndField) { ExpectRefused(GetParam()); }

const WrongConfig kWrongFalconMamba[] = {
    {"Eps", kFalconMamba, R"({"mixer_rms_eps": 0})", kInvalid, "mixer_rms_eps"},
    {"Activation", kFalconMamba, R"({"hidden_act": "gelu"})", kUnimplemented, "hidden_act"},
    {"Rank", kFalconMamba, R"({"time_step_rank": 0})", kInvalid, "time_step_rank"},
};
INSTANTIATE_TEST_SUITE_P(FalconMamba, WrongFamilyConfigTest, ValuesIn(kWrongFalconMamba),
                         NameOfWrong);

const WrongConfig kWrongZamba2[] = {
    {"TooFewNames", kZamba2, R"({"layers_block_type": ["mamba", "hybrid"]})", kInvalid,
     "layers_block_type"},
    {"DefaultListOfOtherDepth", kZamba2, R"({"layers_block_type": null})", kInvalid, "54"},
    {"UnknownName", kZamba2, R"({"layers_block_type": ["m", "g", "m", "attention"]})", kInvalid,
     "\"layers_block_type\"[3] is \"attention\""},
    {"NoHybrid", kZamba2, R"({"layers_block_type": ["m", "m", "m", "m"]})", kUnimplemented,
     "hybrid"},
    {"NamesNoList", kZamba2, R"({"layers_block_type": "mgmg"})", kInvalid, "layers_block_type"},
    {"NamesNoStrings", kZamba2, R"({"layers_block_type": [0, 1, 0, 1]})", kInvalid,
     "layers_block_type"},
    {"TooManyBlocks", kZamba2, R"({"num_mem_blocks": 3})", kInvalid, "num_mem_blocks"},
    {"NoBlocks", kZamba2, R"({"num_mem_blocks": 0})", kInvalid, "num_mem_blocks"},
    {"Heads", kZamba2, R"({"n_mamba_heads": 3})", kInvalid, "n_mamba_heads"},
    {"HeadDim", kZamba2, R"({"mamba_headdim": 8})", kInvalid, "8 * 8"},
    {"ForkHeadDim", kZamba2, R"({"n_mamba_heads": null, "mamba_headdim": 48})", kInvalid, "48"},
    {"Groups", kZamba2, R"({"mamba_ngroups": 3})", kInvalid, "8 heads do not divide into 3"},
    {"ForkState", kZamba2, R"({"mamba_d_state": null, "state_size": 5000})", kInvalid,
     "state_size"},
    {"AttentionHeads", kZamba2, R"({"num_attention_heads": 3})", kInvalid, "num_attention_heads"},
    {"AttentionWidth", kZamba2, R"({"attention_head_dim": 16})", kInvalid, "twice the width"},
    {"WideHeads", kZamba2, R"({"hidden_size": 1024, "num_attention_heads": 2})", kUnimplemented,
     "attention_head_dim"},
    {"KvHeads", kZamba2, R"({"num_key_value_heads": 3})", kInvalid, "num_key_value_heads"},
    {"Rank", kZamba2, R"({"adapter_rank": 0})", kInvalid, "adapter_rank"},
    {"Activation", kZamba2, R"({"hidden_act": "gelu_new"})", kUnimplemented,
     "\"gelu_new\"; legal is \"gelu\""},
    {"NotGated", kZamba2, R"({"gated_linear_unit": false})", kUnimplemented, "gated_linear_unit"},
    {"NoAdapters", kZamba2, R"({"use_shared_block_lora": false})", kUnimplemented,
     "use_shared_block_lora"},
    {"RopeText", kZamba2, R"({"use_mem_rope": "yes"})", kInvalid, "use_mem_rope"},
    {"HugeWidth", kZamba2, R"({"hidden_size": 16777216})", kInvalid, "inner width"},
};
INSTANTIATE_TEST_SUITE_P(Zamba2, WrongFamilyConfigTest, ValuesIn(kWrongZamba2), NameOfWrong);

const WrongConfig kWrongJamba[] = {
    {"AttentionOffset", kJamba, R"({"attn_layer_offset": 4})", kInvalid, "attn_layer_offset"},
    {"AttentionPeriod", kJamba, R"({"attn_layer_period": 0})", kInvalid, "attn_layer_period"},
    {"ExpertOffset", kJamba, R"({"expert_layer_offset": 2})", kInvalid, "expert_layer_offset"},
    {"NegativeOffset", kJamba, R"({"expert_layer_offset": -1})", kInvalid, "expert_layer_offset"},
    {"ManyExperts", kJamba, R"({"num_experts": 1025})", kInvalid, "num_experts"},
    {"ChosenExperts", kJamba, R"({"num_experts_per_tok": 5})", kInvalid, "num_experts_per_tok"},
    {"ManyChosen", kJamba, R"({"num_experts": 64, "num_experts_per_tok": 33})", kInvalid,
     "num_experts_per_tok"},
    {"NoneChosen", kJamba, R"({"num_experts_per_tok": 0})", kInvalid, "num_experts_per_tok"},
    {"ExpertsTimesWidth", kJamba, R"({"num_experts": 1024, "intermediate_size": 32768})", kInvalid,
     "1024 experts of width 32768"},
    {"KvHeads", kJamba, R"({"num_key_value_heads": 3})", kInvalid, "num_key_value_heads"},
    {"Heads", kJamba, R"({"num_attention_heads": 7, "num_key_value_heads": 7})", kInvalid,
     "num_attention_heads"},
    {"Rank", kJamba, R"({"mamba_dt_rank": "half"})", kInvalid, "mamba_dt_rank"},
    {"NoInnerNorms", kJamba, R"({"mamba_inner_layernorms": false})", kUnimplemented,
     "mamba_inner_layernorms"},
    {"Expand", kJamba, R"({"mamba_expand": 0})", kInvalid, "mamba_expand"},
};
INSTANTIATE_TEST_SUITE_P(Jamba, WrongFamilyConfigTest, ValuesIn(kWrongJamba), NameOfWrong);

const WrongConfig kWrongLlama[] = {
    {"HeadDimOdd", kLlama, R"({"head_dim": 15})", kUnimplemented, "head_dim"},
    {"HeadDimWide", kLlama, R"({"head_dim": 258})", kUnimplemented, "up to 256"},
    {"HeadsTimesDim", kLlama, R"({"num_attention_heads": 16777216, "head_dim": 2})", kInvalid,
     "16777216 heads of attention"},
    {"Heads", kLlama, R"({"num_attention_heads": 5})", kInvalid, "num_attention_heads"},
    {"HeadsZero", kLlama, R"({"num_attention_heads": 0})", kInvalid, "num_attention_heads"},
    {"KvHeads", kLlama, R"({"num_key_value_heads": 8})", kInvalid, "num_key_value_heads"},
    {"Width", kLlama, R"({"intermediate_size": 0})", kInvalid, "intermediate_size"},
    {"ThetaZero", kLlama, R"({"rope_theta": 0})", kInvalid, "rope_theta"},
    {"ThetaNan", kLlama, R"({"rope_theta": NaN})", kInvalid, "rope_theta"},
    {"ThetaInParameters", kLlama, R"({"rope_parameters": {"rope_theta": "big"}})", kInvalid,
     "\"rope_parameters\": \"rope_theta\""},
    {"RopeNoObject", kLlama, R"({"rope_scaling": 4})", kInvalid, "rope_scaling"},
    {"Yarn", kLlama, R"({"rope_scaling": {"rope_type": "yarn", "factor": 4}})", kUnimplemented,
     "\"yarn\"; legal are \"default\", \"linear\" and \"llama3\""},
    {"LinearWithoutFactor", kLlama, R"({"rope_scaling": {"type": "linear"}})", kInvalid, "factor"},
    {"FactorZero", kLlama, R"({"rope_scaling": {"type": "linear", "factor": 0}})", kInvalid,
     "factor"},
    {"Llama3Factors", kLlama,
     R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4,
         "high_freq_factor": 4, "original_max_position_embeddings": 32}})",
     kInvalid, "low_freq_factor"},
    {"Llama3Positions", kLlama,
     R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
         "high_freq_factor": 4, "original_max_position_embeddings": 0}})",
     kInvalid, "original_max_position_embeddings"},
    {"Share", kLlama, R"({"partial_rotary_factor": 1.5})", kInvalid, "partial_rotary_factor"},
    {"OddShare", kLlama, R"({"partial_rotary_factor": 0.2})", kInvalid, "are rotated"},
    {"NoShare", kLlama, R"({"partial_rotary_factor": 0.01})", kInvalid, "are rotated"},
    {"Activation", kLlama, R"({"hidden_act": "gelu"})", kUnimplemented, "hidden_act"},
    {"Window", kMistral, R"({"sliding_window": 0})", kInvalid, "sliding_window"},
};
INSTANTIATE_TEST_SUITE_P(Llama, WrongFamilyConfigTest, ValuesIn(kWrongLlama), NameOfWrong);

const WrongConfig kWrongMambaInLlama[] = {
    {"NoMambaConfig", kMambaInLlama, R"({"mamba_config": null})", kInvalid, "mamba_config"},
    {"MambaConfigNoObject", kMambaInLlama, R"({"mamba_config": 3})", kInvalid, "mamba_config"},
    {"Base", kMambaInLlama, R"({"base_model_type": "gpt2"})", kUnimplemented, "base_model_type"},
    {"Width", kMambaInLlama, R"({"mamba_config": {"d_model": 65}})", kInvalid,
     "\"mamba_config\": \"d_model\""},
    {"Depth", kMambaInLlama, R"({"mamba_config": {"n_layer": 5}})", kInvalid, "n_layer"},
    {"Eps", kMambaInLlama, R"({"mamba_config": {"rms_norm_eps": 1e-6}})", kUnimplemented,
     "rms_norm_eps"},
    {"Layer", kMambaInLlama, R"({"mamba_config": {"attn_layers": [4]}})", kInvalid, "attn_layers"},
    {"NegativeLayer", kMambaInLlama, R"({"mamba_config": {"attn_layers": [-1]}})", kInvalid,
     "attn_layers"},
    {"LayersNoList", kMambaInLlama, R"({"mamba_config": {"attn_layers": 1}})", kInvalid,
     "attn_layers"},
    {"Repeat", kMambaInLlama, R"({"mamba_config": {"d_xb": 48, "ssm_cfg": {"expand": 1}}})",
     kInvalid, "d_xb"},
    {"RepeatedState", kMambaInLlama,
     R"({"mamba_config": {"d_xb": 32, "ssm_cfg": {"expand": 1, "d_state": 64}}})", kInvalid,
     "d_xb"},
    {"SsmNoObject", kMambaInLlama, R"({"mamba_config": {"ssm_cfg": []}})", kInvalid, "ssm_cfg"},
    {"SsmUnknownKey", kMambaInLlama, R"({"mamba_config": {"ssm_cfg": {"d_stat": 16}}})",
     kUnimplemented, "\"d_stat\" is not known"},
    {"SsmBias", kMambaInLlama, R"({"mamba_config": {"ssm_cfg": {"proj_x_bias": true}}})",
     kUnimplemented, "proj_x_bias"},
    {"Groups", kMamba2InLlama,
     R"({"mamba_config": {"d_inner": 64, "d_xb": 32, "ssm_cfg": {"ngroups": 4, "d_state": 8}}})",
     kInvalid, "4 * 8"},
    {"NoNorm", kMamba2InLlama,
     R"({"mamba_config": {"d_inner": 64, "d_xb": 32,
         "ssm_cfg": {"ngroups": 4, "d_state": 16, "rmsnorm": false}}})",
     kUnimplemented, "rmsnorm"},
};
INSTANTIATE_TEST_SUITE_P(MambaInLlama, WrongFamilyConfigTest, ValuesIn(kWrongMambaInLlama),
                         NameOfWrong);

const WrongConfig kWrongBamba[] = {
    {"Layer", kBamba, R"({"attn_layer_indices": [3]})", kInvalid, "attn_layer_indices"},
    {"HeadDim", kBamba, R"({"mamba_d_head": 8})", kInvalid, "8 * 8"},
    {"HeadDimText", kBamba, R"({"mamba_d_head": "half"})", kInvalid, "mamba_d_head"},
    {"Heads", kBamba, R"({"mamba_n_heads": 5})", kInvalid, "mamba_n_heads"},
    {"ManyHeads", kBamba, R"({"mamba_n_heads": 256})", kInvalid, "mamba_n_heads"},
    {"Groups", kBamba, R"({"mamba_n_groups": 3})", kInvalid, "8 heads do not divide into 3"},
    {"Limit", kBamba, R"({"time_step_limit": [1, 0]})", kInvalid, "time_step_limit"},
    {"OddHalf", kBamba, R"({"head_dim": 18})", kInvalid, "are rotated"},
    {"Activation", kBamba, R"({"hidden_act": "relu"})", kUnimplemented, "hidden_act"},
};
INSTANTIATE_TEST_SUITE_P(Bamba, WrongFamilyConfigTest, ValuesIn(kWrongBamba), NameOfWrong);

const WrongConfig kWrongGranite[] = {
    {"LayerName", kGranite, R"({"layer_types": ["mamba", "mlp", "mamba"]})", kInvalid,
     "\"layer_types\"[1] is \"mlp\""},
    {"TooFewNames", kGranite, R"({"layer_types": ["mamba"]})", kInvalid, "layer_types"},
    {"Positions", kGranite, R"({"position_embedding_type": "alibi"})", kUnimplemented,
     "\"alibi\"; legal are \"rope\" and \"nope\""},
    {"ScaleZero", kGranite, R"({"attention_multiplier": 0})", kInvalid, "attention_multiplier"},
    {"LogitsZero", kGranite, R"({"logits_scaling": 0.0})", kInvalid, "logits_scaling"},
    {"LogitsNan", kGranite, R"({"logits_scaling": NaN})", kInvalid, "logits_scaling"},
    {"EmbeddingInfinite", kGranite, R"({"embedding_multiplier": Infinity})", kInvalid,
     "embedding_multiplier"},
    {"ResidualText", kGranite, R"({"residual_multiplier": "1"})", kInvalid, "residual_multiplier"},
    {"Chosen", kGranite, R"({"num_experts_per_tok": 5})", kInvalid, "num_experts_per_tok"},
    {"Shared", kGranite, R"({"shared_intermediate_size": 0})", kInvalid,
     "shared_intermediate_size"},
};
INSTANTIATE_TEST_SUITE_P(Granite, WrongFamilyConfigTest, ValuesIn(kWrongGranite), NameOfWrong);

const WrongConfig kWrongNemotron[] = {
    {"Letter", kNemotron, R"({"hybrid_override_pattern": "M-*MX"})", kInvalid,
     "hybrid_override_pattern"},
    {"NoLayers", kNemotron, R"({"hybrid_override_pattern": ""})", kInvalid,
     "hybrid_override_pattern"},
    {"EmptyList", kNemotron, R"({"layers_block_type": []})", kInvalid, "layers_block_type"},
    {"LayerName", kNemotron, R"({"layers_block_type": ["mamba", "dense"]})", kInvalid,
     "\"layers_block_type\"[1] is \"dense\""},
    {"Depth", kNemotron, R"({"num_hidden_layers": 6})", kInvalid, "num_hidden_layers"},
    {"Activation", kNemotron, R"({"mlp_hidden_act": "silu"})", kUnimplemented, "mlp_hidden_act"},
    {"MixerActivation", kNemotron, R"({"mamba_hidden_act": "relu2"})", kUnimplemented,
     "mamba_hidden_act"},
    {"AttentionBias", kNemotron, R"({"attention_bias": true})", kUnimplemented, "attention_bias"},
    {"ExpertBias", kNemotron, R"({"mlp_bias": true})", kUnimplemented, "mlp_bias"},
    {"ExpertGroups", kNemotron, R"({"n_group": 3})", kInvalid, "3 groups of experts"},
    {"LonelyExperts", kNemotron, R"({"n_group": 8})", kInvalid, "8 groups of experts"},
    {"ChosenGroups", kNemotron, R"({"n_group": 2, "topk_group": 3})", kInvalid,
     "3 groups of experts are chosen"},
    {"Chosen", kNemotron, R"({"n_group": 4, "num_experts_per_tok": 3})", kInvalid,
     "num_experts_per_tok"},
    {"Scale", kNemotron, R"({"routed_scaling_factor": 0})", kInvalid, "routed_scaling_factor"},
    {"Latent", kNemotron, R"({"moe_latent_size": 0})", kInvalid, "moe_latent_size"},
    {"InnerOverflow", kNemotron, R"({"mamba_num_heads": 16777216, "mamba_head_dim": 16777216})",
     kInvalid, "inner width"},
    {"Groups", kNemotron, R"({"n_groups": 3})", kInvalid, "8 heads do not divide into 3"},
};
INSTANTIATE_TEST_SUITE_P(Nemotron, WrongFamilyConfigTest, ValuesIn(kWrongNemotron), NameOfWrong);

const WrongConfig kWrongFalconH1[] = {
    {"SsmWidth", kFalconH1, R"({"mamba_d_ssm": 0})", kInvalid, "mamba_d_ssm"},
    {"SsmHeads", kFalconH1, R"({"mamba_n_heads": 7})", kInvalid, "mamba_n_heads"},
    {"FewMultipliers", kFalconH1, R"({"ssm_multipliers": [1, 1, 1, 1]})", kInvalid,
     "ssm_multipliers"},
    {"MultiplierZero", kFalconH1, R"({"ssm_multipliers": [1, 1, 0, 1, 1]})", kInvalid,
     "\"ssm_multipliers\"[2]"},
    {"MultiplierText", kFalconH1, R"({"mlp_multipliers": [1, "a"]})", kInvalid,
     "\"mlp_multipliers\"[1]"},
    {"MultipliersNoList", kFalconH1, R"({"mlp_multipliers": 2})", kInvalid, "mlp_multipliers"},
    {"Key", kFalconH1, R"({"key_multiplier": 1e9})", kInvalid, "key_multiplier"},
    {"Norm", kFalconH1, R"({"mamba_rms_norm": 1})", kInvalid, "mamba_rms_norm"},
};
INSTANTIATE_TEST_SUITE_P(FalconH1, WrongFamilyConfigTest, ValuesIn(kWrongFalconH1), NameOfWrong);

const WrongConfig kWrongQwen3Next[] = {
    {"KeyHeads", kQwen3Next, R"({"linear_num_key_heads": 3})", kInvalid, "linear_num_key_heads"},
    {"KeyDim", kQwen3Next, R"({"linear_key_head_dim": 4097})", kInvalid, "linear_key_head_dim"},
    {"ValueDim", kQwen3Next, R"({"linear_value_head_dim": 0})", kInvalid, "linear_value_head_dim"},
    {"KeyHeadsTimesDim", kQwen3Next,
     R"({"linear_num_key_heads": 8192, "linear_num_value_heads": 8192,
         "linear_key_head_dim": 4096})",
     kInvalid, "8192 key heads of 4096"},
    {"Conv", kQwen3Next, R"({"linear_conv_kernel_dim": 65})", kInvalid, "linear_conv_kernel_dim"},
    {"Interval", kQwen3Next, R"({"full_attention_interval": 0})", kInvalid,
     "full_attention_interval"},
    {"Step", kQwen3Next, R"({"decoder_sparse_step": 0})", kInvalid, "decoder_sparse_step"},
    {"DenseLayer", kQwen3Next, R"({"mlp_only_layers": [4]})", kInvalid, "mlp_only_layers"},
    {"Chosen", kQwen3Next, R"({"num_experts_per_tok": 9})", kInvalid, "num_experts_per_tok"},
    {"HeadDim", kQwen3Next, R"({"head_dim": 512})", kUnimplemented, "head_dim"},
    {"LayerName", kQwen3Next, R"({"layer_types": ["a", "a", "a", "a"]})", kInvalid, "layer_types"},
};
INSTANTIATE_TEST_SUITE_P(Qwen3Next, WrongFamilyConfigTest, ValuesIn(kWrongQwen3Next), NameOfWrong);

TEST(FamilyToJsonTest, RoundTrips) {
  const std::pair<const char*, std::vector<const char*>> cases[] = {
      {kFalconMamba, {"{}", R"({"mixer_rms_eps": 1e-3, "intermediate_size": 100})"}},
      {kZamba2,
       {"{}", R"({"use_mem_rope": true, "use_long_context": true, "num_mem_blocks": 2})",
        R"({"add_bias_linear": true, "mamba_ngroups": 4, "num_key_value_heads": 2})",
        R"({"time_step_limit": [0.1, Infinity], "use_shared_attention_adapter": true})"}},
      {kJamba,
       {"{}", R"({"num_experts": 1})", R"({"attn_layer_period": 1, "attn_layer_offset": 0})",
        R"({"attn_layer_period": 99, "attn_layer_offset": 50, "mamba_proj_bias": true})",
        R"({"attn_layer_period": 99, "attn_layer_offset": 5, "mamba_dt_rank": 3})",
        R"({"expert_layer_period": 1, "expert_layer_offset": 0, "mamba_conv_bias": false})"}},
      {kLlama,
       {"{}", R"({"attention_bias": true, "partial_rotary_factor": 0.75})",
        R"({"rope_scaling": {"type": "linear", "factor": 3.7}, "mlp_bias": true})",
        R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
            "high_freq_factor": 4, "original_max_position_embeddings": 64}})"}},
      {kMistral, {"{}", R"({"sliding_window": null})", R"({"sliding_window": 5})"}},
      {kMambaInLlama, {"{}", R"({"base_model_type": "mistral", "sliding_window": 9})"}},
      {kMamba2InLlama, {"{}", R"({"num_key_value_heads": 4, "dtype": "bfloat16"})"}},
      {kBamba,
       {"{}", R"({"attn_layer_indices": [2, 0, 2]})", R"({"attn_layer_indices": [0, 1, 2]})",
        R"({"attn_layer_indices": [], "mamba_proj_bias": true, "time_step_limit": [0, 1]})",
        R"({"gated_norm_group": 32, "mlp_bias": true, "attention_bias": true})"}},
      {kGranite,
       {"{}", R"({"num_local_experts": 0, "position_embedding_type": "rope"})",
        R"({"logits_scaling": 7.3, "residual_multiplier": 0.22, "attention_multiplier": 0.015})",
        R"({"layer_types": ["attention", "attention", "attention"]})"}},
      {kNemotron,
       {"{}", R"({"hybrid_override_pattern": "--"})", R"({"hybrid_override_pattern": "E*"})",
        R"({"hybrid_override_pattern": "M-", "mlp_bias": true, "use_bias": true})",
        R"({"n_group": 2, "routed_scaling_factor": 0.3, "moe_latent_size": 8})"}},
      {kFalconH1,
       {"{}", R"({"mamba_rms_norm": true, "projectors_bias": true, "rope_theta": 1e11})",
        R"({"mamba_rms_norm": true, "mamba_norm_before_gate": false, "mamba_n_groups": 2})",
        R"({"ssm_multipliers": [0.1, 0.2, 0.3, 0.4, 0.5], "key_multiplier": 0.3})"}},
      {kQwen3Next,
       {"{}", R"({"decoder_sparse_step": 3, "attention_bias": true})", R"({"num_experts": 0})",
        R"({"partial_rotary_factor": 1.0, "full_attention_interval": 1})",
        R"({"full_attention_interval": 7, "norm_topk_prob": false})"}},
  };
  for (const auto& [base, all_changes] : cases) {
    for (const char* changes : all_changes) {
      SW_ASSERT_OK_AND_ASSIGN(const ModelConfig config, ParseWith(base, changes));
      EXPECT_EQ(config.layers.size(), static_cast<size_t>(config.num_layers));
      ExpectRoundTrip(config, absl::StrCat(base, changes));
    }
  }
}

}  // namespace
}  // namespace sidewinder
