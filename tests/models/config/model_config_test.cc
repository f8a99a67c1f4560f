#include "models/config/model_config.h"

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/synthetic.h"
#include "tests/testing/config_cases.h"
#include "tests/testing/model_goldens.h"
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
using ::sidewinder::testing::Parse;
using ::sidewinder::testing::ParseWith;
using ::sidewinder::testing::StatusIs;
using ::sidewinder::testing::TempFolder;
using ::sidewinder::testing::WrongConfig;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::ValuesIn;

constexpr float kInf = std::numeric_limits<float>::infinity();

constexpr char kMamba1[] = R"({"model_type": "mamba", "hidden_size": 64, "num_hidden_layers": 2,
    "vocab_size": 100})";
constexpr char kMamba2[] = R"({"model_type": "mamba2", "hidden_size": 64, "num_hidden_layers": 2,
    "vocab_size": 100, "num_heads": 8, "head_dim": 16, "n_groups": 4, "state_size": 32})";
constexpr char kOriginal1[] = R"({"d_model": 64, "n_layer": 2, "vocab_size": 100, "ssm_cfg": {},
    "rms_norm": true, "residual_in_fp32": true, "fused_add_norm": true})";
constexpr char kOriginal2[] = R"({"d_model": 64, "n_layer": 2, "vocab_size": 100,
    "ssm_cfg": {"layer": "Mamba2", "headdim": 16}, "attn_layer_idx": [], "attn_cfg": {},
    "d_intermediate": 0, "pad_vocab_size_multiple": 16})";

TEST(ParseConfigTest, Mamba1WithDefaultsOfTheClass) {
  SW_ASSERT_OK_AND_ASSIGN(const ModelConfig config, Parse(R"({"model_type": "mamba"})"));
  EXPECT_EQ(config.family, ModelFamily::kMamba1);
  EXPECT_EQ(config.hidden_size, 768);
  EXPECT_EQ(config.num_layers, 32);
  EXPECT_EQ(config.vocab_size, 50280);
  EXPECT_EQ(config.vocab_limit, 50280);
  EXPECT_EQ(config.inner_size, 1536);
  EXPECT_EQ(config.state_size, 16);
  EXPECT_EQ(config.conv_kernel, 4);
  EXPECT_EQ(config.time_step_rank, 48);
  EXPECT_EQ(config.num_heads, 0);
  EXPECT_EQ(config.conv_dim(), 1536);
  EXPECT_EQ(config.norm_eps, 1e-5f);
  EXPECT_FALSE(config.use_bias);
  EXPECT_TRUE(config.use_conv_bias);
  EXPECT_TRUE(config.tie_embeddings);
  EXPECT_EQ(config.bos_token_id, 0);
  EXPECT_EQ(config.pad_token_id, 0);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(0));
  EXPECT_EQ(config.dtype, std::nullopt);
  EXPECT_FALSE(config.original_naming);
}

TEST(ParseConfigTest, Mamba2WithDefaultsOfTheClass) {
  SW_ASSERT_OK_AND_ASSIGN(const ModelConfig config, Parse(R"({"model_type": "mamba2"})"));
  EXPECT_EQ(config.family, ModelFamily::kMamba2);
  EXPECT_EQ(config.hidden_size, 4096);
  EXPECT_EQ(config.num_layers, 64);
  EXPECT_EQ(config.vocab_size, 32768);
  EXPECT_EQ(config.inner_size, 8192);
  EXPECT_EQ(config.state_size, 128);
  EXPECT_EQ(config.num_heads, 128);
  EXPECT_EQ(config.head_dim, 64);
  EXPECT_EQ(config.num_groups, 8);
  EXPECT_EQ(config.gated_norm_group, 8192);
  EXPECT_EQ(config.conv_dim(), 8192 + 2 * 8 * 128);
  EXPECT_EQ(config.time_step_rank, 0);
  EXPECT_EQ(config.time_step_min, 0.0f);
  EXPECT_EQ(config.time_step_max, kInf);
  EXPECT_FALSE(config.tie_embeddings);
  EXPECT_EQ(config.bos_token_id, 0);
  EXPECT_EQ(config.pad_token_id, 1);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(2));
}

