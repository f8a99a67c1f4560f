#include "sidewinder/tokenizer.h"

#include <atomic>
#include <random>
#include <thread>

#include "golden.h"
#include "tests/testing/temp_folder.h"

namespace sidewinder {
namespace {

using testing::GoldenTokenizer;
using testing::StatusIs;
using testing::Streamed;
using testing::TokenizerGoldens;

std::string RandomText(std::mt19937* rng) {
  static const char* const kParts[]{" ",      "  ",      "\n",     "a",     "the",    "ing",
                                    "\u00e9", "e\u0301", "\u4e16", "1",     "42",     "'s",
                                    "!",      "\t",      "<s>",    "<tok>", "\u2581", "\U0001f600"};
  std::string text;
  const int parts = std::uniform_int_distribution<int>(0, 12)(*rng);
  for (int i = 0; i < parts; ++i) {
    text += kParts[std::uniform_int_distribution<size_t>(0, std::size(kParts) - 1)(*rng)];
  }
  return text;
}

// Any sequence of ids, including ones that make broken UTF-8 and ones that no token has.
TEST(StreamDecoderTest, RandomIdsGiveTheTextOfDecode) {
  for (const Json& kind : TokenizerGoldens()["kinds"]) {
    SCOPED_TRACE(kind["name"]);
    const auto tokenizer = testing::ParseGolden(kind);
    std::mt19937 rng(11);
    for (int round = 0; round < 200; ++round) {
      // The first 260 ids are bytes in most of these vocabularies.
      const int32_t max = round % 2 == 0 ? tokenizer->vocab_size() + 2 : 260;
      std::uniform_int_distribution<int32_t> id(-1, max);
      std::vector<int32_t> ids(std::uniform_int_distribution<size_t>(0, 20)(rng));
      for (int32_t& value : ids) value = id(rng);
      for (bool skip : {true, false}) {
        const std::string text = tokenizer->Decode(ids, skip);
        EXPECT_TRUE(tok::IsValidUtf8(text));
        EXPECT_EQ(Streamed(tokenizer, ids, skip), text) << Json(ids);
      }
    }
  }
}

TEST(StreamDecoderTest, HoldsBackUnfinishedCharacters) {
  const auto tokenizer = GoldenTokenizer("gpt4o");
  const std::string text = "a\u4e16\U0001f600";  // bytes of 1, 3 and 4
  StreamDecoder decoder(tokenizer);
  std::vector<std::string> pieces;
  for (char byte : text) {  // each byte has a token of its own
    const uint32_t ch = tok::ByteToChar(static_cast<uint8_t>(byte));
    pieces.push_back(decoder.Push(*tokenizer->TokenToId(tok::CharToString(ch))));
  }
  EXPECT_EQ(pieces, (std::vector<std::string>{"a", "", "", "\u4e16", "", "", "", "\U0001f600"}));
  EXPECT_EQ(decoder.Finish(), "");
}

TEST(StreamDecoderTest, StartsAfreshAfterFinish) {
  const auto tokenizer = GoldenTokenizer("llama2");
  const std::vector<int32_t> ids = tokenizer->Encode("the thing");
  StreamDecoder decoder(tokenizer);
  for (int round = 0; round < 2; ++round) {
    std::string text;
    for (int32_t id : ids) text += decoder.Push(id);
    EXPECT_EQ(text + decoder.Finish(), "the thing");
  }
  StreamDecoder moved = std::move(decoder);
  EXPECT_EQ(moved.Push(ids[1]) + moved.Finish(), tokenizer->Decode({ids[1]}));
}

// Text comes as early as it is certain: with each token when there are only whole characters.
TEST(StreamDecoderTest, DoesNotDelay) {
  for (const char* name : {"neox", "llama3", "llama2", "mistral3", "metaspace_always"}) {
    const auto tokenizer = GoldenTokenizer(name);
    StreamDecoder decoder(tokenizer);
    for (int32_t id : tokenizer->Encode("the thing is there", false)) {
      if (tokenizer->IdToToken(id) == "\u2581") continue;  // a leading space may vanish
      EXPECT_NE(decoder.Push(id), "") << name << " " << tokenizer->IdToToken(id);
    }
  }
}

TEST(TokenizerTest, RoundTrips) {
  for (const char* name : {"llama3", "gpt4o", "split_next", "falcon"}) {
    const auto tokenizer = GoldenTokenizer(name);
    std::mt19937 rng(5);
    for (int round = 0; round < 300; ++round) {
      const std::string text = RandomText(&rng);
      EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text)), text) << name;
    }
  }
}

TEST(TokenizerTest, InvalidUtf8IsRepairedFirst) {
  const auto tokenizer = GoldenTokenizer("llama3");
  const std::pair<std::string, std::string> cases[] = {
      {"a\xff"
       "b",
       "a\ufffd"
       "b"},
      {"\xe4\xb8", "\ufffd"},
      {"\xe4\xb8"
       "a",
       "\ufffd"
       "a"},
      {"\xed\xa0\x80", "\ufffd\ufffd\ufffd"},
      {"\xf0\x9f\x98", "\ufffd"},
      {"\xf5\x80", "\ufffd\ufffd"},
      {"\xc0\xaf", "\ufffd\ufffd"},
      {"\xf4\x90\x80\x80", "\ufffd\ufffd\ufffd\ufffd"}};
  for (const auto& [bytes, text] : cases) {
    EXPECT_EQ(tokenizer->Encode(bytes), tokenizer->Encode(text)) << text;
  }
}

