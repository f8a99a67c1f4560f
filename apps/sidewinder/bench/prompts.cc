#include "apps/sidewinder/bench/prompts.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
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

// Fields that hold a prompt, in the order in which they are looked for.
constexpr char kIds[]{"prompt_ids"};
constexpr char kTurns[]{"turns"};
constexpr char kText[]{"text"};
constexpr const char* kCategoryFields[]{"category", "class"};

// Stands between a text, its continuation and what comes next where no chat template says more.
constexpr char kPlainSeparator[]{"\n\n"};

absl::Status BadField(const std::string& where, const char* field, const Json& value,
                      const std::string& legal) {
  return absl::InvalidArgumentError(
      absl::StrCat(where, ": \"", field, "\" is ", ShortDump(value), "; legal is ", legal));
}

absl::Status ReadIds(const Json& ids, int64_t vocab_size, BenchPrompt& prompt) {
  const std::string legal = absl::StrCat("a list of integers from 0 to ", vocab_size - 1);
  if (!ids.is_array() || ids.empty()) return BadField(prompt.where, kIds, ids, legal);
  for (const Json& id : ids) {
    const int64_t value = id.is_number_integer() ? id.get<int64_t>() : -1;
    if (value < 0 || value >= vocab_size) return BadField(prompt.where, kIds, ids, legal);
    prompt.ids.push_back(static_cast<int32_t>(value));
  }
  return absl::OkStatus();
}

absl::Status ReadTurns(const Json& turns, BenchPrompt& prompt) {
  const bool is_list = turns.is_array() && !turns.empty();
  if (!is_list || !absl::c_all_of(turns, [](const Json& turn) { return turn.is_string(); })) {
    return BadField(prompt.where, kTurns, turns, "a list of texts, at least one");
  }
  prompt.turns = turns.get<std::vector<std::string>>();
  return absl::OkStatus();
}

absl::Status ReadText(const Json& line, const char* field, BenchPrompt& prompt) {
  const Json& text = line.at(field);
  if (!text.is_string()) return BadField(prompt.where, field, text, "a text");
  prompt.turns = {text.get<std::string>()};
  prompt.is_chat = field != absl::string_view(kText);
  return absl::OkStatus();
}

absl::Status ReadPromptFields(const Json& line, int64_t vocab_size, BenchPrompt& prompt) {
  if (line.contains(kIds)) return ReadIds(line.at(kIds), vocab_size, prompt);
  if (line.contains(kTurns)) return ReadTurns(line.at(kTurns), prompt);
  for (const char* field : {"prompt", "question", kText}) {
    if (line.contains(field)) return ReadText(line, field, prompt);
  }
  return absl::InvalidArgumentError(
      absl::StrCat(prompt.where,
                   ": has no prompt; one of \"turns\", \"prompt\", \"question\", \"text\" and "
                   "\"prompt_ids\" is needed"));
}

absl::StatusOr<BenchPrompt> ParsePrompt(const std::string& text, const std::string& where,
                                        const std::string& category, int64_t vocab_size) {
  SW_ASSIGN_OR_RETURN(const Json line, ParseJson(text, where));
  if (!line.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": is ", ShortDump(line), "; legal is a JSON object"));
  }
  BenchPrompt prompt{.where = where, .category = category};
  for (const char* field : kCategoryFields) {
    const auto given = line.find(field);
    if (given == line.end() || given->is_null()) continue;
    if (!given->is_string()) return BadField(where, field, *given, "a text");
    prompt.category = given->get<std::string>();
    break;
  }
  SW_RETURN_IF_ERROR(ReadPromptFields(line, vocab_size, prompt));
  return prompt;
}

// Collects prompts that a filter lets through.
class Selection {
 public:
  explicit Selection(const PromptFilter& filter) : filter_(filter) {}

  void Offer(BenchPrompt prompt) {
    seen_.insert(prompt.category);
    if (full()) return;
    if (!filter_.categories.empty() &&
        !absl::c_linear_search(filter_.categories, prompt.category)) {
      return;
    }
    int64_t& count = counts_[prompt.category];
    if (filter_.limit_per_category > 0 && count >= filter_.limit_per_category) return;
    ++count;
    prompts_.push_back(std::move(prompt));
  }

  absl::StatusOr<std::vector<BenchPrompt>> Take() && {
    for (const std::string& category : filter_.categories) {
      if (seen_.contains(category)) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("--category: no prompt is of category '", category, "'; there are ",
                       seen_.empty() ? "none" : absl::StrJoin(seen_, ", ")));
    }
    return std::move(prompts_);
  }

 private:
  bool full() const {
    return filter_.limit > 0 && static_cast<int64_t>(prompts_.size()) >= filter_.limit;
  }

  const PromptFilter& filter_;
  std::vector<BenchPrompt> prompts_;
  std::map<std::string, int64_t> counts_;
  std::set<std::string> seen_;
};

