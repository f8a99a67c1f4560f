// Text between two vocabularies, with tokenizers of every kind: what a perfect draft says is
// proposed, and no text or token does harm.
#include "speculative/drafters/retokenizer.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/tokenizer/golden.h"

namespace sidewinder {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using testing::GoldenTokenizer;
using ::testing::IsEmpty;

constexpr char kStory[]{
    "The state of a model is a small thing, until it has to be undone. A draft guesses \"words\"; "
    "the verifier reads them all at once, and keeps what it would have said itself. It doesn't "
    "matter who said it first.\n\nNo caf\u00e9 at 10:45 is na\u00efve enough for 3.14159 "
    "croissants, said the \u732b.\n"};

Vocabulary Of(std::shared_ptr<const Tokenizer> tokenizer) {
  const int32_t size = tokenizer->vocab_size();
  return {.tokenizer = std::move(tokenizer), .vocab_limit = size};
}

std::vector<int32_t> Encode(const Vocabulary& vocabulary, absl::string_view text) {
  return vocabulary.tokenizer->Encode(text, /*add_special_tokens=*/false);
}

// Tokenizers that give every text back.
constexpr const char* kFaithful[] = {"neox", "llama3", "qwen", "llama2", "mistral3", "falcon"};

class PairTest : public ::testing::TestWithParam<std::tuple<const char*, const char*>> {
 protected:
  Vocabulary verifier_ = Of(GoldenTokenizer(std::get<0>(GetParam())));
  Vocabulary draft_ = Of(GoldenTokenizer(std::get<1>(GetParam())));
};

TEST_P(PairTest, APerfectDraftIsProposed) {
  const std::vector<int32_t> text = Encode(verifier_, kStory);
  const std::vector<int32_t> draft_text = Encode(draft_, kStory);
  constexpr size_t kDrafted{8};
  int32_t seams = 0, proposing = 0;
  Retokenizer retokenizer(&verifier_, &draft_);
  for (size_t i = 0; i + 2 * kDrafted < text.size(); ++i) {
    retokenizer.Commit({&text[i], 1});
    // A seam inside of a draft token cannot be continued as the draft's tokenizer would.
    const absl::Span<const int32_t> committed = retokenizer.draft().segment();
    if (committed.empty() || committed.size() + kDrafted > draft_text.size() ||
        !std::equal(committed.begin(), committed.end(), draft_text.begin())) {
      continue;
    }
    ++seams;
    const std::vector<int32_t> proposals =
        retokenizer.Propose(absl::MakeConstSpan(draft_text).subspan(committed.size(), kDrafted));
    if (proposals.empty()) continue;
    ++proposing;
    // The last word may go on, and be other tokens then.
    const std::vector<int32_t> next(text.begin() + static_cast<int64_t>(i) + 1, text.end());
    const auto agree = std::mismatch(proposals.begin(), proposals.end(), next.begin());
    EXPECT_LE(proposals.end() - agree.first, static_cast<int64_t>(kUnsettledTokens)) << i;
  }
  EXPECT_GT(seams, static_cast<int32_t>(text.size()) / 4);
  EXPECT_GE(proposing, seams * 9 / 10);
}

TEST_P(PairTest, ALongTextHasTheTokensOfItsTokenizer) {
  std::string story;
  for (int i = 0; i < 20; ++i) story += kStory;
  const std::vector<int32_t> text = Encode(verifier_, story);
  Retokenizer one_by_one(&verifier_, &draft_);
  Retokenizer at_once(&verifier_, &draft_);
  size_t settled = 0;
  std::vector<int32_t> before;
  for (const int32_t id : text) {
    one_by_one.Commit({&id, 1});
    const std::vector<int32_t>& tokens = one_by_one.draft().tokens();
    ASSERT_GE(tokens.size(), settled);
    ASSERT_TRUE(
        std::equal(before.begin(), before.begin() + static_cast<int64_t>(settled), tokens.begin()));
    settled = one_by_one.draft().num_settled();
    ASSERT_LE(tokens.size() - settled, kUnsettledTokens);
    before = tokens;
  }
  at_once.Commit(text);
  EXPECT_EQ(one_by_one.draft().num_restarts(), 0);
  const std::vector<int32_t> expected = Encode(draft_, story);
  EXPECT_THAT(one_by_one.draft().segment(), ElementsAreArray(expected));
  EXPECT_THAT(at_once.draft().segment(), ElementsAreArray(expected));
}

INSTANTIATE_TEST_SUITE_P(Faithful, PairTest,
                         ::testing::Combine(::testing::ValuesIn(kFaithful),
                                            ::testing::ValuesIn(kFaithful)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param)) + "_" +
                                  std::get<1>(info.param);
                         });

