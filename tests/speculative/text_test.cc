// Text of a request: streaming and stop texts, with the trained pair's tokenizer.
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/status_macros.h"
#include "sidewinder/engine.h"
#include "speculative/text_stream.h"
#include "tests/testing/source_dir.h"

namespace sidewinder {
namespace {

const std::string kPair = testing::SourceDir() + "/checkpoints/";

std::shared_ptr<const Model> Load(const std::string& name) {
  auto model = Model::Load(kPair + name);
  SW_CHECK(model.ok()) << model.status();
  return *std::move(model);
}

class TextTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    verifier_ = Load("sidewinder-10m");
    draft_ = Load("sidewinder-draft-1m");
  }
  static void TearDownTestSuite() {
    verifier_.reset();
    draft_.reset();
  }
  static std::unique_ptr<Engine> MakeEngine(const DrafterOptions& drafter) {
    auto engine = Engine::Create({.model = verifier_, .drafter = drafter, .draft_tokens = 6});
    SW_CHECK(engine.ok()) << engine.status();
    return *std::move(engine);
  }
  static Request Prompt(int32_t max_new_tokens) {
    return {.prompt = verifier_->tokenizer()->Encode("Once upon a time there was"),
            .max_new_tokens = max_new_tokens,
            .ignore_eos = true};
  }

  static inline std::shared_ptr<const Model> verifier_;
  static inline std::shared_ptr<const Model> draft_;
};

TEST_F(TextTest, HoldsBackWhatMayBecomeAStopText) {
  const auto& tokenizer = verifier_->tokenizer();
  TextStream stream(tokenizer, {"never met", "moon"});
  std::string shown;
  bool stopped = false;
  for (const int32_t id : tokenizer->Encode("Once he never saw the moon again")) {
    stopped = stream.Push(id);
    shown += stream.TakeNew();
    EXPECT_EQ(shown.find("moo"), std::string::npos);
    if (stopped) break;
  }
  EXPECT_TRUE(stopped);
  stream.Finish();
  shown += stream.TakeNew();
  EXPECT_EQ(shown, "Once he never saw the ");
  EXPECT_EQ(stream.text(), shown);
}

TEST_F(TextTest, WithoutATokenizerThereIsNoText) {
  TextStream stream(nullptr, {});
  EXPECT_FALSE(stream.Push(5));
  stream.Finish();
  EXPECT_EQ(stream.TakeNew(), "");
}

TEST_F(TextTest, PairIsLosslessAndStreamsItsText) {
  for (const DrafterOptions& drafter :
       {DrafterOptions::None(), DrafterOptions::Ngram(), DrafterOptions::FromModel(draft_)}) {
    std::string streamed;
    auto result = MakeEngine(drafter)->Generate(Prompt(60), [&](const RequestUpdate& update) {
      streamed += update.text;
      return true;
    });
    ASSERT_TRUE(result.ok()) << result.status();
    const GenerateResult plain = *MakeEngine(DrafterOptions::None())->Generate(Prompt(60));
    EXPECT_EQ(result->tokens, plain.tokens);
    EXPECT_EQ(result->text, plain.text);
    EXPECT_EQ(streamed, plain.text);
    EXPECT_EQ(plain.text, verifier_->tokenizer()->Decode(plain.tokens));
  }
}

// A stop text ends the text at the same token, and leaves the same state, whatever was proposed.
TEST_F(TextTest, StopTextsEndTheTextExactly) {
  const std::string text = MakeEngine(DrafterOptions::None())->Generate(Prompt(60))->text;
  ASSERT_GT(text.size(), 60u);
  for (size_t at = 3; at + 5 < text.size(); at += 17) {
    Request request = Prompt(60);
    request.stop = {text.substr(at, 5), "a text that never comes"};
    request.keep_state = true;
    const size_t first = text.find(request.stop[0]);
    std::vector<int32_t> tokens, continued;
    for (const DrafterOptions& drafter :
         {DrafterOptions::None(), DrafterOptions::Ngram(), DrafterOptions::FromModel(draft_)}) {
      auto engine = Engine::Create(
          {.model = verifier_, .drafter = drafter, .draft_tokens = 6, .max_sequences = 2});
      ASSERT_TRUE(engine.ok()) << engine.status();
      std::string streamed;
      const RequestId id = *(*engine)->Submit(request);
      while (!(*engine)->idle()) {
        const auto updates = (*engine)->Step();
        for (const RequestUpdate& update : *updates) streamed += update.text;
      }
      const GenerateResult result = *(*engine)->TakeResult(id);
      EXPECT_EQ(result.finish, FinishReason::kStop);
      EXPECT_EQ(result.text, text.substr(0, first));
      EXPECT_EQ(streamed, result.text);
      const RequestId fork = *(*engine)->Fork(id, {.max_new_tokens = 12, .ignore_eos = true});
      while (!(*engine)->idle()) ASSERT_TRUE((*engine)->Step().ok());
      const std::vector<int32_t> after = (*engine)->TakeResult(fork)->tokens;
      if (tokens.empty()) {
        tokens = result.tokens;
        continued = after;
      }
      EXPECT_EQ(result.tokens, tokens);
      EXPECT_EQ(after, continued);
    }
  }
}

}  // namespace
}  // namespace sidewinder
