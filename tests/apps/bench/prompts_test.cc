#include "apps/sidewinder/bench/prompts.h"

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sidewinder::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class PromptsTest : public ::testing::Test {
 protected:
  ~PromptsTest() override { std::remove(path_.c_str()); }
  absl::StatusOr<std::vector<BenchPrompt>> Read(const std::string& text,
                                                const PromptFilter& filter = {}) {
    std::ofstream(path_) << text;
    return ReadPrompts({path_}, filter, /*vocab_size=*/100);
  }
  void ExpectError(const std::string& text, const std::string& message) {
    const auto prompts = Read(text);
    ASSERT_FALSE(prompts.ok()) << text;
    EXPECT_EQ(prompts.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(prompts.status().message()), HasSubstr(message));
  }
  const std::string path_ = ::testing::TempDir() + "some_prompts.jsonl";
};

TEST_F(PromptsTest, ReadsTheCommonForms) {
  const auto prompts =
      Read(R"({"question_id": 81, "category": "writing", "turns": ["Write.", "Rewrite."]})"
           "\n\n"
           R"({"task_id": "HumanEval/0", "prompt": "def f():\n", "canonical_solution": "pass"})"
           "\r\n"
           R"({"question": "1 + 1?", "answer": "#### 2"})"
           "\n"
           R"({"text": "Once", "class": "story", "category": null})"
           "\n"
           R"({"prompt_ids": [1, 99], "prompt": "not this"})");
  ASSERT_TRUE(prompts.ok()) << prompts.status();
  ASSERT_EQ(prompts->size(), 5u);
  const BenchPrompt& chat = (*prompts)[0];
  EXPECT_THAT(chat.turns, ElementsAre("Write.", "Rewrite."));
  EXPECT_EQ(chat.category, "writing");
  EXPECT_EQ(chat.num_turns(), 2u);
  EXPECT_THAT(chat.where, HasSubstr("some_prompts.jsonl: line 1"));
  EXPECT_THAT((*prompts)[1].turns, ElementsAre("def f():\n"));
  EXPECT_EQ((*prompts)[1].category, "some_prompts");
  EXPECT_TRUE((*prompts)[1].is_chat);
  EXPECT_THAT((*prompts)[2].turns, ElementsAre("1 + 1?"));
  EXPECT_FALSE((*prompts)[3].is_chat);
  EXPECT_EQ((*prompts)[3].category, "story");
  EXPECT_THAT((*prompts)[4].ids, ElementsAre(1, 99));
  EXPECT_EQ((*prompts)[4].num_turns(), 1u);
  EXPECT_THAT((*prompts)[4].where, HasSubstr("line 6"));
}

TEST_F(PromptsTest, Filters) {
  std::string text;
  for (const char* category : {"a", "a", "b", "a", "b", "c"}) {
    text += std::string(R"({"prompt": "p", "category": ")") + category + "\"}\n";
  }
  const auto count = [&](const PromptFilter& filter) { return Read(text, filter)->size(); };
  EXPECT_EQ(count({}), 6u);
  EXPECT_EQ(count({.limit = 4}), 4u);
  EXPECT_EQ(count({.limit_per_category = 1}), 3u);
  EXPECT_EQ(count({.categories = {"b", "c"}}), 3u);
  EXPECT_EQ(count({.limit = 1, .categories = {"c"}}), 1u);
  EXPECT_EQ(count({.limit = 2, .limit_per_category = 2, .categories = {"a"}}), 2u);
  const auto none = Read(text, {.categories = {"d"}});
  EXPECT_THAT(std::string(none.status().message()), HasSubstr("'d'; there are a, b, c"));
}

TEST_F(PromptsTest, ErrorsNameFileLineFieldAndValue) {
  ExpectError("", "some_prompts.jsonl: holds no prompts");
  ExpectError("{\"prompt\": \"a\"}\n{", "some_prompts.jsonl: line 2");
  ExpectError("[1]", "line 1: is [1]; legal is a JSON object");
  ExpectError(R"({"words": "a"})", "line 1: has no prompt; one of \"turns\", \"prompt\"");
  ExpectError(R"({"prompt": 3})", "line 1: \"prompt\" is 3; legal is a text");
  ExpectError(R"({"turns": []})", "\"turns\" is []; legal is a list of texts");
  ExpectError(R"({"turns": ["a", 1]})", "\"turns\" is [\"a\",1]; legal");
  ExpectError(R"({"prompt_ids": [100]})",
              "\"prompt_ids\" is [100]; legal is a list of integers "
              "from 0 to 99");
  ExpectError(R"({"prompt_ids": []})", "\"prompt_ids\" is []");
  ExpectError(R"({"prompt_ids": [1.5]})", "\"prompt_ids\" is [1.5]");
  ExpectError(R"({"prompt": "a", "category": 1})", "\"category\" is 1; legal is a text");
}

TEST(PadByRepetitionTest, RepeatsInFront) {
  EXPECT_THAT(PadByRepetition({1, 2, 3}, 0, -1), ElementsAre(1, 2, 3));
  EXPECT_THAT(PadByRepetition({1, 2, 3}, 3, -1), ElementsAre(1, 2, 3));
  EXPECT_THAT(PadByRepetition({1, 2, 3}, 7, -1), ElementsAre(3, 1, 2, 3, 1, 2, 3));
  EXPECT_THAT(PadByRepetition({0, 2, 3}, 8, 0), ElementsAre(0, 3, 2, 3, 2, 3, 2, 3));
  EXPECT_THAT(PadByRepetition({0}, 3, 0), ElementsAre(0, 0, 0));
}

}  // namespace
}  // namespace sidewinder::cli
