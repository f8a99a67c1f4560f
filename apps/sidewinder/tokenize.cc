// `sidewinder tokenize`: text to token ids and back, one JSON object a line.
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "apps/sidewinder/command.h"
#include "apps/sidewinder/input.h"
#include "apps/sidewinder/output.h"
#include "runtime/json.h"
#include "runtime/status_macros.h"
#include "sidewinder/tokenizer.h"

namespace sidewinder::cli {
namespace {

constexpr char kFooter[]{
    "Reads {\"text\": ...} and prints {\"ids\": [...]}, a line each; with --decode the reverse.\n"
    "Lines without anything but spaces are left out.\n\n"
    "  echo '{\"text\": \"Once upon a time\"}' | sidewinder tokenize --model DIR\n"
    "  sidewinder tokenize --model DIR/tokenizer.json --jsonl ids.jsonl --decode"};

struct Flags {
  std::string model;
  std::string jsonl = "-";
  bool no_special_tokens = false;
  bool decode = false;
};

absl::StatusOr<OrderedJson> EncodeLine(const Flags& flags, const Tokenizer& tokenizer,
                                       const Json& line, const std::string& name) {
  const auto text = line.find("text");
  if (text == line.end() || !text->is_string()) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": \"text\" must be a string"));
  }
  return OrderedJson{{"ids", tokenizer.Encode(text->get_ref<const std::string&>(),
                                              /*add_special_tokens=*/!flags.no_special_tokens)}};
}

absl::StatusOr<OrderedJson> DecodeLine(const Flags& flags, const Tokenizer& tokenizer,
                                       const Json& line, const std::string& name) {
  const absl::Status malformed =
      absl::InvalidArgumentError(absl::StrCat(name, ": \"ids\" must be an array of token ids"));
  const auto ids = line.find("ids");
  if (ids == line.end() || !ids->is_array()) return malformed;
  std::vector<int32_t> values;
  for (const Json& id : *ids) {
    if (!id.is_number_integer()) return malformed;
    const auto value = id.get<int64_t>();
    if (value < 0 || value > std::numeric_limits<int32_t>::max()) return malformed;
    values.push_back(static_cast<int32_t>(value));
  }
  return OrderedJson{
      {"text", tokenizer.Decode(values, /*skip_special_tokens=*/flags.no_special_tokens)}};
}

absl::StatusOr<OrderedJson> TokenizeLine(const Flags& flags, const Tokenizer& tokenizer,
                                         const std::string& line, const std::string& name) {
  SW_ASSIGN_OR_RETURN(const Json json, ParseJson(line, name));
  if (!json.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": must be a JSON object"));
  }
  return flags.decode ? DecodeLine(flags, tokenizer, json, name)
                      : EncodeLine(flags, tokenizer, json, name);
}

absl::Status RunTokenize(const Flags& flags) {
  SW_ASSIGN_OR_RETURN(const std::shared_ptr<const Tokenizer> tokenizer,
                      Tokenizer::Load(flags.model));
  SW_ASSIGN_OR_RETURN(Input input, Input::Open(flags.jsonl));
  Output output;
  const absl::Status read = ForEachLine(
      input,
      [&](int64_t number, const std::string& line) -> absl::Status {
        if (line.find_first_not_of(" \t\r") == std::string::npos) return absl::OkStatus();
        const std::string name = absl::StrCat(input.name(), ": line ", number);
        SW_ASSIGN_OR_RETURN(const OrderedJson json, TokenizeLine(flags, *tokenizer, line, name));
        return output.Write(DumpJson(json) + "\n");
      },
      [&] { return output.Flush(); });
  const absl::Status written = output.Flush();  // the lines before a bad one
  return read.ok() ? written : read;
}

}  // namespace

void AddTokenize(CLI::App& app, Run& run) {
  CLI::App* sub = app.add_subcommand("tokenize", "Text to token ids and back, as JSON lines");
  auto flags = std::make_shared<Flags>();
  sub->add_option("--model", flags->model, "Folder of a model, or its tokenizer.json")
      ->required()
      ->type_name("DIR|F");
  sub->add_option("--jsonl", flags->jsonl, "File to read; -: standard input")
      ->capture_default_str()
      ->type_name("F");
  sub->add_flag("--no-special-tokens", flags->no_special_tokens,
                "Add no special tokens; with --decode leave them out of the text");
  sub->add_flag("--decode", flags->decode, "From ids to text");
  sub->footer(kFooter);
  sub->callback([&run, flags] { run = [flags] { return RunTokenize(*flags); }; });
}

}  // namespace sidewinder::cli