TEST(ParseConfigTest, ReleasedMamba130m) {
  // The file of the -hf release carries the original names along; the model_type decides.
  SW_ASSERT_OK_AND_ASSIGN(const ModelConfig config, Parse(R"({
      "architectures": ["MambaForCausalLM"], "bos_token_id": 0, "conv_kernel": 4, "d_inner": 1536,
      "d_model": 768, "eos_token_id": 0, "expand": 2, "fused_add_norm": true, "hidden_act": "silu",
      "hidden_size": 768, "initializer_range": 0.1, "intermediate_size": 1536,
      "layer_norm_epsilon": 1e-05, "model_type": "mamba", "n_layer": 24, "num_hidden_layers": 24,
      "pad_token_id": 0, "pad_vocab_size_multiple": 8, "residual_in_fp32": true, "rms_norm": true,
      "ssm_cfg": {}, "state_size": 16, "time_step_rank": 48, "time_step_scale": 1.0,
      "torch_dtype": "float32", "use_bias": false, "use_cache": true, "use_conv_bias": true,
      "vocab_size": 50280})"));
  EXPECT_EQ(config.num_layers, 24);
  EXPECT_EQ(config.vocab_size, 50280);
  EXPECT_EQ(config.time_step_rank, 48);
  EXPECT_EQ(config.dtype, DType::kFloat32);
  EXPECT_FALSE(config.original_naming);
}

TEST(ParseConfigTest, ReleasedOriginalMamba28) {
  SW_ASSERT_OK_AND_ASSIGN(const ModelConfig config, Parse(R"({"d_model": 2560, "n_layer": 64,
      "vocab_size": 50277, "ssm_cfg": {}, "rms_norm": true, "residual_in_fp32": true,
      "fused_add_norm": true, "pad_vocab_size_multiple": 8})"));
  EXPECT_EQ(config.family, ModelFamily::kMamba1);
  EXPECT_TRUE(config.original_naming);
  EXPECT_EQ(config.vocab_limit, 50277);
  EXPECT_EQ(config.vocab_size, 50280);
  EXPECT_EQ(config.inner_size, 5120);
  EXPECT_EQ(config.time_step_rank, 160);
  EXPECT_EQ(config.state_size, 16);
  EXPECT_TRUE(config.tie_embeddings);
  EXPECT_EQ(config.bos_token_id, -1);
  EXPECT_THAT(config.eos_token_ids, IsEmpty());
}

TEST(ParseConfigTest, ReleasedOriginalMamba2) {
  SW_ASSERT_OK_AND_ASSIGN(const ModelConfig config, Parse(R"({"d_model": 2560,
      "d_intermediate": 0, "n_layer": 64, "vocab_size": 50277, "ssm_cfg": {"layer": "Mamba2"},
      "attn_layer_idx": [], "attn_cfg": {}, "rms_norm": true, "residual_in_fp32": true,
      "fused_add_norm": true, "pad_vocab_size_multiple": 16, "tie_embeddings": true})"));
  EXPECT_EQ(config.family, ModelFamily::kMamba2);
  EXPECT_EQ(config.vocab_size, 50288);
  EXPECT_EQ(config.num_heads, 80);
  EXPECT_EQ(config.head_dim, 64);
  EXPECT_EQ(config.num_groups, 1);
  EXPECT_EQ(config.state_size, 128);
  EXPECT_EQ(config.gated_norm_group, 5120);
}

TEST(ParseConfigTest, CodestralIgnoresItsLeftoverNormFlag) {
  SW_ASSERT_OK_AND_ASSIGN(
      const ModelConfig config,
      ParseWith(R"({"model_type": "mamba2"})",
                R"({"norm_before_gate": true, "rms_norm": true, "time_step_limit": [0.0, Infinity],
                    "torch_dtype": "bfloat16"})"));
  EXPECT_EQ(config.gated_norm_group, 1024);
  EXPECT_EQ(config.dtype, DType::kBFloat16);
}

TEST(ParseConfigTest, NormGroupFollowsTheVersionThatWroteTheFile) {
  const auto group = [](const char* version) {
    return ParseWith(kMamba2, absl::StrCat("{\"transformers_version\": \"", version, "\"}"))
        ->gated_norm_group;
  };
  EXPECT_EQ(group("4.44.0"), 128);
  EXPECT_EQ(group("5.17.0"), 128);
  EXPECT_EQ(group("5.22.2"), 128);
  EXPECT_EQ(group("5.23.0"), 32);
  EXPECT_EQ(group("6.0.0.dev0"), 32);
  EXPECT_EQ(group("nonsense"), 128);
}

