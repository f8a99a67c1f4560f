// Malformed and hostile files: each gets an error that names the file and the field.
#include <functional>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/json.h"
#include "sidewinder/tokenizer.h"
#include "tests/testing/status_matchers.h"

namespace sidewinder {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

constexpr absl::StatusCode kInvalid{absl::StatusCode::kInvalidArgument};
constexpr absl::StatusCode kUnimplemented{absl::StatusCode::kUnimplemented};

Json Valid() {
  return Json::parse(R"({
    "version": "1.0",
    "added_tokens": [{"id": 5, "content": "<s>", "special": true, "normalized": false}],
    "normalizer": null,
    "pre_tokenizer": null,
    "post_processor": null,
    "decoder": null,
    "model": {"type": "BPE", "unk_token": null,
              "vocab": {"a": 0, "b": 1, "ab": 2, "abb": 3, "<unk>": 4},
              "merges": ["a b", ["ab", "b"]]}
  })");
}

struct Case {
  const char* name;
  const char* pointer;  // where in the valid file
  const char* value;    // JSON
  absl::StatusCode code;
  const char* message;
};

void PrintTo(const Case& c, std::ostream* os) { *os << c.name; }

const Case kCases[] = {
    {"ModelMissing", "/model", "null", kInvalid, "\"model\""},
    {"ModelNoObject", "/model", "[]", kInvalid, "\"model\""},
    {"ModelType", "/model/type", "\"Unigram\"", kUnimplemented, "supported: BPE"},
    {"ModelTypeNoString", "/model/type", "3", kInvalid, "model: \"type\""},
    {"VocabMissing", "/model/vocab", "null", kInvalid, "\"vocab\""},
    {"VocabArray", "/model/vocab", "[[\"a\", 0]]", kInvalid, "\"vocab\""},
    {"NegativeId", "/model/vocab/a", "-1", kInvalid, "\"vocab\" gives token \"a\""},
    {"HugeId", "/model/vocab/a", "16777216", kInvalid, "16777215"},
    {"GiganticId", "/model/vocab/a", "18446744073709551615", kInvalid, "\"a\""},
    {"FractionalId", "/model/vocab/a", "1.5", kInvalid, "\"a\""},
    {"TextId", "/model/vocab/a", "\"0\"", kInvalid, "\"a\""},
    {"DuplicateId", "/model/vocab/a", "1", kInvalid, "same id 1"},
    {"MergesMissing", "/model/merges", "null", kInvalid, "\"merges\""},
    {"MergesNoArray", "/model/merges", "{}", kInvalid, "\"merges\""},
    {"MergeNoSpace", "/model/merges/0", "\"ab\"", kInvalid, "\"merges\" [0]"},
    {"MergeTwoSpaces", "/model/merges/0", "\"a b \"", kInvalid, "\"merges\" [0]"},
    {"MergeUnknownPart", "/model/merges/0", "\"a x\"", kInvalid, "\"x\" is not in \"vocab\""},
    {"MergeUnknownResult", "/model/merges/0", "\"b a\"", kInvalid, "\"ba\" is not in \"vocab\""},
    {"MergeOfItself", "/model/merges/0", "\"ab ab\"", kInvalid, "\"abab\""},
    {"MergeEmptyPart", "/model/merges/0", "\" a\"", kInvalid, "\"merges\"[0]"},
    {"MergeOfAddedToken", "/model/merges/0", "\"<s> a\"", kInvalid, "\"<s>\" is not in"},
    {"MergeTriple", "/model/merges/1", "[\"a\", \"b\", \"b\"]", kInvalid, "\"merges\" [1]"},
    {"MergeNumbers", "/model/merges/1", "[0, 1]", kInvalid, "\"merges\" [1]"},
    {"UnkMissing", "/model/unk_token", "\"[UNK]\"", kInvalid, "\"unk_token\""},
    {"FlagNoBool", "/model/byte_fallback", "1", kInvalid, "\"byte_fallback\""},
    {"Dropout", "/model/dropout", "0.1", kUnimplemented, "\"dropout\""},
    {"Prefix", "/model/continuing_subword_prefix", "\"##\"", kUnimplemented,
     "\"continuing_subword_prefix\""},
    {"Suffix", "/model/end_of_word_suffix", "\"</w>\"", kUnimplemented, "\"end_of_word_suffix\""},
    {"AddedNoArray", "/added_tokens", "{}", kInvalid, "added_tokens"},
    {"AddedNoObject", "/added_tokens/0", "7", kInvalid, "added_tokens[0]"},
    {"AddedNegativeId", "/added_tokens/0/id", "-1", kInvalid, "added_tokens[0]: \"id\""},
    {"AddedHugeId", "/added_tokens/0/id", "99999999999", kInvalid, "added_tokens[0]: \"id\""},
    {"AddedIdTaken", "/added_tokens/0/id", "0", kInvalid, "same id 0"},
    {"AddedOtherId", "/added_tokens/0/content", "\"ab\"", kInvalid, "\"ab\" has id 5"},
    {"AddedNoContent", "/added_tokens/0/content", "null", kInvalid, "added_tokens[0]: \"content\""},
    {"AddedFlag", "/added_tokens/0/lstrip", "\"yes\"", kInvalid, "added_tokens[0]: \"lstrip\""},
    {"NormalizerNoObject", "/normalizer", "[]", kInvalid, "normalizer is not an object"},
    {"NormalizerNoType", "/normalizer", "{}", kInvalid, "normalizer: \"type\""},
    {"NormalizerUnknown", "/normalizer", R"({"type": "Precompiled"})", kUnimplemented,
     "normalizer: type \"Precompiled\" is not supported; supported: Sequence, NFC"},
    {"NormalizerInSequence", "/normalizer",
     R"({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Magic"}]})", kUnimplemented,
     "normalizer.normalizers[1]: type \"Magic\""},
    {"SequenceNoArray", "/normalizer", R"({"type": "Sequence", "normalizers": 3})", kInvalid,
     "normalizer: \"normalizers\" is not an array"},
    {"PrependNoString", "/normalizer", R"({"type": "Prepend", "prepend": 1})", kInvalid,
     "normalizer: \"prepend\""},
    {"ReplaceNoPattern", "/normalizer", R"({"type": "Replace", "content": "x"})", kInvalid,
     "normalizer: \"pattern\""},
    {"ReplaceBadRegex", "/normalizer",
     R"({"type": "Replace", "pattern": {"Regex": "("}, "content": "x"})", kInvalid,
     "normalizer: \"pattern\": bad regular expression"},
    {"PreTokenizerUnknown", "/pre_tokenizer", R"({"type": "UnicodeScripts"})", kUnimplemented,
     "pre_tokenizer: type \"UnicodeScripts\" is not supported; supported: Sequence, ByteLevel"},
    {"SplitNoBehavior", "/pre_tokenizer", R"({"type": "Split", "pattern": {"String": "a"}})",
     kInvalid, "pre_tokenizer: \"behavior\""},
    {"SplitBehavior", "/pre_tokenizer",
     R"({"type": "Split", "pattern": {"String": "a"}, "behavior": "Eaten"})", kInvalid,
     "legal are Removed, Isolated"},
    {"SplitBadRegex", "/pre_tokenizer",
     R"({"type": "Sequence", "pretokenizers":
         [{"type": "Split", "pattern": {"Regex": "[z-a]"}, "behavior": "Isolated"}]})",
     kInvalid, "pre_tokenizer.pretokenizers[0]: \"pattern\": bad regular expression"},
    {"MetaspaceMark", "/pre_tokenizer", R"({"type": "Metaspace", "replacement": "__"})", kInvalid,
     "pre_tokenizer: \"replacement\" is not one character"},
    {"MetaspaceScheme", "/pre_tokenizer",
     R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "last"})", kInvalid,
     "legal are always, first, never"},
    {"MetaspaceContradiction", "/pre_tokenizer",
     R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "first",
         "add_prefix_space": false})",
     kInvalid, "\"add_prefix_space\""},
    {"DecoderUnknown", "/decoder", R"({"type": "WordPiece"})", kUnimplemented,
     "decoder: type \"WordPiece\" is not supported; supported: Sequence, ByteLevel"},
    {"StripNegative", "/decoder", R"({"type": "Strip", "content": " ", "start": -1, "stop": 0})",
     kInvalid, "decoder: \"start\""},
    {"ProcessorUnknown", "/post_processor", R"({"type": "Magic"})", kUnimplemented,
     "post_processor: type \"Magic\" is not supported; supported: Sequence, ByteLevel"},
    {"TemplateEmpty", "/post_processor", R"({"type": "TemplateProcessing", "single": []})",
     kInvalid, "post_processor: single"},
    {"TemplateUnknownToken", "/post_processor",
     R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<x>", "type_id": 0}},
         {"Sequence": {"id": "A", "type_id": 0}}], "special_tokens": {}})",
     kInvalid, "post_processor: special_tokens has no entry \"<x>\""},
    {"TemplateUnknownId", "/post_processor",
     R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
         {"Sequence": {"id": "A", "type_id": 0}}],
         "special_tokens": {"<s>": {"id": "<s>", "ids": [77], "tokens": ["<s>"]}}})",
     kInvalid, "is 77, which no token has"},
    {"TemplateSecondText", "/post_processor",
     R"({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "B", "type_id": 0}}]})",
     kInvalid, "post_processor: single[0]"},
    {"TemplateNoPart", "/post_processor", R"({"type": "TemplateProcessing", "single": ["A"]})",
     kInvalid, "post_processor: single[0]"},
    {"RobertaNoSep", "/post_processor", R"({"type": "RobertaProcessing", "cls": ["<s>", 5]})",
     kInvalid, "post_processor: sep"},
    {"RobertaUnknownId", "/post_processor",
     R"({"type": "RobertaProcessing", "cls": ["<s>", 50], "sep": ["<s>", 5]})", kInvalid,
     "post_processor: cls is 50"},
};

