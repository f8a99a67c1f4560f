#include "apps/sidewinder/bench_prompts.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "apps/sidewinder/flags.h"
#include "apps/sidewinder/input.h"
#include "runtime/json.h"
#include "runtime/status_macros.h"

namespace sidewinder::cli {
namespace {

constexpr std::array kBuiltInTexts{
    "Once upon a time there was a little girl who lived at the edge of a dark forest.",
    "The harbour was quiet in the morning, and the boats lay still on the water.",
    "It was late in the evening when the old man heard a knock at the door.",
    "The city was founded in the twelfth century on the banks of the river.",
    "\"I do not believe you,\" said the captain, and he looked out over the sea.",
    "In the beginning of the year the weather was cold, and snow covered the fields.",
    "The first chapter explains how plants use the light of the sun to grow.",
    "She opened the letter slowly, read it twice, and put it back into the drawer.",
};
constexpr int kIdPrompts{8};
constexpr int kIdPromptTokens{16};

// Text of a line, or null if it has none.
const Json* FindText(const Json& line) {
  for (const char* key : {"prompt", "text"}) {
    if (const auto it = line.find(key); it != line.end() && it->is_string()) return &*it;
  }
  const auto turns = line.find("turns");
  if (turns == line.end() || !turns->is_array() || turns->empty()) return nullptr;
  return turns->front().is_string() ? &turns->front() : nullptr;
}

absl::StatusOr<std::vector<int32_t>> ReadIds(const Json& ids, const Model& model,
                                             const std::string& name) {
  std::vector<int32_t> result;
  const int64_t vocab_size = model.info().vocab_size;
  for (const Json& id : ids) {
    const int64_t value = id.is_number_integer() ? id.get<int64_t>() : -1;
    if (value < 0 || value >= vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": \"prompt_ids\" must be integers from 0 to ", vocab_size - 1));
    }
    result.push_back(static_cast<int32_t>(value));
  }
  return result;
}

absl::StatusOr<std::vector<int32_t>> ParsePrompt(const std::string& line, const Model& model,
                                                 const std::string& name) {
  SW_ASSIGN_OR_RETURN(const Json json, ParseJson(line, name));
  if (json.is_object()) {
    if (const auto ids = json.find("prompt_ids"); ids != json.end() && ids->is_array()) {
      return ReadIds(*ids, model, name);
    }
    if (const Json* text = FindText(json); text != nullptr) {
      if (model.tokenizer() == nullptr) {
        return absl::FailedPreconditionError(absl::StrCat(
            name, ": ", model.info().path, " has no tokenizer.json; give \"prompt_ids\""));
      }
      return model.tokenizer()->Encode(text->get_ref<const std::string&>());
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      name, ": must be an object with \"prompt\", \"text\", \"turns\" or \"prompt_ids\""));
}

}  // namespace

absl::StatusOr<Prompts> ReadPrompts(const std::string& path, const Model& model, int64_t limit) {
  SW_ASSIGN_OR_RETURN(Input input, Input::Open(path));
  Prompts prompts;
  SW_RETURN_IF_ERROR(
      ForEachLine(input, [&](int64_t number, const std::string& line) -> absl::Status {
        if (static_cast<int64_t>(prompts.size()) >= limit) return absl::OkStatus();
        if (line.find_first_not_of(" \t\r") == std::string::npos) return absl::OkStatus();
        const std::string name = absl::StrCat(input.name(), ": line ", number);
        SW_ASSIGN_OR_RETURN(std::vector<int32_t> prompt, ParsePrompt(line, model, name));
        if (prompt.empty()) return absl::InvalidArgumentError(name + ": the prompt is empty");
        prompts.push_back(std::move(prompt));
        return absl::OkStatus();
      }));
  if (prompts.empty()) return absl::InvalidArgumentError(input.name() + ": holds no prompts");
  return prompts;
}

Prompts BuiltInPrompts(const Model& model, int64_t limit) {
  Prompts prompts;
  if (model.tokenizer() != nullptr) {
    for (const char* text : kBuiltInTexts) prompts.push_back(model.tokenizer()->Encode(text));
  } else {
    for (int64_t i = 0; i < kIdPrompts; ++i) {
      std::vector<int32_t>& prompt = prompts.emplace_back();
      for (int64_t t = 0; t < kIdPromptTokens; ++t) {
        prompt.push_back(static_cast<int32_t>((31 * i + 7 * t + 3) % model.info().vocab_size));
      }
    }
  }
  prompts.resize(std::min<int64_t>(limit, static_cast<int64_t>(prompts.size())));
  return prompts;
}

Prompts MadeUpPrompts(const Model& model, int32_t num_tokens, int64_t count) {
  Prompts prompts;
  for (int64_t i = 0; i < count; ++i) {
    prompts.push_back(MadeUpIds(model, num_tokens, static_cast<uint32_t>(i)));
  }
  return prompts;
}

}  // namespace sidewinder::cli