TEST(ParseConfigTest, NormGroupMayBeOverridden) {
  EXPECT_EQ(ParseWith(kMamba2, "{}")->gated_norm_group, 128);
  EXPECT_EQ(ParseWith(kMamba2, R"({"gated_norm_group": 32})")->gated_norm_group, 32);
  EXPECT_EQ(ParseWith(kMamba2, R"({"gated_norm_group": 128})")->gated_norm_group, 128);
  for (const char* wrong : {"0", "-1", "129", "3", "1.0", "\"all\""}) {
    EXPECT_THAT(ParseWith(kMamba2, absl::StrCat("{\"gated_norm_group\": ", wrong, "}")),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("dir/config.json"), HasSubstr("gated_norm_group"))))
        << wrong;
  }
}

TEST(ParseConfigTest, ExplicitDerivedValuesWin) {
  SW_ASSERT_OK_AND_ASSIGN(
      const ModelConfig config,
      ParseWith(kMamba1, R"({"expand": 16, "intermediate_size": 128, "time_step_rank": 3})"));
  EXPECT_EQ(config.inner_size, 128);
  EXPECT_EQ(config.time_step_rank, 3);
  EXPECT_EQ(ParseWith(kMamba1, R"({"expand": 3, "intermediate_size": null})")->inner_size, 192);
  EXPECT_EQ(ParseWith(kMamba1, R"({"expand": 1.5})")->inner_size, 96);
  EXPECT_EQ(ParseWith(kMamba1, R"({"expand": 1.51})")->inner_size, 96);  // cut, not rounded
}

TEST(ParseConfigTest, AutoRank) {
  EXPECT_EQ(ParseWith(kMamba1, R"({"time_step_rank": "auto"})")->time_step_rank, 4);
  EXPECT_EQ(ParseWith(kMamba1, R"({"time_step_rank": "auto", "hidden_size": 65})")->time_step_rank,
            5);
  EXPECT_EQ(ParseWith(kOriginal1, R"({"ssm_cfg": {"dt_rank": "auto"}})")->time_step_rank, 4);
  EXPECT_EQ(ParseWith(kOriginal1, R"({"ssm_cfg": {"dt_rank": 7}})")->time_step_rank, 7);
  EXPECT_EQ(ParseWith(kOriginal1, R"({"ssm_cfg": null})")->time_step_rank, 4);
}

TEST(ParseConfigTest, TimeStepLimits) {
  for (const char* limit :
       {"[0.5, Infinity]", R"([0.5, {"__float__": "Infinity"}])", R"([0.5, "Infinity"])"}) {
    SW_ASSERT_OK_AND_ASSIGN(const ModelConfig config,
                            ParseWith(kMamba2, absl::StrCat("{\"time_step_limit\": ", limit, "}")));
    EXPECT_EQ(config.time_step_min, 0.5f) << limit;
    EXPECT_EQ(config.time_step_max, kInf) << limit;
  }
  EXPECT_EQ(ParseWith(kMamba2, R"({"time_step_limit": [0, 1]})")->time_step_max, 1.0f);
  EXPECT_EQ(ParseWith(kMamba2, R"({"time_step_limit": null})")->time_step_max, kInf);
  EXPECT_EQ(ParseWith(kOriginal2, R"({"ssm_cfg": {"layer": "Mamba2", "dt_limit": [0.1, 0.2]}})")
                ->time_step_max,
            0.2f);
  for (const char* limit : {"3", "[]", "[1]", "[0, 1, 2]", "[1, 0]", "[-1, 1]", "[0, 0]",
                            "[NaN, 1]", "[0, NaN]", "[Infinity, Infinity]", "[-Infinity, 1]",
                            "[1e39, Infinity]", "[\"a\", 1]", "{\"__float__\": \"Infinity\"}"}) {
    EXPECT_THAT(ParseWith(kMamba2, absl::StrCat("{\"time_step_limit\": ", limit, "}")),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("dir/config.json"), HasSubstr("time_step_limit"))))
        << limit;
  }
}