// Any tokens, from vocabularies of every kind: specials, bytes, halves of characters.
TEST(RetokenizerTest, NoTokensDoHarm) {
  std::vector<Vocabulary> all;
  for (const Json& kind : testing::TokenizerGoldens()["kinds"]) {
    all.push_back(Of(testing::ParseGolden(kind)));
  }
  std::mt19937 random(17);
  for (size_t v = 0; v < all.size(); ++v) {
    for (const size_t d : {(v + 1) % all.size(), (v * 7 + 3) % all.size(), size_t{5}}) {
      SCOPED_TRACE(absl::StrCat("verifier ", v, ", draft ", d));
      const Vocabulary& verifier = all[v];
      const Vocabulary& draft = all[d];
      Retokenizer retokenizer(&verifier, &draft);
      for (int round = 0; round < 40; ++round) {
        // Also ids that have no token.
        std::vector<int32_t> committed(random() % 5), drafted(random() % 9);
        for (int32_t& id : committed)
          id = static_cast<int32_t>(random() % (verifier.vocab_limit + 2));
        for (int32_t& id : drafted) id = static_cast<int32_t>(random() % (draft.vocab_limit + 2));
        retokenizer.Commit(committed);
        EXPECT_GE(retokenizer.DraftTokensFor(4), 1);
        for (const int32_t id : retokenizer.draft().tokens()) ASSERT_LT(id, draft.vocab_limit);
        ASSERT_LE(retokenizer.draft().num_settled(), retokenizer.draft().tokens().size());
        for (const int32_t id : retokenizer.Propose(drafted)) {
          ASSERT_GE(id, 0);
          ASSERT_LT(id, verifier.vocab_limit);
        }
      }
    }
  }
}

TEST(RetokenizerTest, ACharacterThatIsCutGoesOnWhereItWasCut) {
  const Vocabulary bytes = Of(GoldenTokenizer("neox"));
  const Vocabulary pieces = Of(GoldenTokenizer("llama2"));
  for (const auto& [verifier, draft] : {std::pair(bytes, pieces), std::pair(pieces, bytes)}) {
    const std::string emoji = "\U0001F40D";
    const std::vector<int32_t> text = Encode(verifier, "a snake " + emoji + " sleeps");
    const std::vector<int32_t> draft_text = Encode(draft, "a snake " + emoji + " sleeps");
    int cuts = 0;
    for (size_t cut = 1; cut < text.size(); ++cut) {
      Retokenizer retokenizer(&verifier, &draft);
      retokenizer.Commit(absl::MakeConstSpan(text).subspan(0, cut));
      const absl::Span<const int32_t> committed = retokenizer.draft().segment();
      const std::string so_far = draft.tokenizer->Decode(committed);
      EXPECT_EQ(so_far.find("\uFFFD"), std::string::npos);
      if (so_far != "a snake" && so_far != "a snake ") continue;
      if (!std::equal(committed.begin(), committed.end(), draft_text.begin())) continue;
      const std::vector<int32_t> rest(text.begin() + static_cast<int64_t>(cut), text.end());
      const std::vector<int32_t> proposals =
          retokenizer.Propose(absl::MakeConstSpan(draft_text).subspan(committed.size()));
      EXPECT_THAT(proposals, ElementsAreArray(rest)) << "cut " << cut;
      cuts += !proposals.empty();
      // Half a character proposes nothing of it.
      retokenizer.Propose(absl::MakeConstSpan(draft_text).subspan(committed.size(), 2));
    }
    EXPECT_GT(cuts, 2);
  }
}