absl::Status ReadFile(const std::string& path, int64_t vocab_size, Selection& selection) {
  SW_ASSIGN_OR_RETURN(Input input, Input::Open(path));
  const std::string category = path == "-" ? "" : std::filesystem::path(path).stem().string();
  int64_t found = 0;
  SW_RETURN_IF_ERROR(
      ForEachLine(input, [&](int64_t number, const std::string& line) -> absl::Status {
        if (line.find_first_not_of(" \t\r") == std::string::npos) return absl::OkStatus();
        const std::string where = absl::StrCat(input.name(), ": line ", number);
        SW_ASSIGN_OR_RETURN(BenchPrompt prompt, ParsePrompt(line, where, category, vocab_size));
        selection.Offer(std::move(prompt));
        ++found;
        return absl::OkStatus();
      }));
  if (found == 0) return absl::InvalidArgumentError(input.name() + ": holds no prompts");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<BenchPrompt>> ReadPrompts(const std::vector<std::string>& paths,
                                                     const PromptFilter& filter,
                                                     int64_t vocab_size) {
  Selection selection(filter);
  for (const std::string& path : paths) {
    SW_RETURN_IF_ERROR(ReadFile(path, vocab_size, selection));
  }
  return std::move(selection).Take();
}

std::vector<BenchPrompt> BuiltInPrompts(const Model& model, int64_t limit) {
  std::vector<BenchPrompt> prompts;
  if (model.tokenizer() != nullptr) {
    for (const char* text : kBuiltInTexts) {
      prompts.push_back({.where = "built in", .is_chat = false, .turns = {text}});
    }
  } else {
    for (int64_t i = 0; i < kIdPrompts; ++i) {
      BenchPrompt& prompt = prompts.emplace_back();
      for (int64_t t = 0; t < kIdPromptTokens; ++t) {
        prompt.ids.push_back(static_cast<int32_t>((31 * i + 7 * t + 3) % model.info().vocab_size));
      }
    }
  }
  if (limit > 0) prompts.resize(std::min<int64_t>(limit, static_cast<int64_t>(prompts.size())));
  return prompts;
}

std::vector<BenchPrompt> MadeUpPrompts(const Model& model, int32_t num_tokens, int64_t count) {
  std::vector<BenchPrompt> prompts;
  for (int64_t i = 0; i < count; ++i) {
    prompts.push_back({.ids = MadeUpIds(model, num_tokens, static_cast<uint32_t>(i))});
  }
  return prompts;
}

absl::StatusOr<std::string> PromptEncoder::Text(const BenchPrompt& prompt, size_t turn,
                                                absl::Span<const std::string> answers) const {
  if (chat_template_ == nullptr || !prompt.is_chat) {
    std::string text;
    for (size_t t = 0; t < turn; ++t) {
      absl::StrAppend(&text, prompt.turns[t], answers[t], kPlainSeparator);
    }
    return text + prompt.turns[turn];
  }
  std::vector<ChatMessage> messages;
  for (size_t t = 0; t <= turn; ++t) {
    messages.push_back({"user", prompt.turns[t]});
    if (t < turn) messages.push_back({"assistant", answers[t]});
  }
  return chat_template_->Render(messages);
}

absl::StatusOr<std::vector<int32_t>> PromptEncoder::Encode(
    const BenchPrompt& prompt, size_t turn, absl::Span<const std::string> answers) const {
  if (!prompt.ids.empty()) return prompt.ids;
  const Tokenizer* const tokenizer = model_->tokenizer().get();
  if (tokenizer == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(
        prompt.where, ": ", model_->info().path, " has no tokenizer.json; give \"prompt_ids\""));
  }
  absl::StatusOr<std::string> text = Text(prompt, turn, answers);
  if (!text.ok()) {
    return absl::Status(text.status().code(),
                        absl::StrCat(prompt.where, ": ", text.status().message()));
  }
  // A template writes the special tokens itself.
  const bool templated = chat_template_ != nullptr && prompt.is_chat;
  std::vector<int32_t> ids = tokenizer->Encode(*text, /*add_special_tokens=*/!templated);
  if (ids.empty()) return absl::InvalidArgumentError(prompt.where + ": the prompt is empty");
  return ids;
}

std::vector<int32_t> PadByRepetition(const std::vector<int32_t>& ids, int32_t num_tokens,
                                     int32_t bos_token) {
  const auto missing = num_tokens - static_cast<int64_t>(ids.size());
  if (missing <= 0) return ids;
  const bool has_bos = bos_token >= 0 && ids.front() == bos_token && ids.size() > 1;
  const std::vector<int32_t> body(ids.begin() + (has_bos ? 1 : 0), ids.end());
  std::vector<int32_t> padded(ids.begin(), ids.begin() + (has_bos ? 1 : 0));
  const auto size = static_cast<int64_t>(body.size());
  for (int64_t i = 0; i < missing; ++i) {  // the end of the copies, so that the last one is whole
    padded.push_back(body[(size - missing % size + i) % size]);
  }
  padded.insert(padded.end(), body.begin(), body.end());
  return padded;
}

}  // namespace sidewinder::cli