class MalformedTokenizerTest : public ::testing::TestWithParam<Case> {};

TEST_P(MalformedTokenizerTest, NamesFileAndField) {
  Json json = Valid();
  json[Json::json_pointer(GetParam().pointer)] = Json::parse(GetParam().value);
  EXPECT_THAT(Tokenizer::Parse(json.dump(), "dir/tokenizer.json").status(),
              StatusIs(GetParam().code,
                       AllOf(HasSubstr("dir/tokenizer.json"), HasSubstr(GetParam().message))));
}

INSTANTIATE_TEST_SUITE_P(Cases, MalformedTokenizerTest, ::testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

absl::Status ParseStatus(const Json& json) {
  return Tokenizer::Parse(json.dump(), "t.json").status();
}

TEST(HostileTokenizerTest, ValidFileLoads) {
  const auto tokenizer = Tokenizer::Parse(Valid().dump(), "t.json");
  ASSERT_THAT(tokenizer, IsOk());
  EXPECT_EQ((*tokenizer)->Encode("abbab<s>"), (std::vector<int32_t>{3, 2, 5}));
}

TEST(HostileTokenizerTest, NoJson) {
  for (const char* text :
       {"", "{", "[]", "null", "\"BPE\"", "{\"model\": {\"vocab\": {\"\\ud800\": 0}}}"}) {
    EXPECT_THAT(Tokenizer::Parse(text, "t.json").status(), StatusIs(kInvalid, HasSubstr("t.json")))
        << text;
  }
}

TEST(HostileTokenizerTest, DeepNesting) {
  for (int depth : {30, 1000, 100000}) {
    std::string text = "{\"type\": \"NFC\"}";
    std::string open, close;
    for (int i = 0; i < depth; ++i) {
      open += R"({"type": "Sequence", "normalizers": [)";
      close += "]}";
    }
    const std::string json = absl::StrCat(
        R"({"model": {"vocab": {"a": 0}, "merges": []}, "normalizer": )", open, text, close, "}");
    const absl::Status status = Tokenizer::Parse(json, "t.json").status();
    if (depth < 31) {
      EXPECT_THAT(status, IsOk());
    } else {
      EXPECT_THAT(status, StatusIs(kInvalid, HasSubstr("t.json")));
    }
  }
}

// Each doubling alone is harmless; forty of them turn a byte into a terabyte.
TEST(HostileTokenizerTest, ChainsThatGrowTexts) {
  const char* kChains[][3] = {
      {"normalizer", "normalizers",
       R"({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"})"},
      {"normalizer", "normalizers",
       R"({"type": "Replace", "pattern": {"Regex": "x*"}, "content": "a"})"},
      {"pre_tokenizer", "pretokenizers", R"({"type": "ByteLevel", "add_prefix_space": true})"},
      {"pre_tokenizer", "pretokenizers", R"({"type": "Metaspace", "replacement": "_"})"},
      {"decoder", "decoders",
       R"({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"})"}};
  for (const auto& [key, list, step] : kChains) {
    Json json = Valid();
    json[key] = {{"type", "Sequence"}, {list, std::vector<Json>(40, Json::parse(step))}};
    EXPECT_THAT(ParseStatus(json), StatusIs(kInvalid, HasSubstr(absl::StrCat("t.json: ", key))));
  }
}