TEST(RetokenizerTest, SpecialTokensMeetTheirCounterparts) {
  Vocabulary verifier = Of(GoldenTokenizer("llama2"));
  Vocabulary draft = Of(GoldenTokenizer("llama3"));
  verifier.bos_token = *verifier.tokenizer->TokenToId("<s>");
  verifier.eos_tokens = {*verifier.tokenizer->TokenToId("</s>")};
  draft.bos_token = *draft.tokenizer->TokenToId("<|begin_of_text|>");
  draft.eos_tokens = {*draft.tokenizer->TokenToId("<|end_of_text|>"),
                      *draft.tokenizer->TokenToId("<|eot_id|>")};
  EXPECT_EQ(Counterpart(verifier, draft, verifier.bos_token), draft.bos_token);
  EXPECT_EQ(Counterpart(verifier, draft, verifier.eos_tokens[0]), draft.eos_tokens[0]);
  EXPECT_EQ(Counterpart(draft, verifier, draft.eos_tokens[1]), verifier.eos_tokens[0]);
  EXPECT_EQ(Counterpart(verifier, draft, 0), std::nullopt);

  Retokenizer retokenizer(&verifier, &draft);
  retokenizer.Commit(verifier.tokenizer->Encode("the end"));
  std::vector<int32_t> expected = draft.tokenizer->Encode("the end");
  EXPECT_THAT(retokenizer.draft().tokens(), ElementsAreArray(expected));  // one BOS
  const std::vector<int32_t> drafted = {Encode(draft, ".")[0], draft.eos_tokens[1], 7};
  EXPECT_THAT(retokenizer.Propose(drafted),
              ElementsAre(Encode(verifier, "the end.").back(), verifier.eos_tokens[0]));
  retokenizer.Commit(verifier.eos_tokens);
  expected.push_back(draft.eos_tokens[0]);
  EXPECT_THAT(retokenizer.draft().tokens(), ElementsAreArray(expected));
}

// A tokenizer may have tokens that its model has no rows for.
TEST(RetokenizerTest, TokensWithoutARowAreLeftOut) {
  const Vocabulary verifier = Of(GoldenTokenizer("llama2"));
  Vocabulary draft = Of(GoldenTokenizer("llama3"));
  draft.vocab_limit = 300;  // its BOS token and all but the first merges
  Retokenizer retokenizer(&verifier, &draft);
  retokenizer.Commit(verifier.tokenizer->Encode(kStory));
  EXPECT_THAT(retokenizer.draft().prefix(), IsEmpty());
  EXPECT_GT(retokenizer.draft().tokens().size(), 50u);
  for (const int32_t id : retokenizer.draft().tokens()) EXPECT_LT(id, 300);
}

TEST(RetokenizerTest, ASeamInsideOfATokenProposesNothing) {
  const Vocabulary neox = Of(GoldenTokenizer("neox"));
  const Vocabulary qwen = Of(GoldenTokenizer("qwen"));
  const std::vector<int32_t> whole = Encode(neox, " the");
  ASSERT_EQ(whole.size(), 1u);  // so " th" is a choice that the tokenizer would not have made
  Retokenizer retokenizer(&neox, &qwen);
  retokenizer.Commit(Encode(neox, "on th"));
  EXPECT_THAT(retokenizer.Propose(Encode(qwen, "e")), IsEmpty());
  EXPECT_THAT(retokenizer.Propose({}), IsEmpty());
}

// Runs of one character: tokens of any part of it depend on where it begins.
TEST(RetokenizerTest, WorkStaysBoundedWhereNoWindowFits) {
  for (const char* name : {"neox", "llama2", "metaspace_first"}) {
    const Vocabulary verifier = Of(GoldenTokenizer("qwen"));
    const Vocabulary draft = Of(GoldenTokenizer(name));
    for (const char* unit : {"=", " ", "ab", "\u00e9", "\U0001F40D"}) {
      std::string run;
      for (int i = 0; i < 3000; ++i) run += unit;
      const std::vector<int32_t> tokens = Encode(verifier, run);
      Retokenizer retokenizer(&verifier, &draft);
      for (size_t i = 0; i < tokens.size(); i += 3) {
        retokenizer.Commit(
            absl::MakeConstSpan(tokens).subspan(i, std::min<size_t>(3, tokens.size() - i)));
        retokenizer.Propose(Encode(draft, "==="));
      }
      retokenizer.Commit(tokens);
      EXPECT_GT(retokenizer.draft().tokens().size(), 0u);
    }
  }
}

}  // namespace
}  // namespace sidewinder
