// Prompts that a benchmark runs over.
#ifndef SIDEWINDER_APPS_SIDEWINDER_BENCH_PROMPTS_H_
#define SIDEWINDER_APPS_SIDEWINDER_BENCH_PROMPTS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "sidewinder/chat_template.h"
#include "sidewinder/model.h"

namespace sidewinder::cli {

struct BenchPrompt {
  std::string where;     // "mt_bench.jsonl: line 3", for error messages
  std::string category;  // may be empty
  bool is_chat = true;   // turns are what a user says; else text to continue as it stands
  std::vector<std::string> turns;
  std::vector<int32_t> ids;  // given instead of turns

  size_t num_turns() const { return ids.empty() ? turns.size() : 1; }
};

struct PromptFilter {
  int64_t limit = 0;                    // the first ones; 0: all
  int64_t limit_per_category = 0;       // likewise
  std::vector<std::string> categories;  // empty: all
};

// From files of JSON lines (-: standard input), one after the other. A line has one of
//   {"turns": [text, ...]}  MT-Bench, Spec-Bench: what the user says, turn by turn
//   {"prompt": text}        HumanEval
//   {"question": text}      GSM8K
//   {"text": text}          to be continued as it stands, without a chat template
//   {"prompt_ids": [...]}   token ids, 0 to vocab_size - 1
// and perhaps a "category" (or "class"); without one it is the name of the file without its ending.
// Other fields are ignored. InvalidArgument names file, line, field and value.
absl::StatusOr<std::vector<BenchPrompt>> ReadPrompts(const std::vector<std::string>& paths,
                                                     const PromptFilter& filter,
                                                     int64_t vocab_size);

// The ones at hand: openings of stories and notes, or fixed ids for a model without tokenizer.
std::vector<BenchPrompt> BuiltInPrompts(const Model& model, int64_t limit);

// `count` prompts of `num_tokens` made-up ids, all different, the same in every run.
std::vector<BenchPrompt> MadeUpPrompts(const Model& model, int32_t num_tokens, int64_t count);

// Writes prompts as a model wants them.
class PromptEncoder {
 public:
  // `chat_template` may be null: turns then follow one another as plain text.
  PromptEncoder(std::shared_ptr<const Model> model,
                std::shared_ptr<const ChatTemplate> chat_template)
      : model_(std::move(model)), chat_template_(std::move(chat_template)) {}

  // Ids of turn `turn`, from 0: the conversation so far, `answers` being the model's to the turns
  // before. Errors name where the prompt is from.
  absl::StatusOr<std::vector<int32_t>> Encode(const BenchPrompt& prompt, size_t turn,
                                              absl::Span<const std::string> answers) const;

 private:
  absl::StatusOr<std::string> Text(const BenchPrompt& prompt, size_t turn,
                                   absl::Span<const std::string> answers) const;

  std::shared_ptr<const Model> model_;
  std::shared_ptr<const ChatTemplate> chat_template_;
};

// The prompt with copies of itself in front, cut in the first one to `num_tokens` in all; a prompt
// that is as long already stays. A BOS token in front stays in front and is not repeated.
std::vector<int32_t> PadByRepetition(const std::vector<int32_t>& ids, int32_t num_tokens,
                                     int32_t bos_token);

}  // namespace sidewinder::cli

#endif  // SIDEWINDER_APPS_SIDEWINDER_BENCH_PROMPTS_H_
