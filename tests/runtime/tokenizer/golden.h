// The cases of tests/goldens/tokenizer, made by tools/goldens/make_tokenizer_goldens.py.
#ifndef SIDEWINDER_TESTS_RUNTIME_TOKENIZER_GOLDEN_H_
#define SIDEWINDER_TESTS_RUNTIME_TOKENIZER_GOLDEN_H_

#include <cstdint>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/json.h"
#include "runtime/tokenizer/unicode.h"
#include "sidewinder/tokenizer.h"
#include "tests/testing/source_dir.h"
#include "tests/testing/status_matchers.h"

namespace sidewinder::testing {

inline const Json& TokenizerGoldens() {
  static const Json goldens = [] {
    const std::string path = SourceDir() + "/tests/goldens/tokenizer/cases.json";
    std::ifstream file(path, std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    auto parsed = ParseJson(text.str(), path);
    EXPECT_THAT(parsed, IsOk());
    return parsed.ok() ? *std::move(parsed) : Json();
  }();
  return goldens;
}

inline std::shared_ptr<const Tokenizer> ParseGolden(const Json& kind) {
  auto tokenizer = Tokenizer::Parse(kind["tokenizer"].dump(), "golden.json");
  EXPECT_THAT(tokenizer, IsOk());
  return tokenizer.ok() ? *tokenizer : nullptr;
}

inline std::shared_ptr<const Tokenizer> GoldenTokenizer(const std::string& name) {
  for (const Json& kind : TokenizerGoldens()["kinds"]) {
    if (kind["name"] == name) return ParseGolden(kind);
  }
  ADD_FAILURE() << "no golden tokenizer " << name;
  return nullptr;
}

// The concatenated pieces; checks that each piece is whole characters.
inline std::string Streamed(const std::shared_ptr<const Tokenizer>& tokenizer,
                            const std::vector<int32_t>& ids, bool skip_special_tokens) {
  StreamDecoder decoder(tokenizer, skip_special_tokens);
  std::string text;
  for (int32_t id : ids) {
    const std::string piece = decoder.Push(id);
    EXPECT_TRUE(tok::IsValidUtf8(piece)) << piece;
    text += piece;
  }
  const std::string rest = decoder.Finish();
  EXPECT_TRUE(tok::IsValidUtf8(rest)) << rest;
  EXPECT_EQ(decoder.Finish(), "");
  return text + rest;
}

}  // namespace sidewinder::testing

#endif  // SIDEWINDER_TESTS_RUNTIME_TOKENIZER_GOLDEN_H_
