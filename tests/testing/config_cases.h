// What the tests of config.json share. The file that messages must name is dir/config.json.
#ifndef SIDEWINDER_TESTS_TESTING_CONFIG_CASES_H_
#define SIDEWINDER_TESTS_TESTING_CONFIG_CASES_H_

#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/config/model_config.h"
#include "runtime/json.h"
#include "runtime/status_macros.h"
#include "tests/testing/status_matchers.h"

namespace sidewinder::testing {

inline absl::StatusOr<ModelConfig> Parse(const std::string& text) {
  SW_ASSIGN_OR_RETURN(const Json json, ParseJson(text, "dir/config.json"));
  return ParseConfig(json, "dir/config.json");
}

// `base` with the members of `changes` in place of its own.
inline absl::StatusOr<ModelConfig> ParseWith(const char* base, const std::string& changes) {
  Json json = Json::parse(base);
  const absl::StatusOr<Json> patch = ParseJson(changes, "changes");
  EXPECT_THAT(patch, IsOk()) << changes;
  for (const auto& [key, value] : patch->items()) json[key] = value;
  return ParseConfig(json, "dir/config.json");
}

// Written and read again, as text and as JSON, `config` is what it was.
inline void ExpectRoundTrip(const ModelConfig& config, const std::string& what) {
  const std::string text = ToJson(config).dump();
  SW_ASSERT_OK_AND_ASSIGN(const ModelConfig again, Parse(text));
  EXPECT_EQ(*ParseConfig(ToJson(config), "unwritten"), config) << what;
  EXPECT_EQ(again, config) << what << "\n" << text << "\n" << ToJson(again).dump();
}

inline constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
inline constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;

struct WrongConfig {
  const char* name;
  const char* base;
  const char* changes;
  absl::StatusCode code;
  const char* message;  // a part of it
};

inline void PrintTo(const WrongConfig& wrong, std::ostream* out) { *out << wrong.name; }

inline std::string NameOfWrong(const ::testing::TestParamInfo<WrongConfig>& info) {
  return info.param.name;
}

inline void ExpectRefused(const WrongConfig& wrong) {
  using ::testing::HasSubstr;
  EXPECT_THAT(ParseWith(wrong.base, wrong.changes),
              StatusIs(wrong.code,
                       ::testing::AllOf(HasSubstr("dir/config.json"), HasSubstr(wrong.message))));
}

}  // namespace sidewinder::testing

#endif  // SIDEWINDER_TESTS_TESTING_CONFIG_CASES_H_
