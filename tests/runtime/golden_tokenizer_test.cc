// The tokenizer of the golden model folder that has one, against the library that wrote it.
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sidewinder/tokenizer.h"
#include "tests/testing/model_goldens.h"
#include "tests/testing/status_matchers.h"

namespace sidewinder {
namespace {

TEST(GoldenTokenizerTest, GivesTheSameIds) {
  int num_texts = 0;
  for (const testing::GoldenModel& model : testing::ReadModelGoldens()) {
    if (model.texts.empty()) continue;
    SW_ASSERT_OK_AND_ASSIGN(const auto tokenizer, Tokenizer::Load(model.folder));
    EXPECT_EQ(tokenizer->vocab_size(), model.vocab_size);
    EXPECT_TRUE(tokenizer->IsSpecial(0));
    for (const testing::GoldenText& golden : model.texts) {
      EXPECT_EQ(tokenizer->Encode(golden.text, /*add_special_tokens=*/false), golden.tokens)
          << golden.text;
      EXPECT_EQ(tokenizer->Decode(golden.tokens), golden.text);
      ++num_texts;
    }
  }
  EXPECT_GT(num_texts, 0);
}

}  // namespace
}  // namespace sidewinder
