// Two modes by the first byte of the input. 'F': the rest is a tokenizer.json; whatever loads must
// encode and decode a fixed text. Otherwise the byte picks a fixed tokenizer and the rest is a
// text: ids must be in range, and Decode, StreamDecoder and a second Encode must agree.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/status_macros.h"
#include "sidewinder/tokenizer.h"

namespace sidewinder {
namespace {

using TokenizerPtr = std::shared_ptr<const Tokenizer>;

std::string Streamed(const TokenizerPtr& tokenizer, const std::vector<int32_t>& ids, bool skip) {
  StreamDecoder decoder(tokenizer, skip);
  std::string text;
  for (int32_t id : ids) text += decoder.Push(id);
  return text + decoder.Finish();
}

void CheckDecode(const TokenizerPtr& tokenizer, const std::vector<int32_t>& ids) {
  for (bool skip : {true, false}) {
    SW_CHECK(tokenizer->Decode(ids, skip) == Streamed(tokenizer, ids, skip)) << "text differs";
  }
}

void FuzzFile(absl::string_view json) {
  const auto tokenizer = Tokenizer::Parse(json, "fuzz.json");
  if (!tokenizer.ok()) {
    SW_CHECK(absl::StrContains(tokenizer.status().message(), "fuzz.json")) << tokenizer.status();
    return;
  }
  const std::vector<int32_t> ids =
      (*tokenizer)
          ->Encode("the  quick\tth\xC3\xA9<s> \xE4\xB8\x96\n12 \xF0\x9F\x98\x80'll aab<unk>");
  CheckDecode(*tokenizer, ids);
}

// A small vocabulary of bytes and a few merges; `rest` are the other members of the file.
TokenizerPtr MakeTokenizer(bool byte_fallback, absl::string_view rest) {
  std::string vocab = R"("t": 300, "h": 301, "e": 302, "th": 303, "the": 304, "\u2581": 305, )"
                      R"("\u2581the": 306, "<unk>": 307, "\u0120": 308, "\u0120the": 309)";
  for (int byte = 0; byte < 256; ++byte) {
    absl::StrAppendFormat(&vocab, ", \"<0x%02X>\": %d", byte, byte);
  }
  const auto tokenizer = Tokenizer::Parse(
      absl::StrCat(R"({"model": {"byte_fallback": )", byte_fallback ? "true" : "false",
                   R"(, "unk_token": "<unk>", "fuse_unk": true, "vocab": {)", vocab,
                   R"(}, "merges": ["t h", "th e", "\u2581 the", "\u0120 the"]}, )", rest, "}"),
      "fixed.json");
  SW_CHECK(tokenizer.ok()) << tokenizer.status();
  return *tokenizer;
}

const std::vector<TokenizerPtr>& FixedTokenizers() {
  static const auto* const tokenizers = new std::vector<TokenizerPtr>{
      MakeTokenizer(true, R"("normalizer": {"type": "Sequence", "normalizers": [
          {"type": "Prepend", "prepend": "\u2581"},
          {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
        "decoder": {"type": "Sequence", "decoders": [
          {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
          {"type": "ByteFallback"}, {"type": "Fuse"},
          {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})"),
      MakeTokenizer(false, R"("normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
        "decoder": {"type": "ByteLevel"}, "added_tokens": [
          {"id": 310, "content": "<s>", "special": true, "lstrip": true, "rstrip": true},
          {"id": 311, "content": "  ", "normalized": true},
          {"id": 312, "content": "word", "single_word": true}])"),
      MakeTokenizer(true, R"("pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581",
          "prepend_scheme": "first"},
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"},
          {"type": "Metaspace", "replacement": "\u2581"}, {"type": "Fuse"},
          {"type": "Replace", "pattern": {"String": "the"}, "content": "a"},
          {"type": "Strip", "content": "a", "start": 1, "stop": 2}]})")};
  return *tokenizers;
}

void FuzzText(uint8_t selector, absl::string_view text) {
  const TokenizerPtr& tokenizer = FixedTokenizers()[selector % FixedTokenizers().size()];
  const std::vector<int32_t> ids = tokenizer->Encode(text);
  SW_CHECK(ids == tokenizer->Encode(text)) << "not deterministic";
  for (int32_t id : ids) SW_CHECK(id >= 0 && id < tokenizer->vocab_size()) << id;
  CheckDecode(tokenizer, ids);
  // The bytes themselves as ids: every way to break UTF-8.
  std::vector<int32_t> bytes;
  for (char byte : text) bytes.push_back(static_cast<uint8_t>(byte));
  CheckDecode(tokenizer, bytes);
}

}  // namespace
}  // namespace sidewinder

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const absl::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] == 'F') {
    sidewinder::FuzzFile(rest);
  } else {
    sidewinder::FuzzText(data[0], rest);
  }
  return 0;
}
