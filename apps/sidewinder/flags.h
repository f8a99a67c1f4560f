// Flags that several subcommands share, and what they stand for.
#ifndef SIDEWINDER_APPS_SIDEWINDER_FLAGS_H_
#define SIDEWINDER_APPS_SIDEWINDER_FLAGS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"
#include "apps/sidewinder/synthetic_acceptance.h"
#include "sidewinder/engine.h"
#include "sidewinder/model.h"

namespace sidewinder::cli {

// --checkpoint-policy, as checked by its flag, and back.
CheckpointPolicy ParseCheckpointPolicy(const std::string& text);
const char* Name(CheckpointPolicy policy);

// Checks of single flags, with errors that name what is legal.
CLI::Validator OneOf(const std::vector<std::string>& choices);
CLI::Validator AtLeast(int64_t min);
CLI::Validator Between(int64_t min, int64_t max);

// --model --device --dtype --kv-dtype --threads
struct ModelFlags {
  std::string model;
  ModelOptions options;
  int32_t threads = 0;  // 0: one per core
};
void AddModelFlags(CLI::App& app, ModelFlags& flags);
absl::StatusOr<std::shared_ptr<const Model>> LoadModel(const ModelFlags& flags);
int NumThreads(const ModelFlags& flags, const Model& model);  // at least 1 on a CPU, 0 on a GPU
std::string MachineText(const ModelInfo& info, int threads);  // "Intel(R) Xeon(R) ..., 8 threads"

// The draft: a folder, "synthetic:<preset>", "ngram" or "none".
absl::StatusOr<DrafterOptions> LoadDrafter(const std::string& draft, const ModelFlags& flags);
// Whether the draft's text is tokenised again for the verifier; the line that says so, or nothing.
bool IsRetokenized(const Model& verifier, const DrafterOptions& drafter);
std::string RetokenizedText(bool is_retokenized);

// --temperature --top-k --top-p --min-p --seed
void AddSamplingFlags(CLI::App& app, SamplingParams& sampling);
void AddSamplingFilterFlags(CLI::App& app, SamplingParams& sampling);  // all but --temperature

// --checkpoint-policy --checkpoint-stride --acceptance --prefill-chunk --profile
// --synthetic-acceptance
struct EngineFlags {
  std::string checkpoint_policy = "every-round";
  std::string acceptance = "rejection";
  int32_t checkpoint_stride = EngineOptions().checkpoint_stride;
  int32_t prefill_chunk = EngineOptions().prefill_chunk;
  std::string profile;
  std::string synthetic_acceptance;

  // Off unless the flag, which was checked, says otherwise.
  SyntheticAcceptance synthetic() const {
    return SyntheticAcceptance::Parse(synthetic_acceptance).value_or(SyntheticAcceptance());
  }
};
void AddEngineFlags(CLI::App& app, EngineFlags& flags);
void AddEngineFlagsBesidePolicy(CLI::App& app, EngineFlags& flags);  // no --checkpoint-policy
// Everything but model, drafter and slots. InvalidArgument: --synthetic-acceptance does not go with
// so many draft tokens.
absl::StatusOr<EngineOptions> MakeEngineOptions(int32_t draft_tokens, const EngineFlags& flags,
                                                const ModelFlags& model);

// A text, as a string, a file, token ids or a number of made-up ids.
struct TextFlags {
  std::optional<std::string> text;
  std::optional<std::string> file;
  std::optional<std::string> ids;
  std::optional<int32_t> made_up;

  int count() const {
    return text.has_value() + file.has_value() + ids.has_value() + made_up.has_value();
  }
};

struct TokenizedText {
  std::vector<int32_t> ids;
  std::optional<int64_t> bytes;  // of the text; nullopt if only ids were given, without a tokenizer
};

// Token ids of the one flag that is given. `file_flag` names the flag of the file in errors.
// `add_special_tokens`: the text begins here, so it may get a BOS token.
absl::StatusOr<TokenizedText> ReadTokens(const TextFlags& flags, const Model& model,
                                         const std::string& file_flag,
                                         bool add_special_tokens = true);

// `count` pseudo-random tokens of the model, the same in every run; `stream` tells prompts apart.
std::vector<int32_t> MadeUpIds(const Model& model, int32_t count, uint32_t stream = 0);
inline constexpr int32_t kMaxMadeUpIds{1 << 20};

// "1,2,3": non-negative integers. A usage error names the flag and the item.
absl::StatusOr<std::vector<int32_t>> ParseIds(const std::string& flag, const std::string& text);

// "3" or "auto".
absl::StatusOr<int32_t> ParseDraftTokens(const std::string& text);

}  // namespace sidewinder::cli

#endif  // SIDEWINDER_APPS_SIDEWINDER_FLAGS_H_