TEST(HostileTokenizerTest, GiantStrings) {
  const std::string giant(1 << 20, 'a');
  Json json = Valid();
  json["normalizer"] = {{"type", "Prepend"}, {"prepend", giant}};
  EXPECT_THAT(ParseStatus(json), StatusIs(kInvalid, HasSubstr("normalizer: \"prepend\"")));
  json = Valid();
  json["normalizer"] = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", giant}};
  EXPECT_THAT(ParseStatus(json), StatusIs(kInvalid, HasSubstr("normalizer: \"content\"")));
  json = Valid();
  json["added_tokens"][0]["content"] = giant;
  EXPECT_THAT(ParseStatus(json), StatusIs(kInvalid, HasSubstr("added_tokens[0]: \"content\"")));
  json = Valid();
  json["pre_tokenizer"] = {
      {"type", "Split"}, {"pattern", {{"Regex", giant}}}, {"behavior", "Removed"}};
  EXPECT_THAT(ParseStatus(json), StatusIs(kInvalid, HasSubstr("pre_tokenizer")));
  json = Valid();
  json["model"]["vocab"][giant] = 5;  // also the added token's id; the message stays short
  const absl::Status status = ParseStatus(json);
  EXPECT_THAT(status, StatusIs(kInvalid));
  EXPECT_LT(status.message().size(), 1000u);
}

