#include "runtime/json.h"

#include <cmath>
#include <limits>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace sidewinder {
namespace {

using ::sidewinder::testing::IsOk;
using ::sidewinder::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr double kInf = std::numeric_limits<double>::infinity();

Json Parse(const std::string& text) {
  auto json = ParseJson(text, "test.json");
  EXPECT_THAT(json, IsOk()) << text;
  return json.ok() ? *json : Json();
}

TEST(ParseJsonTest, ReadsBareNonFiniteNumbersAsStrings) {
  EXPECT_EQ(Parse("Infinity"), "Infinity");
  EXPECT_EQ(Parse(" -Infinity "), "-Infinity");
  const Json json = Parse(R"({"a": [0.0, Infinity,-Infinity],"b":NaN, "c": -1})");
  EXPECT_EQ(json["a"], Json({0.0, "Infinity", "-Infinity"}));
  EXPECT_EQ(json["b"], "NaN");
  EXPECT_EQ(json["c"], -1);
}

TEST(ParseJsonTest, LeavesStringsAlone) {
  EXPECT_EQ(Parse(R"({"a": "x NaN \" Infinity \\", "Infinity": NaN})"),
            Json({{"a", "x NaN \" Infinity \\"}, {"Infinity", "NaN"}}));
  EXPECT_EQ(Parse(R"(["\\", Infinity, "-Infinity"])"), Json({"\\", "Infinity", "-Infinity"}));
}

TEST(ParseJsonTest, RefusesWhatIsNotJson) {
  for (const char* text : {"",
                           " ",
                           "{",
                           "[1,]",
                           "{\"a\":}",
                           "{\"a\" 1}",
                           "{a: 1}",
                           "nul",
                           "-",
                           "-Inf",
                           "Infinit",
                           "+1",
                           "01",
                           "1 2",
                           "\"",
                           "\"\\",
                           "\"\\u12",
                           "\"\xff\"",
                           "\"\xc3\"",
                           "[1] x",
                           "'a'",
                           "{\"a\":1}}",
                           "InfinityInfinity",
                           "\x01",
                           "\"\n\"",
                           "// comment\n1"}) {
    EXPECT_THAT(ParseJson(text, "dir/test.json"),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("dir/test.json"), HasSubstr("not valid JSON"))))
        << text;
  }
}

TEST(ParseJsonTest, LimitsDepth) {
  const auto nested = [](int levels) {
    return std::string(levels, '[') + std::string(levels, ']');
  };
  EXPECT_THAT(ParseJson(nested(kMaxJsonDepth), "x"), IsOk());
  EXPECT_THAT(ParseJson(nested(kMaxJsonDepth + 2), "deep.json"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("deep.json"), HasSubstr("64 levels"))));
  EXPECT_FALSE(ParseJson(nested(1'000'000), "x").ok());
  EXPECT_FALSE(ParseJson(std::string(1'000'000, '['), "x").ok());
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  EXPECT_FALSE(ParseJson(objects, "x").ok());
  EXPECT_FALSE(ParseJson(objects, "x", DuplicateKeys::kReject).ok());
}

TEST(ParseJsonTest, DuplicateKeys) {
  const std::string text = R"({"a": {"k": 1, "k": 2}, "b": {"k": 3}})";
  EXPECT_EQ(Parse(text)["a"]["k"], 2);
  EXPECT_THAT(ParseJson(text, "twice.json", DuplicateKeys::kReject),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("twice.json"), HasSubstr("\"k\" occurs twice"))));
  EXPECT_FALSE(ParseJson(R"({"a":1,"\u0061":2})", "x", DuplicateKeys::kReject).ok());
  EXPECT_THAT(
      ParseJson(R"([{"k":1},{"k":{"k":1}},{"j":[{"k":1},{"k":2}]}])", "x", DuplicateKeys::kReject),
      IsOk());
}