TEST(TokenizerTest, LooksUpTokens) {
  const auto tokenizer = GoldenTokenizer("llama3");
  const auto begin = tokenizer->TokenToId("<|begin_of_text|>");
  ASSERT_TRUE(begin.has_value());
  EXPECT_EQ(tokenizer->IdToToken(*begin), "<|begin_of_text|>");
  EXPECT_TRUE(tokenizer->IsSpecial(*begin));
  EXPECT_FALSE(tokenizer->IsSpecial(0));
  EXPECT_EQ(tokenizer->vocab_size(), *tokenizer->TokenToId("<|eot_id|>") + 1);
  EXPECT_EQ(tokenizer->TokenToId("no such token"), std::nullopt);
  for (int32_t id : {-1, tokenizer->vocab_size(), INT32_MAX, INT32_MIN}) {
    EXPECT_EQ(tokenizer->IdToToken(id), "");
    EXPECT_FALSE(tokenizer->IsSpecial(id));
    EXPECT_EQ(tokenizer->Decode({id}), "");
  }
}

TEST(TokenizerTest, SameVocabularyComparesEveryToken) {
  const auto llama3 = GoldenTokenizer("llama3");
  EXPECT_TRUE(llama3->SameVocabulary(*GoldenTokenizer("llama3")));
  EXPECT_FALSE(llama3->SameVocabulary(*GoldenTokenizer("gpt4o")));
  EXPECT_TRUE(GoldenTokenizer("gpt2")->SameVocabulary(*GoldenTokenizer("gpt4o")));
}

TEST(TokenizerTest, LoadsFilesAndFolders) {
  const testing::TempFolder folder;
  const std::string path = folder / "tokenizer.json";
  EXPECT_THAT(Tokenizer::Load(path).status(),
              StatusIs(absl::StatusCode::kNotFound, ::testing::HasSubstr(path)));
  EXPECT_THAT(Tokenizer::Load(folder.path()).status(),
              StatusIs(absl::StatusCode::kNotFound, ::testing::HasSubstr(path)));
  folder.Write("tokenizer.json", TokenizerGoldens()["kinds"][0]["tokenizer"].dump());
  EXPECT_THAT(Tokenizer::Load(path), testing::IsOk());
  EXPECT_THAT(Tokenizer::Load(folder.path()), testing::IsOk());
}

TEST(TokenizerTest, ManyThreadsGetTheSameIds) {
  for (const char* name : {"neox", "llama3", "llama2", "falcon"}) {
    const auto tokenizer = GoldenTokenizer(name);
    std::vector<std::string> texts;
    std::vector<std::vector<int32_t>> want;
    for (const Json& text : TokenizerGoldens()["texts"]) {
      texts.push_back(text);
      want.push_back(tokenizer->Encode(texts.back()));
    }
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (size_t i = 0; i < texts.size(); ++i) {
          if (tokenizer->Encode(texts[i]) != want[i]) ++wrong;
          if (tokenizer->Decode(want[i]) != Streamed(tokenizer, want[i], true)) ++wrong;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(wrong, 0) << name;
  }
}

// Without a pre-tokenizer a whole prompt is one word. Quadratic merging would take minutes here.
TEST(TokenizerTest, MegabyteWords) {
  const auto llama2 = GoldenTokenizer("llama2");
  std::string text;
  while (text.size() < (1u << 20)) text += "the quick thing there ";
  EXPECT_EQ(llama2->Decode(llama2->Encode(text)), text);
  // Merges everywhere, so that the word cannot be cut.
  const auto powers = Tokenizer::Parse(
      R"({"model": {"vocab": {"a": 0, "aa": 1, "aaaa": 2}, "merges": ["a a", "aa aa"]}})",
      "powers");
  ASSERT_THAT(powers, testing::IsOk());
  std::vector<int32_t> want(1 << 18, 2);
  want.push_back(1);
  want.push_back(0);
  EXPECT_EQ((*powers)->Encode(std::string((1 << 20) + 3, 'a')), want);
}

// Long words are cut where no merge can apply. Pieces of one word, each short enough to be encoded
// whole, show whether the cuts change anything.
TEST(TokenizerTest, CuttingLongWordsChangesNothing) {
  const auto tokenizer = Tokenizer::Parse(
      R"({"model": {"unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
          "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "bc": 4, "abc": 5, "<unk>": 6, "<0x21>": 7,
                    "ca": 8, "a<unk>": 9},
          "merges": ["b c", "a b", "c a", "ab c", "a <unk>"]}})",
      "t.json");
  ASSERT_THAT(tokenizer, testing::IsOk());
  std::mt19937 rng(3);
  for (int round = 0; round < 2000; ++round) {
    std::string word;
    for (int i = 0; i < 100; ++i) word += "aabbccx!"[std::uniform_int_distribution<>(0, 7)(rng)];
    // "cb" is no joint and "cc" neither: what stands on both sides is independent.
    std::vector<int32_t> want = (*tokenizer)->Encode(word + "c");
    const std::vector<int32_t> rest = (*tokenizer)->Encode("b" + word);
    want.insert(want.end(), rest.begin(), rest.end());
    EXPECT_EQ((*tokenizer)->Encode(word + "cb" + word), want) << word;
  }
}

}  // namespace
}  // namespace sidewinder
