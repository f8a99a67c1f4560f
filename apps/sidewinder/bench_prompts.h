// Prompts that a benchmark runs over.
#ifndef SIDEWINDER_APPS_SIDEWINDER_BENCH_PROMPTS_H_
#define SIDEWINDER_APPS_SIDEWINDER_BENCH_PROMPTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sidewinder/model.h"

namespace sidewinder::cli {

using Prompts = std::vector<std::vector<int32_t>>;  // token ids

// From a file of JSON lines: {"prompt": text}, {"text": text}, {"turns": [text, ...]} (the first
// turn) or {"prompt_ids": [...]}. At most `limit`. InvalidArgument names file and line.
absl::StatusOr<Prompts> ReadPrompts(const std::string& path, const Model& model, int64_t limit);

// The ones at hand: openings of stories and notes, or fixed ids for a model without tokenizer.
Prompts BuiltInPrompts(const Model& model, int64_t limit);

// `count` prompts of `num_tokens` made-up ids, all different, the same in every run.
Prompts MadeUpPrompts(const Model& model, int32_t num_tokens, int64_t count);

}  // namespace sidewinder::cli

#endif  // SIDEWINDER_APPS_SIDEWINDER_BENCH_PROMPTS_H_
