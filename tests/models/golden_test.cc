// Every family against transformers: float32 logits and greedy continuations of tiny checkpoints.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/weights.h"
#include "sidewinder/engine.h"
#include "sidewinder/model.h"
#include "tests/testing/model_goldens.h"
#include "tests/testing/test_models.h"

namespace sidewinder {
namespace {

const auto* const kEnvironment = ::testing::AddGlobalTestEnvironment(new testing::NeedsTestDevice);

using ::testing::ElementsAreArray;
using testing::GoldenGreedy;
using testing::GoldenModel;
using testing::GoldenPrompt;

class GoldenTest : public ::testing::TestWithParam<GoldenModel> {
 protected:
  // Goldens of bfloat16 checkpoints were made with the weights widened, as ops do on the CPU. On a
  // GPU products with 16-bit weights round their inputs.
  std::shared_ptr<const Model> model_ =
      testing::TestModel(GetParam().name, testing::TestDevice() == "cpu" ? "auto" : "float32");
};

std::vector<float> AllLogits(const Model& model, const std::vector<int32_t>& tokens) {
  std::vector<float> all;
  const absl::Status status =
      EvaluateLogits(model, tokens, 2, [&](int64_t, absl::Span<const float> logits) {
        all.insert(all.end(), logits.begin(), logits.end());
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  return all;
}

// 2e-4 of the largest absolute logit for most models: float32 rounding of a few thousand operations
// in another order, with a margin of about ten; a wrong formula is off by orders of magnitude more.
TEST_P(GoldenTest, LogitsMatchTransformers) {
  const double tolerance = GetParam().tolerance * GetParam().max_abs_logit;
  const int64_t vocab = GetParam().vocab_size;
  for (const GoldenPrompt& prompt : GetParam().prompts) {
    const std::vector<float> logits = AllLogits(*model_, prompt.tokens);
    ASSERT_EQ(logits.size(), prompt.tokens.size() * vocab);
    for (size_t i = 0; i < prompt.positions.size(); ++i) {
      for (int64_t v = 0; v < GetParam().vocab_limit; ++v) {
        ASSERT_NEAR(logits[prompt.positions[i] * vocab + v], prompt.logits[i][v], tolerance)
            << "prompt of " << prompt.tokens.size() << " tokens, position " << prompt.positions[i]
            << ", id " << v;
      }
    }
  }
}

TEST_P(GoldenTest, GreedyTextMatchesTransformers) {
  auto engine = Engine::Create({.model = model_, .num_threads = 1});
  ASSERT_TRUE(engine.ok()) << engine.status();
  for (const GoldenGreedy& golden : GetParam().greedy) {
    auto result = (*engine)->Generate(
        {.prompt = golden.prompt, .max_new_tokens = static_cast<int32_t>(golden.tokens.size())});
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_THAT(result->tokens, ElementsAreArray(golden.tokens));
  }
}

// Prefill in chunks, token by token and across chunk boundaries: the same bits.
TEST_P(GoldenTest, PrefillDoesNotDependOnItsChunks) {
  const std::vector<int32_t>& longest =
      std::max_element(GetParam().prompts.begin(), GetParam().prompts.end(),
                       [](const GoldenPrompt& a, const GoldenPrompt& b) {
                         return a.tokens.size() < b.tokens.size();
                       })
          ->tokens;
  const std::vector<float> whole = AllLogits(*model_, longest);
  for (const size_t n : {size_t{1}, size_t{2}, size_t{16}, size_t{63}, size_t{64}, size_t{65}}) {
    if (n > longest.size()) continue;
    const std::vector<float> part =
        AllLogits(*model_, std::vector<int32_t>(longest.begin(), longest.begin() + n));
    EXPECT_EQ(0, std::memcmp(part.data(), whole.data(), part.size() * sizeof(float))) << n;
  }
}

TEST_P(GoldenTest, ConvertedWeightsStayClose) {
  if (testing::TestDevice() != "cpu" && GetParam().family != "mamba" &&
      GetParam().family != "mamba2") {
    GTEST_SKIP() << "a GPU rounds the inputs of products as well: choices of experts flip, and "
                    "blocks without a residual path amplify it";
  }
  const std::vector<int32_t>& tokens = GetParam().prompts.back().tokens;
  const std::vector<float> wide =
      AllLogits(*testing::TestModel(GetParam().name, "float32"), tokens);
  for (const char* dtype : {"bfloat16", "float16"}) {
    const auto narrow_model = testing::TestModel(GetParam().name, dtype);
    EXPECT_EQ(narrow_model->info().dtype, dtype);
    const std::vector<float> narrow = AllLogits(*narrow_model, tokens);
    double worst = 0.0;
    for (size_t i = 0; i < wide.size(); ++i) {
      worst = std::max(worst, std::abs(double{wide[i]} - narrow[i]));
    }
    // Half a unit in the last place of a weight is 2^-9 (bfloat16), 2^-12 (float16); errors of a
    // few layers add up and the recurrence repeats them: a factor of 64 is generous, a wrong
    // conversion is off by the logits themselves.
    const double unit = std::string(dtype) == "bfloat16" ? 1.0 / 512 : 1.0 / 4096;
    EXPECT_LT(worst, 64 * unit * GetParam().max_abs_logit) << dtype;
  }
}

TEST_P(GoldenTest, CountsEveryStoredParameterOnce) {
  const auto reader = WeightsReader::Open(GetParam().folder);
  ASSERT_TRUE(reader.ok()) << reader.status();
  int64_t elements = 0;
  for (const StoredTensor& tensor : (*reader)->tensors()) {
    int64_t product = 1;
    for (const int64_t dim : tensor.shape) product *= dim;
    elements += product;
  }
  EXPECT_EQ(model_->info().num_parameters, elements);
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenTest, ::testing::ValuesIn(testing::ReadModelGoldens()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace sidewinder