TEST(ParseConfigTest, DTypeNames) {
  EXPECT_EQ(ParseWith(kMamba1, R"({"dtype": "bfloat16"})")->dtype, DType::kBFloat16);
  EXPECT_EQ(ParseWith(kMamba1, R"({"torch_dtype": "float16"})")->dtype, DType::kFloat16);
  EXPECT_EQ(ParseWith(kMamba1, R"({"torch_dtype": "torch.float32"})")->dtype, DType::kFloat32);
  EXPECT_EQ(ParseWith(kMamba1, R"({"dtype": "float16", "torch_dtype": "float32"})")->dtype,
            DType::kFloat16);
  EXPECT_EQ(ParseWith(kMamba1, R"({"dtype": null, "torch_dtype": "float32"})")->dtype,
            DType::kFloat32);
  EXPECT_EQ(ParseWith(kMamba1, R"({"dtype": "float64"})")->dtype, std::nullopt);
}

TEST(ParseConfigTest, TokenIds) {
  EXPECT_THAT(ParseWith(kMamba1, R"({"eos_token_id": [7, 2, 7]})")->eos_token_ids,
              ElementsAre(2, 7));
  EXPECT_THAT(ParseWith(kMamba1, R"({"eos_token_id": []})")->eos_token_ids, IsEmpty());
  EXPECT_THAT(ParseWith(kMamba1, R"({"eos_token_id": null})")->eos_token_ids, IsEmpty());
  EXPECT_THAT(ParseWith(kMamba1, R"({"eos_token_id": -1})")->eos_token_ids, IsEmpty());
  EXPECT_EQ(ParseWith(kMamba2, R"({"pad_token_id": null})")->pad_token_id, -1);
  EXPECT_EQ(ParseWith(kMamba2, R"({"bos_token_id": 99})")->bos_token_id, 99);
  // An id that the model cannot produce does no harm; one that would be fed to it does.
  EXPECT_THAT(ParseWith(kMamba1, R"({"eos_token_id": 100})"), IsOk());
  EXPECT_THAT(ParseWith(kMamba1, R"({"bos_token_id": 100})"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("bos_token_id"), HasSubstr("100"))));
}

TEST(ParseConfigTest, PaddedVocabulary) {
  const auto sizes = [](const char* changes) {
    const auto config = ParseWith(kOriginal1, changes);
    return config.ok() ? std::pair(config->vocab_limit, config->vocab_size) : std::pair(-1L, -1L);
  };
  EXPECT_EQ(sizes("{}"), std::pair(100L, 104L));
  EXPECT_EQ(sizes(R"({"pad_vocab_size_multiple": 16})"), std::pair(100L, 112L));
  EXPECT_EQ(sizes(R"({"pad_vocab_size_multiple": 1})"), std::pair(100L, 100L));
  EXPECT_EQ(sizes(R"({"vocab_size": 104})"), std::pair(104L, 104L));
}

class WrongConfigTest : public ::testing::TestWithParam<WrongConfig> {};

TEST_P(WrongConfigTest, NamesFileAndField) { ExpectRefused(GetParam()); }