TEST(HostileTokenizerTest, TooManyComponents) {
  Json json = Valid();
  json["pre_tokenizer"] = {{"type", "Sequence"},
                           {"pretokenizers", std::vector<Json>(1000, {{"type", "Digits"}})}};
  EXPECT_THAT(ParseStatus(json), StatusIs(kInvalid, HasSubstr("components")));
}

// The largest id must not decide how much memory is used.
TEST(HostileTokenizerTest, SparseIds) {
  Json json = Valid();
  json["model"]["vocab"]["b"] = 16777215;
  const auto tokenizer = Tokenizer::Parse(json.dump(), "t.json");
  ASSERT_THAT(tokenizer, IsOk());
  EXPECT_EQ((*tokenizer)->vocab_size(), 16777216);
  EXPECT_EQ((*tokenizer)->IdToToken(16777215), "b");
  EXPECT_EQ((*tokenizer)->Encode("bab"), (std::vector<int32_t>{16777215, 2}));
}

TEST(HostileTokenizerTest, DegenerateVocabularies) {
  const auto empty = Tokenizer::Parse(R"({"model": {"vocab": {}, "merges": []}})", "t.json");
  ASSERT_THAT(empty, IsOk());
  EXPECT_EQ((*empty)->vocab_size(), 0);
  EXPECT_TRUE((*empty)->Encode("text").empty());
  EXPECT_EQ((*empty)->Decode({0, 1}), "");
  Json json = Valid();
  json["model"]["vocab"][""] = 6;
  json["added_tokens"].push_back({{"id", 7}, {"content", ""}});
  json["model"]["merges"] = {"a b", "a b", "ab b"};
  const auto odd = Tokenizer::Parse(json.dump(), "t.json");
  ASSERT_THAT(odd, IsOk());
  EXPECT_EQ((*odd)->Encode("abb"), (std::vector<int32_t>{3}));
}

// Patterns that match empty strings, prefixes on every piece, tokens made of spaces.
TEST(HostileTokenizerTest, OddComponentsEnd) {
  Json json = Valid();
  json["normalizer"] = {{"type", "Replace"}, {"pattern", {{"Regex", "(?=a)|$"}}}, {"content", "b"}};
  json["added_tokens"].push_back(
      {{"id", 8}, {"content", " "}, {"rstrip", true}, {"normalized", false}});
  const auto tokenizer = Tokenizer::Parse(json.dump(), "t.json");
  ASSERT_THAT(tokenizer, IsOk());
  EXPECT_EQ((*tokenizer)->Encode("aa"), (std::vector<int32_t>{1, 2, 2}));  // babab
  EXPECT_EQ((*tokenizer)->Encode(std::string(200000, ' ')).size(), 200000u);
}

}  // namespace
}  // namespace sidewinder
