#include "runtime/tokenizer/regex.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace sidewinder::tok {
namespace {

using ::sidewinder::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Matches(const std::string& pattern, const std::string& text) {
  const auto regex = Regex::Compile(pattern, "test.json: pattern");
  EXPECT_THAT(regex, testing::IsOk());
  std::vector<Span> spans;
  if (regex.ok()) regex->FindAll(text, &spans);
  std::vector<std::string> matches;
  for (const Span& span : spans) {
    if (span.is_match) matches.push_back(text.substr(span.begin, span.end - span.begin));
  }
  return matches;
}

TEST(RegexTest, RubySyntax) {
  EXPECT_THAT(Matches("^.", "ab\ncd"), ElementsAre("a", "c"));         // ^ matches at every line
  EXPECT_THAT(Matches("(?m:a.)", "a\nab"), ElementsAre("a\n", "ab"));  // m: the dot matches \n
  EXPECT_THAT(Matches(R"(\h+)", "xyzBEEFg09"), ElementsAre("BEEF", "09"));  // hexadecimal digits
  EXPECT_THAT(Matches("a{,2}b", "aaab"), ElementsAre("aab"));               // at most two
  EXPECT_THAT(Matches("a{1,2}+", "aaaaa"), ElementsAre("aaaaa"));  // repeated, not possessive
  EXPECT_THAT(Matches("(?:ab){2}+", "ababababab"), ElementsAre("abababab"));
  EXPECT_THAT(Matches(R"(\u00e9)", "caf\u00e9"), ElementsAre("\u00e9"));
}

TEST(RegexTest, UnicodeClasses) {
  EXPECT_THAT(Matches(R"(\w+)", "a\u0301_\u203f- \u24b6"), ElementsAre("a\u0301_\u203f", "\u24b6"));
  EXPECT_THAT(Matches(R"(\s+)", "a\u0085\u00a0\u3000b\u180ec\u200bd"),
              ElementsAre("\u0085\u00a0\u3000"));
  EXPECT_THAT(Matches(R"([^\S\n]+)", " \n\u180e\t"), ElementsAre(" ", "\t"));
  EXPECT_THAT(Matches(R"(\p{L}+)", "a\U00031350\u1c89"), ElementsAre("a\U00031350\u1c89"));
  EXPECT_THAT(Matches(R"(\b\w)", "ab cd\u0301e"), ElementsAre("a", "c"));
  EXPECT_THAT(Matches(R"(\p{Han}+)", "\u4e16\u3001\u754c"), ElementsAre("\u4e16", "\u754c"));
  EXPECT_THAT(Matches(R"([[:punct:]])", "a+b\u20ac!"), ElementsAre("+", "\u20ac", "!"));
}

TEST(RegexTest, EmptyMatchesAdvanceByCharacters) {
  const auto regex = Regex::Compile("x*", "test");
  ASSERT_THAT(regex, testing::IsOk());
  std::vector<Span> spans;
  regex->FindAll("\u00e9x\u00e9", &spans);
  std::string shown;
  for (const Span& span : spans) {
    shown += std::to_string(span.begin) + "-" + std::to_string(span.end);
    shown += span.is_match ? "! " : " ";
  }
  EXPECT_EQ(shown, "0-0! 0-2 2-3! 3-5 5-5! ");
}

TEST(RegexTest, ErrorsNameTheField) {
  EXPECT_THAT(Regex::Compile("(a", "t.json: pre_tokenizer").status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("t.json: pre_tokenizer")));
  EXPECT_THAT(Regex::Compile("[a", "n").status(), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Regex::Compile("a\\", "n").status(), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Regex::Compile("[a[bc]]", "n").status(), StatusIs(absl::StatusCode::kUnimplemented));
  EXPECT_THAT(Regex::Compile("[a-z&&[^b]]", "n").status(),
              StatusIs(absl::StatusCode::kUnimplemented));
  EXPECT_THAT(Regex::Compile(std::string(100000, 'a'), "n").status(),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

// Exponential backtracking ends at the limit, and the text is left in one part.
TEST(RegexTest, HostilePatternsEnd) {
  for (const char* pattern : {"(a+)+$", "(a|aa)+$", "(?:a?){40}a{40}b", "(.*)*x", "((a*)*)*b"}) {
    const auto regex = Regex::Compile(pattern, "test");
    ASSERT_THAT(regex, testing::IsOk());
    const std::string text = std::string(40, 'a') + "!";
    std::vector<Span> spans;
    regex->FindAll(text, &spans);
    ASSERT_FALSE(spans.empty()) << pattern;
    EXPECT_EQ(spans.front().begin, 0u);
    EXPECT_EQ(spans.back().end, text.size());
  }
}

// Deep recursion over a long text must not exhaust a stack.
TEST(RegexTest, LongTexts) {
  const std::string text(1 << 20, 'a');
  for (const char* pattern : {"(?:a|b)+", "((a)|b)*", "(?:aa?)+", "a(?:a(?=a|$))*"}) {
    const auto regex = Regex::Compile(pattern, "test");
    ASSERT_THAT(regex, testing::IsOk());
    std::vector<Span> spans;
    regex->FindAll(text, &spans);
    EXPECT_EQ(spans.back().end, text.size()) << pattern;
  }
}

}  // namespace
}  // namespace sidewinder::tok