const WrongConfig kWrongConfigs[] = {
    {"NoFamily", R"({"hidden_size": 64})", "{}", kInvalid, "model_type"},
    {"OnlyDModel", R"({"d_model": 64})", "{}", kInvalid, "n_layer"},
    {"ModelTypeNotAString", kMamba1, R"({"model_type": 1})", kInvalid, "model_type"},
    {"UnknownFamily", kMamba1, R"({"model_type": "gpt2"})", kUnimplemented,
     "\"gpt2\"; supported are model_type \"mamba\", \"mamba2\", \"falcon_mamba\""},
    {"Quantized", kMamba1, R"({"quantization_config": {"bits": 4}})", kUnimplemented,
     "quantization_config"},
    {"HiddenZero", kMamba1, R"({"hidden_size": 0})", kInvalid, "hidden_size"},
    {"HiddenNegative", kMamba1, R"({"hidden_size": -64})", kInvalid, "hidden_size"},
    {"HiddenHuge", kMamba1, R"({"hidden_size": 16777217})", kInvalid, "hidden_size"},
    {"HiddenFraction", kMamba1, R"({"hidden_size": 64.0})", kInvalid, "hidden_size"},
    {"HiddenText", kMamba1, R"({"hidden_size": "64"})", kInvalid, "hidden_size"},
    {"HiddenBeyondInt64", kMamba1, R"({"hidden_size": 18446744073709551615})", kInvalid,
     "hidden_size"},
    {"LayersZero", kMamba1, R"({"num_hidden_layers": 0})", kInvalid, "num_hidden_layers"},
    {"LayersMany", kMamba1, R"({"num_hidden_layers": 1025})", kInvalid, "num_hidden_layers"},
    {"VocabZero", kMamba1, R"({"vocab_size": 0})", kInvalid, "vocab_size"},
    {"VocabHuge", kMamba1, R"({"vocab_size": 4294967296})", kInvalid, "vocab_size"},
    {"StateZero", kMamba1, R"({"state_size": 0})", kInvalid, "state_size"},
    {"StateHuge", kMamba1, R"({"state_size": 4097})", kInvalid, "state_size"},
    {"ConvZero", kMamba1, R"({"conv_kernel": 0})", kInvalid, "conv_kernel"},
    {"ConvWide", kMamba1, R"({"conv_kernel": 65})", kInvalid, "conv_kernel"},
    {"ExpandZero", kMamba1, R"({"expand": 0})", kInvalid, "expand"},
    {"ExpandNegative", kMamba1, R"({"expand": -2})", kInvalid, "expand"},
    {"ExpandHuge", kMamba1, R"({"expand": 1e300})", kInvalid, "expand"},
    {"ExpandNan", kMamba1, R"({"expand": NaN})", kInvalid, "expand"},
    {"ExpandInfinite", kMamba1, R"({"expand": Infinity})", kInvalid, "expand"},
    {"ExpandTiny", kMamba1, R"({"expand": 0.001})", kInvalid, "inner width"},
    {"InnerHuge", kMamba1, R"({"hidden_size": 16777216, "expand": 1024})", kInvalid, "inner width"},
    {"InnerZero", kMamba1, R"({"intermediate_size": 0})", kInvalid, "intermediate_size"},
    {"RankZero", kMamba1, R"({"time_step_rank": 0})", kInvalid, "time_step_rank"},
    {"RankText", kMamba1, R"({"time_step_rank": "big"})", kInvalid, "legal are \"auto\""},
    {"EpsZero", kMamba1, R"({"layer_norm_epsilon": 0})", kInvalid, "layer_norm_epsilon"},
    {"EpsNan", kMamba1, R"({"layer_norm_epsilon": NaN})", kInvalid, "layer_norm_epsilon"},
    {"EpsLarge", kMamba1, R"({"layer_norm_epsilon": 2})", kInvalid, "layer_norm_epsilon"},
    {"EpsText", kMamba1, R"({"layer_norm_epsilon": "1e-5"})", kInvalid, "layer_norm_epsilon"},
    {"BiasNumber", kMamba1, R"({"use_bias": 1})", kInvalid, "use_bias"},
    {"ConvBiasText", kMamba1, R"({"use_conv_bias": "yes"})", kInvalid, "use_conv_bias"},
    {"TieText", kMamba1, R"({"tie_word_embeddings": "no"})", kInvalid, "tie_word_embeddings"},
    {"Gelu", kMamba1, R"({"hidden_act": "gelu"})", kUnimplemented, "\"gelu\"; legal are \"silu\""},
    {"ActNumber", kMamba1, R"({"hidden_act": 1})", kInvalid, "hidden_act"},
    {"DTypeNumber", kMamba1, R"({"dtype": 16})", kInvalid, "dtype"},
    {"EosText", kMamba1, R"({"eos_token_id": "</s>"})", kInvalid, "eos_token_id"},
    {"EosNested", kMamba1, R"({"eos_token_id": [[1]]})", kInvalid, "eos_token_id"},
    {"EosNegativeInList", kMamba1, R"({"eos_token_id": [1, -1]})", kInvalid, "eos_token_id"},
    {"EosHuge", kMamba1, R"({"eos_token_id": [2147483648]})", kInvalid, "eos_token_id"},
    {"PadHuge", kMamba1, R"({"pad_token_id": 4294967296})", kInvalid, "pad_token_id"},
    {"BosNegative", kMamba1, R"({"bos_token_id": -2})", kInvalid, "bos_token_id"},
    {"HeadsZero", kMamba2, R"({"num_heads": 0})", kInvalid, "num_heads"},
    {"HeadsDisagree", kMamba2, R"({"num_heads": 9})", kInvalid, "9 * 16"},
    {"HeadsOverflow", kMamba2, R"({"num_heads": 16777216, "head_dim": 16777216})", kInvalid,
     "must agree"},
    {"HeadDimMissing", kMamba2, R"({"head_dim": null})", kInvalid, "8 * 64"},
    {"GroupsZero", kMamba2, R"({"n_groups": 0})", kInvalid, "n_groups"},
    {"GroupsUneven", kMamba2, R"({"n_groups": 3})", kInvalid, "8 heads do not divide into 3"},
    {"GroupsTimesState", kMamba2,
     R"({"hidden_size": 4096, "num_heads": 8192, "head_dim": 1, "n_groups": 8192,
         "state_size": 4096})",
     kInvalid, "8192 groups of 4096"},
    {"NoGatedNorm", kMamba2, R"({"rms_norm": false})", kUnimplemented, "rms_norm"},
    {"OriginalLayerNorm", kOriginal1, R"({"rms_norm": false})", kUnimplemented, "rms_norm"},
    {"OriginalMlp", kOriginal1, R"({"d_intermediate": 128})", kUnimplemented, "d_intermediate"},
    {"OriginalAttention", kOriginal2, R"({"attn_layer_idx": [3, 9]})", kUnimplemented,
     "attn_layer_idx"},
    {"OriginalPadZero", kOriginal1, R"({"pad_vocab_size_multiple": 0})", kInvalid,
     "pad_vocab_size_multiple"},
    {"OriginalNoLayers", kOriginal1, R"({"n_layer": 0})", kInvalid, "n_layer"},
    {"OriginalWidthText", kOriginal1, R"({"d_model": "64"})", kInvalid, "d_model"},
    {"SsmNotAnObject", kOriginal1, R"({"ssm_cfg": [1]})", kInvalid, "ssm_cfg"},
    {"SsmUnknownKey", kOriginal1, R"({"ssm_cfg": {"d_stat": 16}})", kUnimplemented,
     "\"ssm_cfg\": the option \"d_stat\" is not known"},
    {"SsmKeyOfTheOther", kOriginal1, R"({"ssm_cfg": {"ngroups": 1}})", kUnimplemented, "ngroups"},
    {"SsmUnknownLayer", kOriginal1, R"({"ssm_cfg": {"layer": "Mamba3"}})", kUnimplemented,
     "\"Mamba3\"; legal are \"Mamba1\" and \"Mamba2\""},
    {"SsmStateZero", kOriginal1, R"({"ssm_cfg": {"d_state": 0}})", kInvalid,
     "\"ssm_cfg\": \"d_state\""},
    {"SsmHeadDim", kOriginal2, R"({"ssm_cfg": {"layer": "Mamba2", "headdim": 48}})", kInvalid,
     "headdim"},
    {"SsmHeadDimTooLarge", kOriginal2, R"({"ssm_cfg": {"layer": "Mamba2", "headdim": 256}})",
     kInvalid, "headdim"},
    {"SsmGroups", kOriginal2, R"({"ssm_cfg": {"layer": "Mamba2", "headdim": 16, "ngroups": 3}})",
     kInvalid, "8 heads do not divide into 3"},
    {"SsmPartialWidth", kOriginal2,
     R"({"ssm_cfg": {"layer": "Mamba2", "headdim": 16, "d_ssm": 64}})", kUnimplemented, "d_ssm"},
    {"SsmWideD", kOriginal2,
     R"({"ssm_cfg": {"layer": "Mamba2", "headdim": 16, "D_has_hdim": true}})", kUnimplemented,
     "D_has_hdim"},
    {"SsmNormFirst", kOriginal2,
     R"({"ssm_cfg": {"layer": "Mamba2", "headdim": 16, "norm_before_gate": true}})", kUnimplemented,
     "norm_before_gate"},
    {"SsmNoNorm", kOriginal2,
     R"({"ssm_cfg": {"layer": "Mamba2", "headdim": 16, "rmsnorm": false}})", kUnimplemented,
     "rmsnorm"},
};