TEST(JsonToFloatTest, AcceptsNumbersAndSpellings) {
  EXPECT_EQ(*JsonToFloat(Parse("2"), "x"), 2.0);
  EXPECT_EQ(*JsonToFloat(Parse("-2.5e1"), "x"), -25.0);
  EXPECT_EQ(*JsonToFloat(Parse("Infinity"), "x"), kInf);
  EXPECT_EQ(*JsonToFloat(Parse("\"-Infinity\""), "x"), -kInf);
  EXPECT_EQ(*JsonToFloat(Parse(R"({"__float__": "Infinity"})"), "x"), kInf);
  EXPECT_TRUE(std::isnan(*JsonToFloat(Parse("NaN"), "x")));
  for (const char* text : {"true", "null", "[]", "\"1\"", "{}", R"({"__float__": "1.0"})",
                           R"({"__float__": {"__float__": "NaN"}})"}) {
    EXPECT_THAT(JsonToFloat(Parse(text), "file: \"f\""),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("file: \"f\"")))
        << text;
  }
}

class JsonReaderTest : public ::testing::Test {
 protected:
  const Json json_ = Parse(R"({"int": 5, "big": 18446744073709551615, "negative": -3,
      "float": 2.5, "whole": 4.0, "true": true, "text": "abc", "null": null, "list": [1],
      "inf": Infinity})");
  const JsonReader reader_{json_, "config.json"};
};

TEST_F(JsonReaderTest, ReadsMembers) {
  EXPECT_EQ(*reader_.Int("int", 0, 5), 5);
  EXPECT_EQ(*reader_.Int("negative", -3, 5), -3);
  EXPECT_EQ(*reader_.Float("int"), 5.0);
  EXPECT_EQ(*reader_.Float("inf"), kInf);
  EXPECT_EQ(*reader_.Bool("true"), true);
  EXPECT_EQ(*reader_.String("text"), "abc");
}

TEST_F(JsonReaderTest, NullAndAbsentAreMissing) {
  for (const char* key : {"null", "absent"}) {
    EXPECT_FALSE(reader_.Has(key));
    EXPECT_EQ(*reader_.Int(key, 0, 9, 7), 7);
    EXPECT_EQ(*reader_.Float(key, 1.5), 1.5);
    EXPECT_EQ(*reader_.Bool(key, true), true);
    EXPECT_EQ(*reader_.String(key, "d"), "d");
    for (const absl::Status& status : {reader_.Int(key, 0, 9).status(), reader_.Float(key).status(),
                                       reader_.Bool(key).status(), reader_.String(key).status()}) {
      EXPECT_THAT(status,
                  StatusIs(absl::StatusCode::kInvalidArgument,
                           AllOf(HasSubstr("config.json"), HasSubstr(key), HasSubstr("missing"))));
    }
  }
}

TEST_F(JsonReaderTest, RefusesWrongTypesAndRanges) {
  for (const char* key : {"big", "negative", "float", "whole", "true", "text", "list", "inf"}) {
    EXPECT_THAT(reader_.Int(key, 0, std::numeric_limits<int64_t>::max()),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("config.json"), HasSubstr(key), HasSubstr("legal are"))))
        << key;
    EXPECT_FALSE(reader_.Int(key, 0, 100, 1).ok()) << key;  // the fallback hides no mistake
  }
  EXPECT_FALSE(reader_.Int("int", 6, 9).ok());
  EXPECT_FALSE(reader_.Int("int", 0, 4).ok());
  EXPECT_THAT(reader_.Float("text"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("text")));
  EXPECT_THAT(reader_.Bool("int"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("int")));
  EXPECT_THAT(reader_.String("list"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("list")));
}

TEST(JsonReaderOfNonObjectTest, FindsNothing) {
  const Json json = Json::array({1, 2});
  EXPECT_FALSE(JsonReader(json, "x").Has("a"));
  EXPECT_FALSE(JsonReader(json, "x").Int("a", 0, 1).ok());
}

TEST(ShortDumpTest, CutsAndKeepsOneLine) {
  EXPECT_EQ(ShortDump(Parse(R"({"a": [1, "x\ny"]})")), R"({"a":[1,"x\ny"]})");
  EXPECT_EQ(ShortDump(Json(std::string(1000, 'x'))).size(), 60u);
}

}  // namespace
}  // namespace sidewinder
