// Ids and texts exactly as the library that defines the format gives them.
#include "golden.h"

namespace sidewinder {
namespace {

using testing::Streamed;
using testing::TokenizerGoldens;

class TokenizerGoldenTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    for (const Json& kind : TokenizerGoldens()["kinds"]) {
      if (kind["name"] == GetParam()) kind_ = &kind;
    }
    ASSERT_NE(kind_, nullptr);
    tokenizer_ = testing::ParseGolden(*kind_);
    ASSERT_NE(tokenizer_, nullptr);
  }

  const Json* kind_ = nullptr;
  std::shared_ptr<const Tokenizer> tokenizer_;
};

TEST_P(TokenizerGoldenTest, Encode) {
  const Json& texts = TokenizerGoldens()["texts"];
  for (const Json& golden : (*kind_)["encode"]) {
    const std::string text = texts[golden[0].get<size_t>()];
    const Json& with = golden[1];
    EXPECT_EQ(Json(tokenizer_->Encode(text)), with) << texts[golden[0].get<size_t>()];
    const Json& without = golden[2].is_null() ? with : golden[2];
    EXPECT_EQ(Json(tokenizer_->Encode(text, /*add_special_tokens=*/false)), without)
        << texts[golden[0].get<size_t>()];
  }
}

TEST_P(TokenizerGoldenTest, DecodeAndStream) {
  const Json& encode = (*kind_)["encode"];
  const Json& decode = (*kind_)["decode"];
  for (size_t i = 0; i < decode.size(); ++i) {
    const std::vector<int32_t> ids = decode[i][0].is_null() ? encode[i][1] : decode[i][0];
    const Json& with = decode[i][1];
    const Json& without = decode[i][2].is_null() ? with : decode[i][2];
    EXPECT_EQ(tokenizer_->Decode(ids, /*skip_special_tokens=*/false), with) << Json(ids);
    EXPECT_EQ(tokenizer_->Decode(ids), without) << Json(ids);
    EXPECT_EQ(Streamed(tokenizer_, ids, false), with) << Json(ids);
    EXPECT_EQ(Streamed(tokenizer_, ids, true), without) << Json(ids);
  }
}

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const Json& kind : TokenizerGoldens()["kinds"]) names.push_back(kind["name"]);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Kinds, TokenizerGoldenTest, ::testing::ValuesIn(Names()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace sidewinder