INSTANTIATE_TEST_SUITE_P(ParseConfig, WrongConfigTest, ValuesIn(kWrongConfigs), NameOfWrong);

TEST(ParseConfigTest, RefusesWhatIsNotAnObject) {
  for (const char* text : {"[]", "null", "1", "\"mamba\""}) {
    EXPECT_THAT(Parse(text),
                StatusIs(kInvalid, AllOf(HasSubstr("dir/config.json"), HasSubstr("object"))))
        << text;
  }
}

TEST(LoadConfigTest, AddsTheEndIdsOfGenerationConfig) {
  const TempFolder folder;
  EXPECT_THAT(LoadConfig(folder.path()),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(folder / "config.json")));
  folder.Write("config.json", R"({"model_type": "mamba", "eos_token_id": [5, 3]})");
  EXPECT_THAT(LoadConfig(folder.path())->eos_token_ids, ElementsAre(3, 5));
  folder.Write("generation_config.json", R"({"eos_token_id": [4, 3], "bos_token_id": 9})");
  EXPECT_THAT(LoadConfig(folder.path())->eos_token_ids, ElementsAre(3, 4, 5));
  folder.Write("generation_config.json", R"({"temperature": 0.6})");
  EXPECT_THAT(LoadConfig(folder.path())->eos_token_ids, ElementsAre(3, 5));
  for (const char* wrong : {"", "[]", "{", R"({"eos_token_id": "x"})"}) {
    folder.Write("generation_config.json", wrong);
    EXPECT_THAT(LoadConfig(folder.path()),
                StatusIs(kInvalid, HasSubstr(folder / "generation_config.json")))
        << wrong;
  }
}

TEST(ToJsonTest, RoundTrips) {
  for (const char* base : {kMamba1, kMamba2, kOriginal1, kOriginal2}) {
    for (const char* changes :
         {"{}", R"({"bos_token_id": 3, "pad_token_id": null, "eos_token_id": [9, 4]})",
          R"({"dtype": "float16", "layer_norm_epsilon": 3e-6})",
          R"({"use_bias": true, "use_conv_bias": false, "conv_kernel": 3})"}) {
      SW_ASSERT_OK_AND_ASSIGN(const ModelConfig config, ParseWith(base, changes));
      ExpectRoundTrip(config, absl::StrCat(base, changes));
    }
  }
  ExpectRoundTrip(*ParseWith(kMamba1, R"({"intermediate_size": 77, "time_step_rank": 5})"), "");
  ExpectRoundTrip(
      *ParseWith(kMamba2, R"({"time_step_limit": [0.01, 0.1], "gated_norm_group": 128})"), "");
  ExpectRoundTrip(*ParseWith(kOriginal1, R"({"ssm_cfg": {"expand": 3, "bias": true}})"), "");
  for (int64_t hidden = 1; hidden < 200; ++hidden) {  // factors that are no integers
    ModelConfig config = *ParseWith(kMamba1, "{}");
    config.hidden_size = hidden;
    config.inner_size = 64;
    config.original_naming = true;
    ExpectRoundTrip(config, std::to_string(hidden));
  }
}

TEST(SyntheticConfigTest, EveryPresetParsesAndRoundTrips) {
  for (const std::string& preset : SyntheticPresets()) {
    SW_ASSERT_OK_AND_ASSIGN(const ModelConfig config, SyntheticConfig(preset));
    ExpectRoundTrip(config, preset);
  }
}

TEST(GoldenConfigTest, RealFilesLoadAndRoundTrip) {
  for (const char* list : {"cases.json", "hybrid_cases.json"}) {
    for (const testing::GoldenModel& model : testing::ReadModelGoldens(list)) {
      SW_ASSERT_OK_AND_ASSIGN(const ModelConfig config, LoadConfig(model.folder));
      EXPECT_EQ(Name(config.family), model.family) << model.name;
      EXPECT_EQ(config.vocab_size, model.vocab_size) << model.name;
      EXPECT_EQ(config.vocab_limit, model.vocab_limit) << model.name;
      EXPECT_EQ(config.tie_embeddings, model.tied) << model.name;
      ExpectRoundTrip(config, model.name);
    }
  }
}

}  // namespace
}  // namespace sidewinder
